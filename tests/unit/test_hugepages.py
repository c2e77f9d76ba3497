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

from tests.machines import K80
from tests.unit.values import function, host, spec
from vfio_kit.apply.hugepages import (
    HOST_RESERVE_MIB,
    grow,
    pages_to_add,
    pool_size,
    require_memory,
    require_mount,
    shrink,
)
from vfio_kit.errors import HostError
from vfio_kit.model.vm import DomainPlan, Hugepages
from vfio_kit.plan import make_plan


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


def test_caches_are_dropped_once(tmp_path: Path) -> None:
    folder = pool(tmp_path)
    vm = tmp_path / "vm"
    vm.mkdir()
    os.mkfifo(vm / "drop_caches")
    caches = os.open(vm / "drop_caches", os.O_RDWR | os.O_NONBLOCK)
    with kernel(folder / "nr_hugepages", 0, 1, 1, 2):
        grow(2048, 2, tmp_path, vm)
    assert os.read(caches, 100) == b"3"
    os.close(caches)


# Before anything is changed: whether the memory is there, and the mount that libvirt needs.


def domain(memory: int, hugepages: str) -> DomainPlan:
    machine = host(function("01:00.0", K80, 6))
    return make_plan(machine, spec("01:00.0", memory=memory, hugepages=hugepages)).domain


def meminfo(tmp_path: Path, available_kib: int) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(
        f"MemTotal:       65536000 kB\nMemFree:  1 kB\nMemAvailable:  {available_kib} kB\n"
        "HugePages_Total:       0\n"
    )
    return path


def test_a_guest_whose_memory_is_there_may_come(tmp_path: Path) -> None:
    require_memory(domain(1001, "off"), meminfo(tmp_path, (1001 + HOST_RESERVE_MIB) * 1024))


def test_memory_that_is_not_there_is_named_with_all_its_parts(tmp_path: Path) -> None:
    just_less = (1001 + HOST_RESERVE_MIB) * 1024 - 1
    with pytest.raises(HostError) as caught:
        require_memory(domain(1001, "off"), meminfo(tmp_path, just_less))
    assert caught.value.message == (
        "the guest takes 1001 MiB more of memory, 256 MiB stay for the host, "
        "and only 1256 MiB are available"
    )
    assert "--memory" in caught.value.hint


@pytest.mark.parametrize("size", ["2M", "1G"])
def test_hugepages_that_are_free_already_take_no_more_memory(tmp_path: Path, size: str) -> None:
    wanted = domain(16 * 1024 * 1024, size)
    assert wanted.hugepages
    # The pools are this machine's own; how many pages are missing is theirs to say.
    needed = pages_to_add(wanted.hugepages) * wanted.hugepages.size_kib // 1024
    require_memory(wanted, meminfo(tmp_path, (needed + HOST_RESERVE_MIB) * 1024))
    with pytest.raises(HostError) as caught:
        require_memory(wanted, meminfo(tmp_path, (needed + HOST_RESERVE_MIB - 1) * 1024))
    assert f"takes {needed} MiB more of hugepages" in caught.value.message


_MOUNTS = "proc /proc proc rw 0 0\nnone /mnt/huge\\040pages hugetlbfs {options} 0 0\n"


@pytest.mark.parametrize(
    ("size_kib", "options", "there"),
    [
        (2048, "rw,relatime,pagesize=2M", True),
        (2048, "rw,pagesize=2048K,uid=1", True),
        (2048, "rw,pagesize=1024M", False),
        (2048, "rw,pagesize=20M", False),
        (2048, "rw", False),
        (1 << 20, "rw,relatime,pagesize=1024M", True),
        (1 << 20, "rw,pagesize=1G", True),
        (1 << 20, "rw,pagesize=2M", False),
    ],
)
def test_a_mount_of_the_pages_size_is_asked_for(
    tmp_path: Path, size_kib: int, options: str, there: bool
) -> None:
    (tmp_path / "mounts").write_text(_MOUNTS.format(options=options))
    pages = Hugepages(size_kib, 1, 1)
    if there:
        require_mount(pages, tmp_path / "mounts")
        return
    size = "2M" if size_kib == 2048 else "1G"
    with pytest.raises(HostError) as caught:
        require_mount(pages, tmp_path / "mounts")
    assert caught.value.message.startswith(f"no hugetlbfs with pages of {size} is mounted")
    assert f"mount -t hugetlbfs -o pagesize={size} none /dev/hugepages-{size}" in caught.value.hint


def test_another_file_system_with_such_an_option_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw,pagesize=2M 0 0\n")
    with pytest.raises(HostError):
        require_mount(Hugepages(2048, 1, 1), tmp_path / "mounts")
