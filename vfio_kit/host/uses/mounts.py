"""Mounts and swaps, as procfs lists them."""

import re
from dataclasses import dataclass

from vfio_kit.host.tree import LONG, Tree

_OCTAL = re.compile(r"\\([0-3][0-7]{2})")
_LONGEST = 8 * LONG
"""Bytes: the options of a container's overlay are a page, and there may be thousands of them."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    number: str
    """major:minor; 0:N for file systems without one block device."""
    point: str
    filesystem: str
    source: str
    options: str
    """Of the superblock."""


def read_mounts(tree: Tree) -> list[Mount]:
    """What this process sees mounted, and what init sees, where it may be asked.

    A process in a mount namespace of its own sees less, or other things, than the machine has.
    """
    lines = dict.fromkeys(
        line for process in ("self", "1") for line in _lines(tree, f"proc/{process}/mountinfo")
    )
    return [mount for mount in map(_mount, lines) if mount is not None]


def read_swaps(tree: Tree) -> list[str]:
    """Paths of the devices and files that are swapped to (proc_swaps(5))."""
    rows = (line.split() for line in _lines(tree, "proc/swaps")[1:])
    return [unescaped(row[0]) for row in rows if len(row) > 1 and row[0].startswith("/")]


def unescaped(text: str) -> str:
    r"""Spaces, tabs, newlines and backslashes are written as octal numbers: \040."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text).replace("\0", "?")


def _lines(tree: Tree, name: str) -> list[str]:
    # A mount point may hold any bytes; one odd name must not hide the others.
    data = tree.data(name, _LONGEST, private=True) or b""
    return data.decode("utf-8", errors="replace").split("\n")


def _mount(line: str) -> Mount | None:
    left, _, right = line.partition(" - ")
    first, last = left.split(" "), right.split(" ")
    if len(first) < 6 or len(last) < 2:
        return None
    return Mount(
        number=first[2],
        point=unescaped(first[4]),
        filesystem=last[0],
        source=unescaped(last[1]),
        options=unescaped(" ".join(last[2:])),
    )
