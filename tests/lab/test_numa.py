"""A host with two NUMA nodes: pages on the node of the plan, and a guest that runs there.

QEMU is looked at as soon as it runs, and taken away again before its guest has booted.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import pieces
from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .test_main_job import DIRECT

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("two-nodes")]

GPU, AUDIO = "0000:41:00.0", "0000:41:00.1"
NODES = "/sys/devices/system/node"
_MODULE = """
import json, sys
from vfio_kit.apply import hugepages
from vfio_kit.errors import HostError
from vfio_kit.model.placement import CpuTopology, Hugepages, Placement
def prepare(*by_node, size_kib=2048, others=()):
    nodes = tuple(node for node, _ in by_node)
    placement = Placement(CpuTopology(1, 1, 1), nodes, tuple(by_node))
    pages = Hugepages(size_kib, sum(count for _, count in by_node), 1)
    return hugepages.prepare(pages, placement, others=others)
"""


def python(host: LabHost, code: str, timeout: float = 120) -> Any:
    """Runs code with vfio-kit's own modules on the host; returns what it leaves in `answer`."""
    text = f"{_MODULE}\n{code}\nprint(json.dumps(answer))\n"
    done = host.run("/opt/vfio-kit/bin/python -", stdin=text, timeout=timeout)
    return json.loads(done.stdout.splitlines()[-1])


def pages(host: LabHost, size_kib: int = 2048) -> list[int]:
    """The pages in each node's pool."""
    files = f"{NODES}/node?/hugepages/hugepages-{size_kib}kB/nr_hugepages"
    return [int(word) for word in host.run(f"cat {files}").stdout.split()]


def reserve(host: LabHost, node: int, count: int) -> None:
    host.run(f"echo {count} > {NODES}/node{node}/hugepages/hugepages-2048kB/nr_hugepages")


@pytest.fixture
def nodes(gpuhost: LabHost) -> Iterator[LabHost]:
    """The host, whose pools are empty before a test and after it."""
    for node in (0, 1):
        reserve(gpuhost, node, 0)
    yield gpuhost
    for node in (0, 1):
        reserve(gpuhost, node, 0)


@pytest.fixture
def in_pieces(nodes: LabHost) -> Iterator[int]:
    """How many MiB of the second node, four fifths of what was free, have a page in use in each."""
    free = nodes.run(f"awk '/MemFree/ {{print $4}}' {NODES}/node1/meminfo").stdout
    mib = int(free) * 4 // 5 >> 10
    with pieces.in_pieces(nodes, 3, mib):
        yield mib


class TestTheHostAsItIsRead:
    def test_the_card_is_near_the_second_node(self, gpuhost: LabHost) -> None:
        document = json.loads(gpuhost.run("vfio-kit scan --json").stdout)
        (gpu,) = (gpu for gpu in document["gpus"] if gpu["address"] == GPU)
        assert gpu["numa_node"] == 1

    def test_the_plan_puts_the_guest_there(self, gpuhost: LabHost) -> None:
        found = json.loads(gpuhost.run(f"vfio-kit plan --json --gpu 41:00.0 {DIRECT}").stdout)
        assert found["placement"]["nodes"] == [1]
        assert found["placement"]["pages"] == [{"node": 1, "count": 512}]
        assert found["placement"]["vcpus"] == [[3]]
        assert found["placement"]["emulator"] == [2]


class TestPagesByNode:
    """With the kernel's own pools; no guest."""

    def test_the_right_node_grows_and_goes_back(self, nodes: LabHost) -> None:
        code = "data = prepare((1, 64)); hugepages.take(data); answer = data"
        data = python(nodes, code)
        assert data["nodes"] == {"1": {"count": 64, "before": 0}}
        assert pages(nodes) == [0, 64]
        python(nodes, f"hugepages.give_back({data}); answer = 0")
        assert pages(nodes) == [0, 0]

    def test_what_was_there_is_used_and_stays(self, nodes: LabHost) -> None:
        reserve(nodes, 0, 8)
        reserve(nodes, 1, 16)
        data = python(nodes, "answer = data = prepare((1, 64)); hugepages.take(data)")
        assert data["nodes"] == {"1": {"count": 48, "before": 16}}
        assert pages(nodes) == [8, 64]
        python(nodes, f"hugepages.give_back({data}); answer = 0")
        assert pages(nodes) == [8, 16]

    def test_over_both_nodes(self, nodes: LabHost) -> None:
        data = python(nodes, "answer = data = prepare((0, 32), (1, 64)); hugepages.take(data)")
        assert pages(nodes) == [32, 64]
        python(nodes, f"hugepages.give_back({data}); answer = 0")
        assert pages(nodes) == [0, 0]

    def test_of_two_vms_the_first_goes_first(self, nodes: LabHost) -> None:
        reserve(nodes, 1, 4)
        first = python(nodes, "answer = data = prepare((1, 20)); hugepages.take(data)")
        # The free pages are as if the first VM had taken its own: both want all of theirs.
        second = dict(first, nodes={"1": {"count": 20, "before": 4}})
        python(nodes, f"hugepages.take({second}); answer = 0")
        assert pages(nodes) == [0, 40]
        python(nodes, f"hugepages.give_back({first}); answer = 0")
        assert pages(nodes) == [0, 24]
        python(nodes, f"hugepages.give_back({second}); answer = 0")
        assert pages(nodes) == [0, 4]

    def test_more_than_a_node_has_is_refused_and_nothing_stays(self, nodes: LabHost) -> None:
        reserve(nodes, 0, 8)
        code = """
try:
    hugepages.take(prepare((0, 32), (1, 4096)), patience=1)
except HostError as error:
    answer = [error.message, error.hint]
"""
        message, hint = python(nodes, code, timeout=300)
        assert "of 4096 missing hugepages of 2M could be made free on node 1" in message
        assert "node 0 has 8 pages, 8 free; node 1 has 0 pages, 0 free" in message
        assert "kernel parameters hugepagesz=2M hugepages=0:32,1:4096" in hint
        assert pages(nodes) == [8, 0]

    def test_memory_in_pieces_is_put_together(self, in_pieces: int, nodes: LabHost) -> None:
        """More is asked for than there is in blocks of 2 and of 4 MiB."""
        buddies = nodes.run("grep -E 'Node +1.*Normal' /proc/buddyinfo").stdout.split()
        count = in_pieces // 4
        assert int(buddies[-2]) + 2 * int(buddies[-1]) < count, buddies
        code = f"answer = data = prepare((1, {count})); hugepages.take(data)"
        data = python(nodes, code, timeout=300)
        assert pages(nodes) == [0, count]
        moved = nodes.run("grep -E '^compact_(success|migrate_scanned)' /proc/vmstat").stdout
        assert all(int(word) > 0 for word in moved.split()[1::2]), moved
        python(nodes, f"hugepages.give_back({data}); answer = 0")
        assert pages(nodes) == [0, 0]

    def test_a_page_of_1_gib(self, nodes: LabHost) -> None:
        before = pages(nodes, 1 << 20)
        data = python(
            nodes,
            "answer = data = prepare((1, 1), size_kib=1 << 20); hugepages.take(data)",
            timeout=300,
        )
        assert pages(nodes, 1 << 20) == [before[0], before[1] + 1]
        python(nodes, f"hugepages.give_back({data}); answer = 0")
        assert pages(nodes, 1 << 20) == before


@pytest.fixture(scope="class")
def found() -> dict[str, str]:
    """What the start of the guest leaves for the tests after it."""
    return {}


class TestAGuestOnItsNode:
    """One start of QEMU; `up` is interrupted while it waits for the guest."""

    def test_up_starts_it(self, nodes: LabHost, found: dict[str, str]) -> None:
        reserve(nodes, 1, 100)
        found["before"] = nodes.run(SNAPSHOT).stdout
        found["plan"] = nodes.run(f"vfio-kit plan --json --gpu 41:00.0 {DIRECT}").stdout
        nodes.run(
            f"vfio-kit up numa --gpu 41:00.0 {DIRECT} > /root/up.log 2>&1 & echo $! > /root/up.pid;"
            "until grep -q 'waiting for the guest' /root/up.log; do "
            "kill -0 $(cat /root/up.pid) || { cat /root/up.log; exit 1; }; sleep 0.5; done",
            timeout=300,
        )
        qemu = "$(cat /run/libvirt/qemu/numa.pid)"
        found["maps"] = nodes.run(f"cat /proc/{qemu}/numa_maps").stdout
        found["limits"] = nodes.run(f"cat /proc/{qemu}/limits").stdout
        found["pages"] = nodes.run(
            f"cd {NODES}; for n in 0 1; do cat node$n/hugepages/hugepages-2048kB/*_hugepages; done"
        ).stdout
        found["tasks"] = nodes.run(
            f"cd /proc/{qemu}/task; for t in *; do "
            "echo $(cat $t/comm)'|'$(awk '/Cpus_allowed_list/ {print $2}' $t/status)'|'"
            "$(awk '/Mems_allowed_list/ {print $2}' $t/status); done"
        ).stdout
        found["vcpupin"] = nodes.run("virsh -q vcpupin numa").stdout
        found["emulatorpin"] = nodes.run("virsh -q emulatorpin numa").stdout
        found["numatune"] = nodes.run("virsh -q numatune numa").stdout
        nodes.run(
            "kill -TERM $(cat /root/up.pid); "
            "while kill -0 $(cat /root/up.pid) 2> /dev/null; do sleep 0.5; done",
            timeout=300,
        )
        found["up"] = nodes.run("cat /root/up.log; rm /root/up.log /root/up.pid").stdout
        found["after"] = nodes.run(SNAPSHOT).stdout
        found["pools"] = json.dumps(pages(nodes))

    def test_its_memory_is_on_the_node(self, found: dict[str, str]) -> None:
        huge = [line for line in found["maps"].splitlines() if " huge " in line]
        counts = [word for line in huge for word in line.split() if word[:1] == "N" and "=" in word]
        assert sum(int(w.split("=")[1]) for w in counts) == 512, huge
        assert {word.split("=")[0] for word in counts} == {"N1"}, huge

    def test_the_pages_that_were_there_were_used(self, found: dict[str, str]) -> None:
        # For each node: free, nr, resv is the host's, surplus; in the order of their names.
        first, second = (found["pages"].split()[i : i + 3] for i in (0, 3))
        assert first == ["0", "0", "0"]
        assert second == ["0", "512", "0"]

    def test_its_threads_are_where_the_plan_has_them(self, found: dict[str, str]) -> None:
        placement = json.loads(found["plan"])["placement"]
        (vcpu,) = placement["vcpus"]
        tasks = [line.split("|") for line in found["tasks"].splitlines()]
        cpus = {cpus for name, cpus, _ in tasks if name == "CPU 0/KVM"}
        assert cpus == {",".join(map(str, vcpu))}
        # A thread of KVM's own (NX huge pages) comes from the vCPU's, and stays where that is.
        own = [cpus for name, cpus, _ in tasks if not name.startswith(("CPU 0/KVM", "kvm-"))]
        assert len(own) >= 4, found["tasks"]
        assert set(own) == {",".join(map(str, placement["emulator"]))}, found["tasks"]
        assert {memory for *_, memory in tasks} == {"1"}
        assert found["vcpupin"].split() == ["0", *map(str, vcpu)]
        assert "strict" in found["numatune"] and " 1\n" in found["numatune"] + "\n"

    def test_it_may_lock_its_memory(self, found: dict[str, str]) -> None:
        (line,) = (one for one in found["limits"].splitlines() if "locked memory" in one)
        assert int(line.split()[3]) == (1024 + 1024) << 20

    def test_the_host_is_as_it_was(self, found: dict[str, str]) -> None:
        assert "the host is as it was" in found["up"]
        assert differences(found["before"], found["after"]) == []
        assert json.loads(found["pools"]) == [0, 100]
