"""Files written so that a crash leaves the old or the new one; nobody else reads them."""

import errno
import os
import shutil
from pathlib import Path

from vfio_kit.errors import HostError


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes a file atomically, with these permission bits from its first moment, and fsyncs it.

    Raises HostError that names the path: no space, no permission.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchmod(handle, mode)
                stream.write(data)
                stream.flush()
                os.fsync(handle)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from None


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Makes a folder, and those above it, where it is missing; one that is there keeps its mode."""
    try:
        if not path.is_dir():
            path.mkdir(mode=mode, parents=True)
            path.chmod(mode)
    except OSError as error:
        raise cannot("make the folder", path, error) from None


def remove(path: Path) -> None:
    """Removes a file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot("remove", path, error) from None


def require_space(folder: Path, mib: int) -> None:
    """Raises HostError where `folder` has not that much room, or is not there."""
    try:
        free = shutil.disk_usage(folder).free >> 20
    except OSError as error:
        raise cannot("write into", folder, error) from None
    if free < mib:
        raise HostError(
            f"only {free} MiB are free in {folder}; a guest that boots writes {mib} MiB",
            f"make room: df -h {folder}; or put the disk elsewhere with --image-dir",
        )


def cannot(verb: str, path: Path, error: OSError) -> HostError:
    """The error for a file operation that the host refused."""
    hint = {
        "ENOSPC": f"make room: df -h {path.parent}",
        "EACCES": "run as root: sudo vfio-kit …",
        "EPERM": "run as root: sudo vfio-kit …",
    }.get(_symbol(error), "")
    return HostError(f"cannot {verb} {path}: {error.strerror or error}", hint)


def _symbol(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
