"""The PCI functions below block devices: partitions, arrays, volumes, encryption, loop devices.

Everything is followed from the top down, from what is mounted: a host may have thousands of block
devices, and few of them matter.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from vfio_kit.host.public import public_block
from vfio_kit.host.tree import Tree
from vfio_kit.host.uses.network import Network
from vfio_kit.host.uses.stack import DEEPEST, Stack, function_above, merged, on_top

_BLOCK = "sys/class/block"
_UDEV = "run/udev/data"

_DM_TYPES = (
    ("LVM-", "lvm"),
    ("CRYPT-", "crypt"),
    ("mpath-", "multipath"),
    ("part", "partition"),
    ("DMRAID-", "dmraid"),
    ("stratis-", "stratis"),
    ("VERITY-", "verity"),
    ("INTEGRITY-", "integrity"),
)
"""Prefixes of dm/uuid, by the tools that make such devices (libdevmapper.h, dm_task_set_uuid). What
follows them names volume groups and holds serial numbers."""

_MD_LEVEL = re.compile(r"raid[0-9]{1,2}|linear|multipath|container")
_CONTROLLER = re.compile(r"nvme[0-9]+")
_SESSION = re.compile(r"session([0-9]+)")
_TARGET = re.compile(r"(?:^|,)traddr=([^,]+)")


class Blocks:
    """The block devices of a machine, by their names in the kernel."""

    def __init__(self, tree: Tree, network: Network, file_below: Callable[[str], Stack]) -> None:
        """file_below gives what is below the file system that a path is in: of loop devices."""
        self._tree = tree
        self._network = network
        self._file_below = file_below
        self._known: dict[str, Stack] = {}
        self._open: set[str] = set()

    def below(self, name: str) -> Stack:
        """The PCI functions that a block device rests on, and what lies between."""
        if name in self._known:
            return self._known[name]
        if name in self._open or len(self._open) >= DEEPEST:
            return {}
        self._open.add(name)
        try:
            found = self._look_below(name)
        finally:
            self._open.discard(name)
        self._known[name] = found
        return found

    def named(self, number: str) -> str | None:
        """The name of the device major:minor."""
        return self._tree.link(f"sys/dev/block/{number}")

    def at(self, path: str) -> str | None:
        """The name of the device that a path in /dev leads to."""
        inside = path.removeprefix("/dev/")
        name = inside.replace("/", "!")  # as sysfs writes it: cciss!c0d0
        if not inside or inside == path:
            return None
        if self._tree.exists(f"{_BLOCK}/{name}"):
            return name
        if inside.startswith("mapper/"):
            wanted = inside.removeprefix("mapper/")
            for mapped in self._names("dm-"):
                if self._tree.text(f"{_BLOCK}/{mapped}/dm/name") == wanted:
                    return mapped
        target = self._tree.link(f"dev/{inside}") if self._tree.exists(f"dev/{inside}") else None
        return target if target and self._tree.exists(f"{_BLOCK}/{target}") else None

    def zfs_members(self, pool: str | None) -> list[str]:
        """Devices that udev found to be members of this ZFS pool; None: of any."""
        return [name for name, label in self._zfs_labels() if pool in (None, label)]

    def _names(self, prefix: str = "") -> list[str]:
        return [name for name in self._tree.names(_BLOCK) if name.startswith(prefix)]

    def _zfs_labels(self) -> Iterator[tuple[str, str]]:
        """ZFS tells nothing in sysfs of what a pool is made of; udev looked into every device."""
        for entry in self._tree.names(_UDEV):
            if entry[0] != "b":
                continue
            data = self._tree.data(f"{_UDEV}/{entry}", private=True) or b""
            if b"E:ID_FS_TYPE=zfs_member" not in data:
                continue
            lines = data.decode("utf-8", errors="replace").splitlines()
            labels = [line.partition("=")[2] for line in lines if line.startswith("E:ID_FS_LABEL=")]
            name = self.named(entry[1:])
            if name:
                yield name, labels[0] if labels else ""

    def _look_below(self, name: str) -> Stack:
        target = self._tree.target(f"{_BLOCK}/{name}") or ""
        address = function_above(target)
        if address is not None:
            return {address: (public_block(name),)}
        if self._tree.exists(f"{_BLOCK}/{name}/partition"):
            whole = target.rstrip("/").split("/")[-2:-1]
            return on_top(self.below(whole[0]) if whole else {}, public_block(name))
        slaves = self._tree.names(f"{_BLOCK}/{name}/slaves")
        if slaves:
            return self._assembled(name, slaves)
        return on_top(self._without_slaves(name, target.split("/")), public_block(name))

    def _assembled(self, name: str, slaves: Sequence[str]) -> Stack:
        level = self._tree.text(f"{_BLOCK}/{name}/md/level")
        if level is None:
            return on_top(merged(map(self.below, slaves)), self._mapped(name))
        level = level if _MD_LEVEL.fullmatch(level) else "md"
        members = self._active_members(name) or list(slaves)
        stacks = [self.below(member) for member in members]
        degraded = self._tree.text(f"{_BLOCK}/{name}/md/degraded") not in (None, "", "0")
        both = merged([*stacks, *map(self.below, slaves)])
        return {
            address: (
                *above,
                _array(public_block(name), level, _count(address, stacks), degraded=degraded),
            )
            for address, above in both.items()
        }

    def _active_members(self, name: str) -> list[str]:
        """md/rd0, rd1… lead to the members that hold data; spares and failed disks have none."""
        folder = f"{_BLOCK}/{name}/md"
        slots = [n for n in self._tree.names(folder) if n.startswith("rd") and n[2:].isdecimal()]
        links = (self._tree.link(f"{folder}/{slot}") for slot in slots)
        return [member.removeprefix("dev-") for member in links if member]

    def _mapped(self, name: str) -> str:
        if not name.startswith("dm-"):
            return public_block(name)  # bcache and drbd have slaves as well
        uuid = self._tree.text(f"{_BLOCK}/{name}/dm/uuid") or ""
        kind = next((kind for prefix, kind in _DM_TYPES if uuid.startswith(prefix)), "mapped")
        return f"{public_block(name)} ({kind})"

    def _without_slaves(self, name: str, path: list[str]) -> Stack:
        """Devices that are made of something that is no block device."""
        if name.startswith("loop"):
            file = self._tree.data(f"{_BLOCK}/{name}/loop/backing_file", private=True)
            return self._file_below(_path(file)) if file else {}
        if name.startswith("zd"):  # a volume of a ZFS pool; nothing says of which
            return merged(map(self.below, self.zfs_members(None)))
        if "nvme-subsystem" in path and len(path) > 1:
            folder = f"sys/class/nvme-subsystem/{path[-2]}"
            controllers = [n for n in self._tree.names(folder) if _CONTROLLER.fullmatch(n)]
            return merged(map(self._controller, controllers))
        if "nvme-fabrics" in path:
            return merged(self._controller(part) for part in path if _CONTROLLER.fullmatch(part))
        sessions = (match for match in map(_SESSION.fullmatch, path) if match)
        return merged(self._iscsi(match[1]) for match in sessions)

    def _controller(self, name: str) -> Stack:
        """Of an NVMe controller its PCI function; of one across a network, the way there."""
        folder = f"sys/class/nvme/{name}"
        address = function_above(self._tree.target(folder) or "")
        if address is not None:
            return {address: (name,)}
        found = _TARGET.search(self._tree.text(f"{folder}/address") or "")
        return self._network.remote(found[1], "NVMe over Fabrics") if found else {}

    def _iscsi(self, session: str) -> Stack:
        address = self._tree.text(
            f"sys/class/iscsi_connection/connection{session}:0/persistent_address"
        )
        return self._network.remote(address or "", "iSCSI")


def _count(address: object, stacks: Sequence[Stack]) -> tuple[int, int]:
    return sum(address in stack for stack in stacks), len(stacks)


def _array(name: str, level: str, members: tuple[int, int], *, degraded: bool) -> str:
    """md0 (raid1, 1 of 2): of two members, one is on the function that this is told of."""
    if degraded:
        return f"{name} ({level}, degraded)"
    if not members[0]:
        return f"{name} ({level}, a spare)"
    if level in ("raid1", "raid4", "raid5", "raid6", "raid10"):
        return f"{name} ({level}, {members[0]} of {members[1]})"
    return f"{name} ({level})"


def _path(data: bytes) -> str:
    text = data.decode("utf-8", errors="replace").strip().replace("\0", "?")
    return text.removesuffix(" (deleted)")
