"""What is mounted and swapped to, and on which PCI functions that rests."""

import re
from collections.abc import Iterable, Iterator

from vfio_kit.host.public import public_block, public_path
from vfio_kit.host.tree import Tree
from vfio_kit.host.uses.blocks import Blocks
from vfio_kit.host.uses.mounts import Mount, read_mounts, read_swaps
from vfio_kit.host.uses.network import Network
from vfio_kit.host.uses.stack import DEEPEST, Stack, merged, on_top
from vfio_kit.model import Use, UseKind

_BTRFS = "sys/fs/btrfs"
_UPPER = re.compile(r"(?:^|,)upperdir=([^,]+)")
_LOWER = re.compile(r"(?:^|,)lowerdir=([^,:]+)")
_SERVER = re.compile(r"(?:^|,)addr=([^,]+)")


class Storage:
    """The file systems of a machine."""

    def __init__(self, tree: Tree, network: Network) -> None:
        self._tree = tree
        self._network = network
        self._blocks = Blocks(tree, network, self._file_below)
        self._mounts = read_mounts(tree)
        self._by_point = {mount.point: mount for mount in self._mounts}
        self._known: dict[tuple[str, str, str, str], Stack] = {}
        self._open: list[Mount] = []

    def mount_uses(self) -> Iterator[Use]:
        for mount in self._mounts:
            for address, names in self._below(mount).items():
                yield Use(address, UseKind.MOUNT, public_path(mount.point), names)

    def swap_uses(self) -> Iterator[Use]:
        for path in read_swaps(self._tree):
            name = self._blocks.at(path)
            what = public_path(path) if name is None else public_block(name)
            stack = self._file_below(path) if name is None else self._blocks.below(name)
            for address, names in stack.items():
                yield Use(address, UseKind.SWAP, what, tuple(n for n in names if n != what))

    def _file_below(self, path: str) -> Stack:
        """What is below the file system that a file is in: that of the nearest mount point."""
        while path.startswith("/"):
            mount = self._by_point.get(path)
            if mount is not None:
                return self._below(mount)
            path = path.rpartition("/")[0] or ("/" if path != "/" else "")
        return {}

    def _below(self, mount: Mount) -> Stack:
        # Bind mounts share their file system; a cluster's node has thousands of them.
        key = (mount.number, mount.filesystem, mount.source, mount.options)
        if key not in self._known:
            if mount in self._open or len(self._open) >= DEEPEST:
                return {}
            self._open.append(mount)
            self._known[key] = self._look_below(mount)
            self._open.pop()
        return self._known[key]

    def _look_below(self, mount: Mount) -> Stack:
        if not mount.number.startswith("0:"):
            name = self._blocks.named(mount.number)
            return {} if name is None else self._blocks.below(name)
        match mount.filesystem:
            case "btrfs":
                return self._btrfs(mount.source)
            case "zfs":
                return self._zfs(mount.source)
            case "bcachefs":
                members = map(self._blocks.at, mount.source.split(":"))
                return self._members(filter(None, members), "a bcachefs")
            case "overlay":
                layer = _UPPER.search(mount.options) or _LOWER.search(mount.options)
                return on_top(self._file_below(layer[1]), "overlay") if layer else {}
            case "nfs" | "nfs4" | "cifs" | "smb3":
                server = _SERVER.search(mount.options)
                return self._network.remote(server[1], mount.filesystem) if server else {}
        return {}

    def _btrfs(self, source: str) -> Stack:
        """All devices of the file system that the mount's source is one of."""
        name = self._blocks.at(source)
        folders = (f"{_BTRFS}/{uuid}/devices" for uuid in self._tree.names(_BTRFS))
        known = [members for members in map(self._tree.names, folders) if members]
        own = [members for members in known if name in members]
        if name is not None and not own:
            return self._blocks.below(name)
        # A source that is no device in sysfs, as /dev/root, may be any of them.
        return merged(self._members(members, "a btrfs") for members in own or known)

    def _zfs(self, source: str) -> Stack:
        pool = re.split(r"[/@]", source, maxsplit=1)[0]
        members = self._blocks.zfs_members(pool)
        if not members:
            self._tree.note("run/udev/data", "ZFS is mounted, and no member of its pool is known")
        return self._members(members, "a ZFS pool")

    def _members(self, names: Iterable[str], what: str) -> Stack:
        members = list(names)
        stack = merged(map(self._blocks.below, members))
        return on_top(stack, f"{what} of {len(members)} devices") if len(members) > 1 else stack
