"""Which processes hold device nodes of PCI functions open.

A scan of /proc/*/fd reads links and opens nothing: it wakes no device, and it cannot hang, as the
files `maps` and `cmdline` of a process that is stuck in the kernel can.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

from vfio_kit.errors import UsageError
from vfio_kit.host.tree import Tree
from vfio_kit.model import Holder, PciAddress, PciDevice

_BUDGET_S = 2.0
_MOST_PROCESSES = 100_000
_MOST_HOLDERS = 250
"""Of one function: more than anybody reads, and few enough for a snapshot's file."""
_TIME_EVERY = 512
"""Links read between two looks at the clock: a process may have a million files open."""

_SHARED_NODES = {
    "nvidia": ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"),
    "amdgpu": ("kfd",),
}
"""Driver -> nodes in /dev that stand for all of its GPUs at once."""
_SOUND = re.compile(r"/dev/snd/[A-Za-z]+C([0-9]+)(D[0-9]+[cp]?)?")
_PID = re.compile(r"[0-9]{1,10}")
_COMMAND = re.compile(r"[^ -~]")
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""


def read_holders(
    tree: Tree,
    devices: Iterable[PciDevice],
    *,
    budget_s: float = _BUDGET_S,
    most_processes: int = _MOST_PROCESSES,
) -> tuple[tuple[Holder, ...], bool]:
    """The holders of nodes of these functions, by function, process and node, of each the first
    few hundred; and whether the open files of all processes could be looked at, in `budget_s`
    seconds."""

    def compute() -> str:
        nodes = _nodes(tree, devices)
        if not nodes.own and not nodes.shared:
            return "seen"  # nothing that could be held
        holders, seen = _Scan(tree, nodes, budget_s, most_processes).run()
        by_function = groupby(holders, lambda holder: holder.device)
        kept = [h for _, of_one in by_function for h in islice(of_one, _MOST_HOLDERS)]
        lines = (f"{h.device} {h.node} {h.pid} {h.command}" for h in kept)
        return "\n".join(("seen" if seen else "unseen", *lines))

    first, *lines = (tree.extract("holders", compute) or "seen").splitlines()
    parsed = (_parsed(tree, line) for line in lines)
    return tuple(holder for holder in parsed if holder is not None), first != "unseen"


def _parsed(tree: Tree, line: str) -> Holder | None:
    match = re.fullmatch(r"(\S+) (/dev/[\w/-]+) ([0-9]{1,10}) ?([ -~]{0,64})", line)
    try:
        if match is not None:
            return Holder(PciAddress.parse(match[1]), match[2], int(match[3]), match[4])
    except UsageError:
        pass  # said below
    tree.note("extracts/holders", f"holds {line[:40]!r}, not a holder")
    return None


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Device nodes (or `snd N`, for all nodes of a sound card) -> functions that they belong to."""

    own: dict[str, list[PciAddress]] = field(default_factory=dict)
    shared: dict[str, list[PciAddress]] = field(default_factory=dict)


def _nodes(tree: Tree, devices: Iterable[PciDevice]) -> _Nodes:
    nodes = _Nodes()
    for device in devices:
        for node in _own_nodes(tree, device):
            nodes.own.setdefault(node, []).append(device.address)
        for name in _SHARED_NODES.get(device.driver or "", ()):
            nodes.shared.setdefault(f"/dev/{name}", []).append(device.address)
    return nodes


def _own_nodes(tree: Tree, device: PciDevice) -> Iterator[str]:
    """The kernel lists DRM devices, framebuffers, sound cards and vfio devices below the function.

    NVIDIA's driver does not: its nodes have the minor number that it tells in procfs.
    """
    base = f"sys/bus/pci/devices/{device.address}"
    yield from (f"/dev/dri/{name}" for name in tree.names(f"{base}/drm"))
    yield from (f"/dev/{name}" for name in tree.names(f"{base}/graphics"))
    yield from (f"/dev/vfio/devices/{name}" for name in tree.names(f"{base}/vfio-dev"))
    for name in tree.names(f"{base}/sound"):
        if name.startswith("card"):
            yield f"snd {name.removeprefix('card')}"
    if device.iommu_group is not None and "vfio" in (device.driver or ""):
        yield f"/dev/vfio/{device.iommu_group}"
    about = tree.text(f"proc/driver/nvidia/gpus/{device.address}/information", private=True)
    minor = re.search(r"(?m)^Device Minor:\s*([0-9]+)\s*$", about or "")
    if minor is not None:
        yield f"/dev/nvidia{minor[1]}"


class _Scan:
    """One pass over the processes; `run` gives what it found, and whether that is all there is."""

    def __init__(self, tree: Tree, nodes: _Nodes, budget_s: float, most_processes: int) -> None:
        self._tree = tree
        self._nodes = nodes
        self._deadline = time.monotonic() + budget_s
        self._most = most_processes
        self._denied = False

    def run(self) -> tuple[list[Holder], bool]:
        tree = self._tree
        own_pid = os.getpid() if tree.live else None
        pids = sorted(int(n) for n in tree.names("proc") if _PID.fullmatch(n))
        found = []
        for pid in pids[: self._most]:
            if pid != own_pid:
                found += self._holders(pid)
            if self._late():
                break
        if self._late() or len(pids) > self._most:
            tree.note("proc", "too many processes or open files; not all were looked at")
            return sorted(found, key=_order), False
        return sorted(found, key=_order), self._all_visible()

    def _late(self) -> bool:
        return time.monotonic() > self._deadline

    def _all_visible(self) -> bool:
        """An ordinary user sees the files of his own processes; a container its own processes."""
        tree = self._tree
        if not tree.live:
            return not self._denied
        if tree.target("proc/self/ns/pid") not in (None, _INITIAL_PID_NAMESPACE):
            tree.note("proc", "this is a container; the host's processes are not seen from here")
            return False
        if os.geteuid() != 0:
            return False
        if self._denied:
            tree.note(
                "proc",
                "root may not look at some processes' open files here: CAP_SYS_PTRACE is missing",
            )
        return not self._denied

    def _holders(self, pid: int) -> list[Holder]:
        targets = set(self._open_files(pid))
        own = [(a, node) for node in targets for a in self._nodes.own.get(_key(node), ())]
        # A process with a node of one GPU open uses that one, whatever the shared nodes allow.
        busy = {address for address, _ in own}
        for node in targets & self._nodes.shared.keys():
            all_of_them = self._nodes.shared[node]
            own += [(a, node) for a in all_of_them if a in busy or busy.isdisjoint(all_of_them)]
        if not own:
            return []
        command = self._tree.text(f"proc/{pid}/comm", private=True) or "?"
        command = _COMMAND.sub("?", command)[:16]
        return [Holder(address, node, pid, command) for address, node in own]

    def _open_files(self, pid: int) -> Iterator[str]:
        """What the process has open below /dev; a process that has gone has nothing open."""
        tree, folder = self._tree, f"proc/{pid}/fd"
        for count, name in enumerate(tree.names(folder, private=True)):
            path = f"{folder}/{name}"
            target = tree.target(path, private=True)
            # Root without CAP_SYS_PTRACE is shown the list, and nothing of what is in it. (Asked
            # twice, since the number may be another file's by now.)
            if target is None and tree.exists(path) and not tree.target(path, private=True):
                self._denied = True
                return
            if target is not None and target.startswith("/dev/"):
                yield target.removesuffix(" (deleted)")
            if count % _TIME_EVERY == _TIME_EVERY - 1 and self._late():
                return


def _key(node: str) -> str:
    sound = _SOUND.fullmatch(node)
    return node if sound is None else f"snd {sound[1]}"


def _order(holder: Holder) -> tuple[PciAddress, int, str]:
    return holder.device, holder.pid, holder.node
