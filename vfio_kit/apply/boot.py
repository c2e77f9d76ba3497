"""Which boot of the host this is: what was done on another one is gone by itself, or was undone."""

from pathlib import Path

from vfio_kit.errors import HostError

_BOOT = "proc/sys/kernel/random/boot_id"


def boot_id(root: Path = Path("/")) -> str:
    """The kernel's name for this boot; HostError where it cannot be read."""
    try:
        return (root / _BOOT).read_text().strip()
    except OSError as error:
        raise HostError(f"cannot read {root / _BOOT}: {error.strerror}") from None
