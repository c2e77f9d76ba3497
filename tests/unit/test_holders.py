"""Who holds device nodes open: a scan of /proc that is bounded, and opens nothing."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.machines import M4000, M4000_AUDIO, Function, Machine, Process, write_machine
from tests.unit.values import at
from vfio_kit.host.holders import read_holders
from vfio_kit.host.machine import read_machine
from vfio_kit.host.read import read_host
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree
from vfio_kit.model import Holder, Host, PciDevice

FIRST = Function("0000:01:00.0", M4000, 6, "nvidia", cards=("card1", "renderD129"), nvidia_minor=0)
AUDIO = Function("0000:01:00.1", M4000_AUDIO, 6, "snd_hda_intel")
SECOND = Function("0000:02:00.0", M4000, 7, "nvidia", nvidia_minor=1)


def read(root: Path, *processes: Process, functions: tuple[Function, ...] = (FIRST, AUDIO)) -> Host:
    return read_host(write_machine(root, Machine(functions, processes=processes)))


def held(host: Host) -> list[tuple[str, str, int, str]]:
    return [(str(h.device), h.node, h.pid, h.command) for h in host.holders]


def test_nodes_of_drm_and_of_nvidia_belong_to_their_function(tmp_path: Path) -> None:
    host = read(
        tmp_path,
        Process(900, "Xorg", ("/dev/dri/card1", "/dev/nvidia0", "/dev/dri/card0")),
        Process(12, "nvidia-persiste", ("/dev/nvidia0", "/dev/nvidiactl")),
        Process(7, "bash", ("/dev/pts/0", "/home/dev/nvidia0", "/dev/nvidia1")),
        Process(8, "gone", ("/dev/dri/renderD129 (deleted)",)),
    )
    assert held(host) == [
        ("0000:01:00.0", "/dev/dri/renderD129", 8, "gone"),
        ("0000:01:00.0", "/dev/nvidia0", 12, "nvidia-persiste"),
        ("0000:01:00.0", "/dev/nvidiactl", 12, "nvidia-persiste"),
        ("0000:01:00.0", "/dev/dri/card1", 900, "Xorg"),
        ("0000:01:00.0", "/dev/nvidia0", 900, "Xorg"),
    ]
    assert host.platform.holders_seen
    assert host.problems == ()


def test_a_shared_node_counts_for_all_gpus_or_for_those_that_are_used(tmp_path: Path) -> None:
    host = read(
        tmp_path,
        Process(5, "watcher", ("/dev/nvidiactl",)),
        Process(6, "job", ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1")),
        functions=(FIRST, AUDIO, SECOND),
    )
    assert [(str(h.device), h.pid) for h in host.holders] == [
        ("0000:01:00.0", 5),
        ("0000:02:00.0", 5),
        *[("0000:02:00.0", 6)] * 3,
    ]


def test_a_shared_node_of_nvidia_is_no_matter_of_nouveau(tmp_path: Path) -> None:
    gpu = Function("0000:01:00.0", M4000, 6, "nouveau", cards=("card1",))
    assert read(tmp_path, Process(5, "x", ("/dev/nvidiactl",)), functions=(gpu,)).holders == ()


def test_a_vm_holds_the_group_or_the_vfio_device(tmp_path: Path) -> None:
    gpu = Function("0000:01:00.0", M4000, 6, "vfio-pci")
    qemu = Process(4242, "qemu-system-x86", ("/dev/vfio/vfio", "/dev/vfio/6"))
    cdev = Process(4243, "qemu-system-x86", ("/dev/vfio/devices/vfio3",))
    root = write_machine(tmp_path, Machine((gpu,), processes=(qemu, cdev)))
    (root / "sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio3").mkdir(parents=True)
    assert [(h.node, h.pid) for h in read_host(root).holders] == [
        ("/dev/vfio/6", 4242),
        ("/dev/vfio/devices/vfio3", 4243),
    ]


def test_sound_and_framebuffers(tmp_path: Path) -> None:
    processes = (
        Process(1000, "pipewire", ("/dev/snd/controlC1", "/dev/snd/pcmC1D3p", "/dev/snd/seq")),
        Process(1001, "other", ("/dev/snd/controlC0", "/dev/snd/controlC11")),
        Process(1002, "fbterm", ("/dev/fb0", "/dev/fb1")),
    )
    root = write_machine(tmp_path, Machine((FIRST, AUDIO), processes=processes))
    devices = root / "sys/bus/pci/devices"
    (devices / "0000:01:00.1/sound/card1").mkdir(parents=True)
    (devices / "0000:01:00.0/graphics/fb0").mkdir(parents=True)
    assert held(read_host(root)) == [
        ("0000:01:00.0", "/dev/fb0", 1002, "fbterm"),
        ("0000:01:00.1", "/dev/snd/controlC1", 1000, "pipewire"),
        ("0000:01:00.1", "/dev/snd/pcmC1D3p", 1000, "pipewire"),
    ]


def test_where_nothing_could_be_held_nobody_is_looked_at(tmp_path: Path) -> None:
    gpu = Function("0000:01:00.0", M4000, 6)
    host = read(tmp_path, Process(5, "x", ("/dev/nvidia0",)), functions=(gpu,))
    assert (host.holders, host.platform.holders_seen) == ((), True)


def test_names_are_shown_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    host = read(tmp_path, Process(5, "a b\x1b[31m\nc\u20ac", ("/dev/nvidia0",)))
    assert [h.command for h in host.holders] == ["a b?[31m?c?"]
    (tmp_path / "proc/5/comm").unlink()
    assert [h.command for h in read_host(tmp_path).holders] == ["?"]


def test_a_snapshot_remembers_who(tmp_path: Path) -> None:
    there = read(tmp_path / "tree", Process(5, "my job", ("/dev/nvidia0",)))
    packed = take_snapshot(tmp_path / "tree", lambda _: None)
    (tmp_path / "host.tar.gz").write_bytes(packed)
    assert read_machine(tmp_path / "host.tar.gz") == there
    assert there.holders == (Holder(at("01:00.0"), "/dev/nvidia0", 5, "my job"),)


def devices(tree: Tree) -> list[PciDevice]:
    return list(read_host(tree.root).devices)


def test_the_scan_ends_when_its_time_is_over(tmp_path: Path) -> None:
    read(tmp_path, *(Process(pid, "x", ("/dev/nvidia0",)) for pid in range(1, 50)))
    tree = Tree(tmp_path)
    holders, seen = read_holders(tree, devices(tree), budget_s=-1.0)
    assert not seen
    assert len(holders) <= 1
    assert [(p.path, "not all" in p.reason) for p in tree.problems] == [("/proc", True)]


@pytest.mark.unit_long
def test_a_process_with_very_many_files_does_not_hold_it_up(tmp_path: Path) -> None:
    read(tmp_path, Process(1, "x"))
    for number in range(10, 3000):
        (tmp_path / f"proc/1/fd/{number}").symlink_to("/dev/nvidia0")
    tree = Tree(tmp_path)
    _, seen = read_holders(tree, devices(tree), budget_s=0.0001)
    assert not seen


def test_the_number_of_processes_is_bounded(tmp_path: Path) -> None:
    read(tmp_path, *(Process(pid, "x", ("/dev/nvidia0",)) for pid in (3, 2, 1)))
    tree = Tree(tmp_path)
    holders, seen = read_holders(tree, devices(tree), most_processes=2)
    assert ([h.pid for h in holders], seen) == ([1, 2], False)


def test_what_is_no_process_is_left_alone(tmp_path: Path) -> None:
    read(tmp_path, Process(3, "x", ("/dev/nvidia0",)))
    for name in ("sys", "99999999999999999999", "\u0663"):
        (tmp_path / "proc" / name / "fd").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc/3/fd/x").write_text("no link")
    (tmp_path / "proc/4").mkdir()
    (tmp_path / "proc/5").write_text("no folder")
    host = read_host(tmp_path)
    assert [h.pid for h in host.holders] == [3]


class LiveTree(Tree):
    """The processes of this machine, and the devices of another."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._other = Tree(root)

    def names(self, name: str, *, private: bool = False) -> list[str]:
        if name.startswith("proc"):
            return super().names(name, private=private)
        return self._other.names(name, private=private)


def test_the_processes_of_this_machine(tmp_path: Path) -> None:
    """One of them holds a node open, and it is not this one, which holds it as well."""
    gpu = Function("0000:01:00.0", M4000, 6, cards=("null",))
    there = list(read(tmp_path, functions=(gpu,)).devices)
    tree = LiveTree(tmp_path)
    null = tmp_path / "sys/bus/pci/devices/0000:01:00.0/drm/null"
    assert null.exists()
    begin = time.monotonic()
    holders, seen = read_holders(tree, there)
    assert time.monotonic() - begin < 5
    assert os.getpid() not in {holder.pid for holder in holders}
    # Root sees all of them, unless it is confined: then that is said.
    assert seen == (os.geteuid() == 0 and not tree.problems)
    assert {p.path for p in tree.problems} <= {"/proc"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look at everything")
def test_another_users_processes_are_not_seen_and_that_is_no_problem(tmp_path: Path) -> None:
    read(tmp_path, Process(3, "x", ("/dev/nvidia0",)))
    (tmp_path / "proc/3/fd").chmod(0)
    try:
        host = read_host(tmp_path)
    finally:
        (tmp_path / "proc/3/fd").chmod(0o755)
    assert (host.holders, host.problems) == ((), ())


@pytest.mark.unit_long
def test_of_very_many_holders_each_function_has_some_and_a_snapshot_too(tmp_path: Path) -> None:
    """An extract longer than an attribute of sysfs may be; the last GPU is held all the same."""
    nodes = ("/dev/nvidia0", "/dev/nvidia1")
    processes = [Process(pid, "a-longish-job", nodes) for pid in range(2, 802)]
    functions = (FIRST, AUDIO, SECOND)
    root = write_machine(tmp_path / "host", Machine(functions, processes=tuple(processes)))
    host = read_host(root)
    counted = Counter(str(holder.device) for holder in host.holders)
    assert counted == {FIRST.address: 250, SECOND.address: 250}
    (tmp_path / "s.tar.gz").write_bytes(take_snapshot(root, lambda _: None))
    assert read_machine(tmp_path / "s.tar.gz") == host
