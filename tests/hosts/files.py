"""Files and relative links, as sysfs has them."""

import os
from pathlib import Path


def put(path: Path, data: bytes | str) -> None:
    """Writes a file, and the folders above it; a text gets the line end of a sysfs attribute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode() + b"\n")


def link(path: Path, target: Path) -> None:
    """A link at `path` to `target`, relative as the kernel's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))
