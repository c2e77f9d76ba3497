"""Hugepages: what is free is used, what is missing is added, and only that is given back.

The pools are plain files; where the kernel would answer otherwise than a file does, a pipe with a
thread at its other end is the kernel.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vfio_kit.apply.hugepages import grow, pages_to_add, pool_size, shrink
from vfio_kit.errors import HostError
from vfio_kit.model import Hugepages


def pool(root: Path, size_kib: int = 2048, **values: int) -> Path:
    folder = root / f"hugepages-{size_kib}kB"
    folder.mkdir(parents=True)
    for name in ("nr", "free", "resv"):
        (folder / f"{name}_hugepages").write_text(f"{values.get(name, 0)}\n")
    return folder


def pages(folder: Path) -> int:
    return int((folder / "nr_hugepages").read_text())


@pytest.mark.parametrize(
    ("free", "reserved", "wanted", "missing"),
    [(0, 0, 10, 10), (4, 0, 10, 6), (10, 0, 10, 0), (99, 0, 10, 0), (10, 3, 10, 3), (5, 5, 1, 1)],
)
def test_only_what_is_free_and_not_reserved_counts(
    tmp_path: Path, free: int, reserved: int, wanted: int, missing: int
) -> None:
    pool(tmp_path, nr=100, free=free, resv=reserved)
    assert pages_to_add(Hugepages(2048, wanted, 1), tmp_path) == missing


def test_sizes_have_pools_of_their_own(tmp_path: Path) -> None:
    pool(tmp_path, 2048, nr=7, free=7)
    pool(tmp_path, 1048576, nr=2, free=1)
    assert pages_to_add(Hugepages(1048576, 2, 1), tmp_path) == 1
    assert (pool_size(2048, tmp_path), pool_size(1048576, tmp_path)) == (7, 2)


def test_a_size_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    pool(tmp_path, 2048)
    with pytest.raises(HostError) as caught:
        pages_to_add(Hugepages(1048576, 1, 1), tmp_path)
    assert caught.value.message == "this kernel has no hugepages of 1048576 KiB"
    assert "pdpe1gb" in caught.value.hint


def test_a_pool_grows_by_what_is_missing(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=100)
    grow(2048, 12, tmp_path, tmp_path)
    assert pages(folder) == 112


@pytest.mark.parametrize(
    ("now", "added", "before", "after"),
    [
        (112, 12, 100, 100),
        # Somebody else added some meanwhile: theirs stay.
        (150, 12, 100, 138),
        # Somebody else took some away: those that were there before stay.
        (105, 12, 100, 100),
        # The pool never grew, or shrank: nothing to give back.
        (100, 12, 100, 100),
        (90, 12, 100, 90),
        (0, 12, 0, 0),
    ],
)
def test_what_was_added_is_given_back_and_no_more(
    tmp_path: Path, now: int, added: int, before: int, after: int
) -> None:
    folder = pool(tmp_path, nr=now)
    shrink(2048, added, at_least=before, root=tmp_path)
    assert pages(folder) == after


def test_growing_and_shrinking_leave_the_pool_as_it_was(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=3, free=1)
    count = pages_to_add(Hugepages(2048, 8, 1), tmp_path)
    grow(2048, count, tmp_path, tmp_path)
    assert pages(folder) == 10
    shrink(2048, count, at_least=3, root=tmp_path)
    assert pages(folder) == 3


@contextmanager
def kernel(file: Path, *answers: int, put_back: bool = False) -> Iterator[list[int]]:
    """A kernel that gives these pool sizes when asked; what is written to it is in the list.

    `grow` asks, then wishes and asks, again and again; giving up, it wishes for what was there.
    """
    file.unlink()
    os.mkfifo(file)
    wishes: list[int] = []

    def serve() -> None:
        file.write_text(f"{answers[0]}\n")
        for answer in answers[1:]:
            wishes.append(int(file.read_text()))
            file.write_text(f"{answer}\n")
        if put_back:
            wishes.append(int(file.read_text()))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield wishes
    thread.join(10)
    assert not thread.is_alive()


def test_a_pool_that_cannot_grow_is_left_as_it_was(tmp_path: Path) -> None:
    folder = pool(tmp_path)
    file = folder / "nr_hugepages"
    with kernel(file, 100, 106, put_back=True) as wishes, pytest.raises(HostError) as caught:
        grow(2048, 12, tmp_path, tmp_path, patience=-1)
    assert wishes == [112, 100]
    assert caught.value.message == "only 6 of 12 missing hugepages of 2M could be made free"
    assert "hugepagesz=2M hugepages=112" in caught.value.hint


def test_memory_is_compacted_before_the_next_try(tmp_path: Path) -> None:
    folder = pool(tmp_path, 1048576)
    vm = tmp_path / "vm"
    vm.mkdir()
    with kernel(folder / "nr_hugepages", 5, 6, 7) as wishes:
        grow(1048576, 2, tmp_path, vm)
    assert wishes == [7, 7]
    assert (vm / "drop_caches").read_text() == "3"
    assert (vm / "compact_memory").read_text() == "1"


def test_a_kernel_that_refuses_is_named(tmp_path: Path) -> None:
    folder = pool(tmp_path)
    vm = tmp_path / "no-such-directory"
    # The kernel gives too few, and then /proc/sys/vm is not there.
    with pytest.raises(HostError) as caught, kernel(folder / "nr_hugepages", 0, 0, put_back=True):
        grow(2048, 1, tmp_path, vm)
    assert caught.value.message == (
        f"cannot write 3 to {vm / 'drop_caches'}: No such file or directory"
    )
