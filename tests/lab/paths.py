"""Where the lab keeps what it builds and what it runs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the lab's folder below `$VFIO_KIT_CACHE` (default `~/.cache/vfio-kit`)."""
    root = os.environ.get("VFIO_KIT_CACHE") or Path.home() / ".cache" / "vfio-kit"
    return Path(root).resolve() / "lab"


def run_dir() -> Path:
    """Return the folder with the state of the one host that may run."""
    return cache_dir() / "run"


def key_file() -> Path:
    """Return the private SSH key that the lab's host accepts."""
    return cache_dir() / "key"
