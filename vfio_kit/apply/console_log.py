"""What a guest's console said last, while nobody can log in to it."""

import os
from pathlib import Path

_TAIL = 4096


def last_line(path: Path) -> str:
    """The last line that is not empty, as bytes that may be anything were decoded; else nothing."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            data = stream.read(_TAIL)
    except OSError:  # not there yet
        return ""
    lines = data.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
