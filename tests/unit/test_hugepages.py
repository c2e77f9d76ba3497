"""Hugepages: what is free is used, what is missing is added, and only that is given back.

The pools are plain files; where the kernel would answer otherwise than a file does, a pipe with a
thread at its other end is the kernel.
"""

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from vfio_kit.apply.hugepages import boot_parameters, give_back, growth, pool_size, prepare, take
from vfio_kit.errors import HostError
from vfio_kit.model.placement import Claim, CpuTopology, Hugepages, Placement

BOOT = "c0ffee00-0000-4000-8000-000000000000"


def machine(root: Path, boot: str = BOOT) -> Path:
    """The files beside the pools; `root` is returned."""
    for name in ("proc/sys/vm", "proc/sys/kernel/random", "sys/devices/system/node"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
    return root


def pool(root: Path, node: int | None = None, size_kib: int = 2048, **values: int) -> Path:
    """The pool of all nodes, or of one: nr, free and resv pages."""
    machine(root)
    above = "sys/kernel/mm" if node is None else f"sys/devices/system/node/node{node}"
    folder = root / above / f"hugepages/hugepages-{size_kib}kB"
    folder.mkdir(parents=True)
    for name in ("nr", "free", "resv") if node is None else ("nr", "free"):
        (folder / f"{name}_hugepages").write_text(f"{values.get(name, 0)}\n")
    return folder


def two_nodes(root: Path, first: tuple[int, int], second: tuple[int, int]) -> tuple[Path, Path]:
    """Pools of two nodes, (pages, of these free) each, and the pool of both."""
    pool(root, nr=first[0] + second[0], free=first[1] + second[1])
    return (
        pool(root, 0, nr=first[0], free=first[1]),
        pool(root, 1, nr=second[0], free=second[1]),
    )


def pages(folder: Path) -> int:
    return int((folder / "nr_hugepages").read_text())


def wanted(count: int, size_kib: int = 2048) -> Hugepages:
    return Hugepages(size_kib, count, 1)


def placed(*by_node: tuple[int, int]) -> Placement:
    return Placement(CpuTopology(1, 1, 1), tuple(node for node, _ in by_node), by_node)


def added(data: dict[str, Any]) -> dict[str, int]:
    return {node: pool["count"] for node, pool in data["nodes"].items()}


# How many are missing.


@pytest.mark.parametrize(
    ("free", "reserved", "count", "missing"),
    [(0, 0, 10, 10), (4, 0, 10, 6), (10, 0, 10, 0), (99, 0, 10, 0), (10, 3, 10, 3), (5, 5, 1, 1)],
)
def test_only_what_is_free_and_not_reserved_counts(
    tmp_path: Path, free: int, reserved: int, count: int, missing: int
) -> None:
    pool(tmp_path, nr=100, free=free, resv=reserved)
    assert added(prepare(wanted(count), None, root=tmp_path)) == {"any": missing}


def test_sizes_have_pools_of_their_own(tmp_path: Path) -> None:
    pool(tmp_path, size_kib=2048, nr=7, free=7)
    pool(tmp_path, size_kib=1048576, nr=2, free=1)
    assert added(prepare(wanted(2, 1048576), None, root=tmp_path)) == {"any": 1}
    assert pool_size(2048, root=tmp_path) == 7
    assert pool_size(1048576, root=tmp_path) == 2


def test_a_size_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    pool(tmp_path)
    with pytest.raises(HostError) as caught:
        prepare(wanted(1, 1048576), None, root=tmp_path)
    assert caught.value.message == "this kernel has no hugepages of 1048576 KiB"
    assert "pdpe1gb" in caught.value.hint


def test_each_node_of_the_placement_has_its_own_count(tmp_path: Path) -> None:
    two_nodes(tmp_path, (20, 5), (8, 8))
    data = prepare(wanted(40), placed((0, 30), (1, 10)), root=tmp_path)
    assert data == {
        "size_kib": 2048,
        "boot": BOOT,
        "nodes": {"0": {"count": 25, "before": 20}, "1": {"count": 2, "before": 8}},
    }
    assert json.loads(json.dumps(data)) == data


def test_free_pages_of_another_node_do_not_count(tmp_path: Path) -> None:
    two_nodes(tmp_path, (0, 0), (100, 100))
    assert added(prepare(wanted(10), placed((0, 10)), root=tmp_path)) == {"0": 10}


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    pool(tmp_path)
    with pytest.raises(HostError, match="this host has no NUMA node 3"):
        prepare(wanted(1), placed((3, 1)), root=tmp_path)


def test_a_placement_without_pages_takes_the_one_pool(tmp_path: Path) -> None:
    pool(tmp_path, nr=5, free=5)
    anywhere = Placement(CpuTopology(1, 4, 1))
    assert added(prepare(wanted(8), anywhere, root=tmp_path)) == {"any": 3}


def test_what_another_vm_will_take_is_not_free(tmp_path: Path) -> None:
    two_nodes(tmp_path, (10, 10), (10, 10))
    claim = Claim("other", memory_mib=((1, 7), (0, 2)))  # 4 pages and 1
    both = placed((0, 10), (1, 10))
    assert added(prepare(wanted(20), both, claims=(claim,), root=tmp_path)) == {"0": 1, "1": 4}
    assert added(prepare(wanted(20), None, claims=(claim,), root=tmp_path)) == {"any": 5}


# Adding, and giving back.


def test_a_pool_grows_by_what_is_missing(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=100)
    take(prepare(wanted(12), None, root=tmp_path), tmp_path)
    assert pages(folder) == 112


def test_each_node_grows_by_itself_and_goes_back(tmp_path: Path) -> None:
    first, second = two_nodes(tmp_path, (20, 5), (8, 8))
    data = prepare(wanted(40), placed((0, 30), (1, 10)), root=tmp_path)
    take(data, tmp_path)
    assert (pages(first), pages(second)) == (45, 10)
    give_back(data, tmp_path)
    assert (pages(first), pages(second)) == (20, 8)
    give_back(data, tmp_path)
    assert (pages(first), pages(second)) == (20, 8)


def test_how_far_it_has_come_is_seen_from_outside(tmp_path: Path) -> None:
    first, second = two_nodes(tmp_path, (20, 5), (8, 8))
    look = growth(prepare(wanted(50), placed((0, 30), (1, 20)), root=tmp_path), tmp_path)
    assert look() == (0, 37)
    (first / "nr_hugepages").write_text("30\n")
    assert look() == (10, 37)
    (second / "nr_hugepages").write_text("99\n")  # somebody else adds some, too
    assert look() == (22, 37)
    (first / "nr_hugepages").write_text("what?\n")
    assert look() == (12, 37)


def test_a_pool_that_has_enough_is_not_written_to(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=8, free=8)
    before = (folder / "nr_hugepages").stat().st_mtime_ns
    data = prepare(wanted(8), None, root=tmp_path)
    take(data, tmp_path)
    give_back(data, tmp_path)
    assert (folder / "nr_hugepages").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("now", "count", "before", "after"),
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
    tmp_path: Path, now: int, count: int, before: int, after: int
) -> None:
    folder = pool(tmp_path, 1, nr=now)
    nodes = {"1": {"count": count, "before": before}}
    give_back({"size_kib": 2048, "boot": BOOT, "nodes": nodes}, tmp_path)
    assert pages(folder) == after


def test_after_another_boot_nothing_is_given_back(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=3)
    data = prepare(wanted(8), None, root=tmp_path)
    take(data, tmp_path)
    machine(tmp_path, boot="another")
    give_back(data, tmp_path)
    assert pages(folder) == 11


def test_a_journal_of_version_2_is_understood(tmp_path: Path) -> None:
    folder = pool(tmp_path, nr=11)
    give_back({"size_kib": 2048, "count": 8, "before": 3, "boot": BOOT}, tmp_path)
    assert pages(folder) == 3


@pytest.mark.parametrize("first_to_go", [0, 1])
@pytest.mark.parametrize("placement", [None, placed((1, 12))])
def test_of_two_vms_each_gives_back_its_own_in_any_order(
    tmp_path: Path, first_to_go: int, placement: Placement | None
) -> None:
    """The second VM's pages come on top of the first one's, which were not there before."""
    two_nodes(tmp_path, (0, 0), (100, 0))
    folder = pool_of(tmp_path, placement)
    (folder / "nr_hugepages").write_text("100")
    one = prepare(wanted(12), placement, root=tmp_path)
    take(one, tmp_path)
    two = prepare(wanted(12), placement, others=(one,), root=tmp_path)
    take(two, tmp_path)
    assert pages(folder) == 124
    data = [one, two]
    give_back(data.pop(first_to_go), tmp_path)
    assert pages(folder) == 112
    give_back(data.pop(), tmp_path)
    assert pages(folder) == 100


def pool_of(root: Path, placement: Placement | None) -> Path:
    above = "devices/system/node/node1" if placement else "kernel/mm"
    return root / "sys" / above / "hugepages/hugepages-2048kB"


def test_what_another_vm_added_before_a_reboot_or_of_another_size_is_not_there(
    tmp_path: Path,
) -> None:
    pool(tmp_path, nr=100)
    gone = {"size_kib": 2048, "boot": "earlier", "nodes": {"any": {"count": 50, "before": 0}}}
    large = {"size_kib": 1048576, "boot": BOOT, "nodes": {"any": {"count": 50, "before": 0}}}
    data = prepare(wanted(8), None, others=(gone, large), root=tmp_path)
    assert data["nodes"]["any"]["before"] == 100


class Pools:
    """Two nodes whose pages are used, and freed, as the kernel would have it."""

    def __init__(self, root: Path, first: tuple[int, int], second: tuple[int, int]) -> None:
        self.root = root
        self.folders = two_nodes(root, first, second)
        self.used = [total - free for total, free in (first, second)]

    def up(self, by_node: tuple[tuple[int, int], ...], others: list[dict[str, Any]]) -> Any:
        count = sum(count for _, count in by_node)
        data = prepare(wanted(count), placed(*by_node), others=others, root=self.root)
        take(data, self.root)
        self.use(by_node, 1)
        return data

    def down(self, data: dict[str, Any], by_node: tuple[tuple[int, int], ...]) -> None:
        self.use(by_node, -1)
        give_back(data, self.root)
        self.use((), 0)

    def use(self, by_node: tuple[tuple[int, int], ...], sign: int) -> None:
        for node, count in by_node:
            self.used[node] += sign * count
        for folder, used in zip(self.folders, self.used, strict=True):
            assert pages(folder) >= used, "a guest's pages are never taken from it"
            (folder / "free_hugepages").write_text(str(pages(folder) - used))


_VMS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(any), min_size=1, max_size=4
)


@settings(max_examples=few(12), deadline=None)
@given(_VMS, st.data())
def test_whatever_comes_and_goes_in_whatever_order_the_pools_are_as_they_were(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pools = Pools(Path(folder), (20, 5), (7, 7))
        waiting = [tuple((n, c) for n, c in enumerate(size) if c) for size in sizes]
        running: list[tuple[Any, tuple[tuple[int, int], ...]]] = []
        while waiting or running:
            if waiting and (not running or data.draw(st.booleans())):
                by_node = waiting.pop()
                running.append((pools.up(by_node, [d for d, _ in running]), by_node))
            else:
                pools.down(*running.pop(data.draw(st.integers(0, len(running) - 1))))
        assert [pages(pool) for pool in pools.folders] == [20, 7]


# A kernel that gives fewer.


@contextmanager
def kernel(file: Path, *answers: int, put_back: bool = False) -> Iterator[list[int]]:
    """A kernel that gives these pool sizes when asked; what is written to it is in the list.

    It is asked what there is, then wished and asked, again and again; and where the pool cannot
    grow, wished for what there was.
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


def asking(count: int, node: str = "any", size_kib: int = 2048) -> dict[str, Any]:
    """The data of a step that adds `count` pages."""
    nodes = {node: {"count": count, "before": 0}}
    return {"size_kib": size_kib, "boot": BOOT, "nodes": nodes}


def test_a_pool_that_cannot_grow_is_left_as_it_was(tmp_path: Path) -> None:
    file = pool(tmp_path) / "nr_hugepages"
    with kernel(file, 100, 106, put_back=True) as wishes, pytest.raises(HostError) as caught:
        take(asking(12), tmp_path, patience=0)
    assert wishes == [112, 100]
    assert caught.value.message == "only 6 of 12 missing hugepages of 2M could be made free"
    assert "hugepagesz=2M hugepages=112" in caught.value.hint


def test_a_node_that_cannot_grow_is_named_with_what_is_where(tmp_path: Path) -> None:
    """And the nodes that could are as they were."""
    first, second = two_nodes(tmp_path, (20, 5), (8, 3))
    data = prepare(wanted(42), placed((0, 30), (1, 12)), root=tmp_path)
    file = second / "nr_hugepages"
    with kernel(file, 8, 10, put_back=True) as wishes, pytest.raises(HostError) as caught:
        take(data, tmp_path, patience=0)
    assert wishes == [17, 8]
    assert pages(first) == 20
    assert caught.value.message == (
        "only 2 of 9 missing hugepages of 2M could be made free on node 1 "
        "(node 0 has 20 pages, 5 free; node 1 has 8 pages, 3 free)"
    )
    assert "hugepagesz=2M hugepages=0:45,1:17" in caught.value.hint


def test_memory_is_compacted_before_the_next_try(tmp_path: Path) -> None:
    folder = pool(tmp_path, size_kib=1048576)
    with kernel(folder / "nr_hugepages", 5, 6, 7) as wishes:
        take(asking(2, size_kib=1048576), tmp_path)
    assert wishes == [7, 7]
    assert (tmp_path / "proc/sys/vm/drop_caches").read_text() == "3"
    assert (tmp_path / "proc/sys/vm/compact_memory").read_text() == "1"


def test_a_nodes_memory_is_compacted_and_no_other(tmp_path: Path) -> None:
    _, second = two_nodes(tmp_path, (0, 0), (0, 0))
    with kernel(second / "nr_hugepages", 0, 1, 2):
        take(asking(2, "1"), tmp_path)
    nodes = tmp_path / "sys/devices/system/node"
    assert (nodes / "node1/compact").read_text() == "1"
    assert not (nodes / "node0/compact").exists()
    assert not (tmp_path / "proc/sys/vm/compact_memory").exists()


def test_a_kernel_that_refuses_is_named(tmp_path: Path) -> None:
    folder = pool(tmp_path)
    (tmp_path / "proc/sys/vm").rmdir()
    # The kernel gives too few, and then /proc/sys/vm is not there.
    with pytest.raises(HostError) as caught, kernel(folder / "nr_hugepages", 0, 0, put_back=True):
        take(asking(1), tmp_path)
    assert caught.value.message == (
        f"cannot write 3 to {tmp_path}/proc/sys/vm/drop_caches: No such file or directory"
    )


def test_caches_are_dropped_once(tmp_path: Path) -> None:
    folder = pool(tmp_path)
    os.mkfifo(tmp_path / "proc/sys/vm/drop_caches")
    caches = os.open(tmp_path / "proc/sys/vm/drop_caches", os.O_RDWR | os.O_NONBLOCK)
    with kernel(folder / "nr_hugepages", 0, 1, 1, 2):
        take(asking(2), tmp_path)
    assert os.read(caches, 100) == b"3"
    os.close(caches)


def test_while_pages_come_there_is_patience(tmp_path: Path) -> None:
    """Each page that comes begins the waiting anew: four rounds of 0.2 s, and 0.3 s of patience."""
    folder = pool(tmp_path)
    with kernel(folder / "nr_hugepages", 0, 1, 2, 3, 4, 5) as wishes:
        take(asking(5), tmp_path, patience=0.3)
    assert wishes == [5] * 5


# What reserves them at boot.


@pytest.mark.parametrize(
    ("pools", "size_kib", "release", "words"),
    [
        ({"any": 512}, 2048, "5.4.0", "kernel parameters hugepagesz=2M hugepages=512"),
        ({"0": 512, "1": 2048}, 2048, "5.16.0-1-amd64",
         "kernel parameters hugepagesz=2M hugepages=0:512,1:2048"),
        ({"1": 8}, 1048576, "6.12.6+deb13-amd64", "kernel parameters hugepagesz=1G hugepages=1:8"),
        ({"1": 8}, 2048, "6.9", "kernel parameters hugepagesz=2M hugepages=1:8"),
        ({"0": 4, "1": 8}, 2048, "5.15.0-91-generic",
         "a unit of systemd's, since hugepages= takes nodes from Linux 5.16 on alone: "
         "echo 4 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages; "
         "echo 8 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"),
    ],
)  # fmt: skip
def test_what_reserves_them_at_boot(
    pools: dict[str, int], size_kib: int, release: str, words: str
) -> None:
    assert boot_parameters(pools, size_kib, release) == words
