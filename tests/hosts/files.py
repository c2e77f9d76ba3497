"""Files and relative links, as sysfs has them.

A machine has thousands of them, so a folder is made when it turns out to be missing.
"""

from itertools import takewhile
from pathlib import Path


def put(path: Path, data: bytes | str) -> None:
    """Writes a file, and the folders above it; a text gets the line end of a sysfs attribute."""
    content = data if isinstance(data, bytes) else data.encode() + b"\n"
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def link(path: Path, target: Path) -> None:
    """A link at `path` to `target`, relative as the kernel's are."""
    here, there = path.parent.parts, target.parts
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False))
    )
    relative = "/".join((*[".."] * (len(here) - same), *there[same:]))
    try:
        path.symlink_to(relative)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(relative)
