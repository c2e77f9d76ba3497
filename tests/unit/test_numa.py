"""CPUs and NUMA nodes: how sysfs shows them, and what is made of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.hosts.files import put
from tests.hosts.load import cores
from tests.machines import Machine, m4000_isolated, write_machine
from vfio_kit.host.machine import read_machine
from vfio_kit.host.numa import read_cpus, read_nodes
from vfio_kit.host.read import read_host
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree
from vfio_kit.model import Cpu, NumaNode

TWO_SOCKETS = replace(
    m4000_isolated(),
    cores={0: cores("0-1", "4-5"), 1: cores("2-3", "6-7")},
    memory={0: (1024, 800), 1: (2048, 100)},
    distances={0: (10, 21), 1: (21, 10)},
    nodes={0: (512, 12), 1: (0, 0)},
)


def tree(tmp_path: Path, machine: Machine) -> Tree:
    return Tree(write_machine(tmp_path, machine))


def cpus(tmp_path: Path, **fields: Any) -> tuple[Cpu, ...]:
    """What is read of a machine with these fields; nothing of it is odd."""
    found = tree(tmp_path, replace(m4000_isolated(), **fields))
    read = read_cpus(found)
    assert found.problems == []
    return read


# CPUs.


def test_cpus_with_their_siblings_nodes_and_packages(tmp_path: Path) -> None:
    assert cpus(tmp_path, cores=TWO_SOCKETS.cores) == (
        Cpu(0, (0, 4), 0, 0),
        Cpu(1, (1, 5), 0, 0),
        Cpu(2, (2, 6), 0, 1),
        Cpu(3, (3, 7), 0, 1),
        Cpu(4, (0, 4), 0, 0),
        Cpu(5, (1, 5), 0, 0),
        Cpu(6, (2, 6), 0, 1),
        Cpu(7, (3, 7), 0, 1),
    ), "without nodes in sysfs, all of them are on node 0"
    (tmp_path / "nodes").mkdir()
    with_nodes = read_cpus(tree(tmp_path / "nodes", TWO_SOCKETS))
    assert [cpu.node for cpu in with_nodes] == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("release", ["4.19.0-amd64", "6.12.0-amd64"])
def test_kernels_before_5_3_have_another_name_for_siblings(tmp_path: Path, release: str) -> None:
    read = cpus(tmp_path, cores={0: cores("0-1", "2-3")}, release=release)
    assert [cpu.siblings for cpu in read] == [(0, 2), (1, 3), (0, 2), (1, 3)]


def test_a_cpu_that_is_offline_is_nobodys_sibling(tmp_path: Path) -> None:
    read = cpus(tmp_path, cores={0: cores("0-2", "3-5")}, offline=(2, 3))
    assert [(cpu.number, cpu.siblings) for cpu in read] == [
        (0, (0,)),
        (1, (1, 4)),
        (4, (1, 4)),
        (5, (5,)),
    ]


def test_smt_that_is_off_and_cores_of_two_kinds(tmp_path: Path) -> None:
    assert cpus(tmp_path / "a", cores={0: cores("0-1")}) == (Cpu(0, (0,)), Cpu(1, (1,)))
    hybrid = cpus(tmp_path / "b", cores={0: cores("0,2,4-5", "1,3")})
    assert [cpu.siblings for cpu in hybrid] == [(0, 1), (0, 1), (2, 3), (2, 3), (4,), (5,)]


def test_a_core_with_a_cpu_that_the_scheduler_leaves_alone_is_isolated(tmp_path: Path) -> None:
    read = cpus(tmp_path, cores={0: cores("0-2", "3-5")}, isolated=(1, 2, 4))
    assert [cpu.number for cpu in read if cpu.isolated] == [1, 2, 4, 5]


def test_a_machine_that_tells_nothing_of_its_cpus(tmp_path: Path) -> None:
    assert cpus(tmp_path) == ()


@pytest.mark.parametrize(
    "text", ["0-", "a", "0-3,,5", "9999", "0-8192", "1;2", ",".join(["0-8000"] * 9)]
)
def test_a_list_of_cpus_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    files = {"sys/devices/system/cpu/online": text.encode() + b"\n"}
    found = tree(tmp_path, replace(TWO_SOCKETS, files=files))
    assert read_cpus(found) == ()
    (problem,) = found.problems
    assert problem.path == "/sys/devices/system/cpu/online"
    assert "not a list of CPUs" in problem.reason


def test_siblings_that_contradict_each_other_are_still_cores(tmp_path: Path) -> None:
    """Each CPU is in one core, whatever the files say."""
    topology = "sys/devices/system/cpu/cpu{}/topology/core_cpus_list"
    files = {
        topology.format(0): b"0-1\n",
        topology.format(1): b"1-2\n",
        topology.format(2): b"1-2\n",
    }
    read = read_cpus(
        tree(tmp_path, replace(m4000_isolated(), cores={0: cores("0-2")}, files=files))
    )
    assert [cpu.siblings for cpu in read] == [(0, 1), (0, 1), (2,)]


def test_a_host_of_many_cpus_is_asked_little(tmp_path: Path) -> None:
    """One file for each core, not some for each CPU: a scan has no use for them."""

    class Counting(Tree):
        asked = 0

        def data(self, name: str, limit: int = 1 << 16, *, private: bool = False) -> bytes | None:
            Counting.asked += 1
            return super().data(name, limit, private=private)

    large = {0: cores("0-31", "64-95"), 1: cores("32-63", "96-127")}
    root = write_machine(tmp_path, replace(TWO_SOCKETS, cores=large))
    assert len(read_cpus(Counting(root))) == 128
    assert Counting.asked < 64 + 16


# Nodes.


def test_what_could_be_had_of_a_nodes_memory(tmp_path: Path) -> None:
    """MemFree and the page cache, less what is not written yet; slab caches do not count."""
    first, second = read_nodes(tree(tmp_path, TWO_SOCKETS))
    assert first == NumaNode(0, {2048: (512, 12)}, 1024, 800, (10, 21))
    assert second == NumaNode(1, {2048: (0, 0)}, 2048, 100, (21, 10))


@pytest.mark.parametrize(
    ("name", "data", "memory", "distances", "problems"),
    [
        ("meminfo", b"Node 0 MemTotal: lots kB\n", (None, None), (10, 21), 0),
        ("meminfo", b"Node 0 MemFree:   2048 kB\n", (None, 2), (10, 21), 0),
        ("meminfo", b"Node 0 MemTotal:  4096 kB\nNode 0 MemFree:  2048 kB\n"
         b"Node 0 Active(file):  1024 kB\nNode 0 Dirty:  4096 kB\n", (4, 2), (10, 21), 0),
        ("meminfo", b"\xff\xfe", (None, None), (10, 21), 1),
        ("distance", b"10 near\n", (1024, 800), (), 1),
        ("distance", b"\n", (1024, 800), (), 0),
    ],
)  # fmt: skip
def test_what_a_node_does_not_tell_is_left_out(
    tmp_path: Path,
    name: str,
    data: bytes,
    memory: tuple[int | None, int | None],
    distances: tuple[int, ...],
    problems: int,
) -> None:
    files = {f"sys/devices/system/node/node0/{name}": data}
    found = tree(tmp_path, replace(TWO_SOCKETS, files=files))
    node = read_nodes(found)[0]
    assert (node.memory_mib, node.free_mib) == memory
    assert node.distances == distances
    assert len(found.problems) == problems


# Snapshots.


def test_a_snapshot_has_the_cpus_and_the_nodes(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", TWO_SOCKETS)
    (tmp_path / "host.tar.gz").write_bytes(take_snapshot(root, lambda _: None))
    here, there = read_host(root).platform, read_machine(tmp_path / "host.tar.gz").platform
    assert there == here
    assert len(there.cpus) == 8
    assert there.nodes[1].free_mib == 100


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("0,2 node 0 package 0\n1,3 node 1 package 0 isolated", [0, 1, 2, 3]),
        ("0,2 node 0 package 0\n2 node 0 package 0\n5 node 0 package 0", [0, 2]),
        ("0 node 0 package 0\nnode 1", [0]),
        ("0-8191 node 0\n", []),
        (",, node 0 package 0", []),
    ],
)
def test_what_a_strangers_snapshot_says_of_cpus_is_not_believed(
    tmp_path: Path, text: str, known: list[int]
) -> None:
    found = tree(tmp_path, replace(m4000_isolated(), files={"extracts/cpus": text.encode()}))
    assert [cpu.number for cpu in read_cpus(found)] == known
    assert bool(found.problems) == (len(known) < 4)


READ = (
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/isolated",
    "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu0/topology/core_siblings_list",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node0/meminfo",
    "sys/devices/system/node/node0/distance",
    "extracts/cpus",
)
torn = st.binary(max_size=80) | st.text(alphabet=" \n:-,0123456789adegknop()", max_size=80).map(
    str.encode
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("torn"), TWO_SOCKETS)


@settings(deadline=None, max_examples=few(15))
@given(st.sampled_from(READ), torn)
def test_whatever_a_file_holds_cpus_are_in_one_core_each(
    root: Path, name: str, data: bytes
) -> None:
    file = root / name
    before = file.read_bytes() if file.exists() else None
    put(file, data)
    try:
        known = {cpu.number: cpu for cpu in read_cpus(Tree(root))}
        numbers = [node.number for node in read_nodes(Tree(root))]
    finally:
        file.unlink() if before is None else file.write_bytes(before)
    for cpu in known.values():
        assert cpu.number in cpu.siblings
        assert all(known[sibling].siblings == cpu.siblings for sibling in cpu.siblings)
    assert numbers == [0, 1]
