"""Files written so that a crash leaves the old or the new one; nobody else reads them."""

import errno
import os
import pwd
import shlex
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vfio_kit.errors import HostError, UsageError

_QEMU_USERS = ("libvirt-qemu", "qemu")
"""To whom libvirt gives what a VM is started from: Debian and Ubuntu; Fedora and its kin."""


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes a file atomically, with these permission bits from its first moment, and fsyncs it.

    Raises HostError that names the path: no space, no permission.
    """
    temporary = _temporary(path)
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
        except BaseException:  # an interrupt, too, leaves no half of a secret behind
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot("write", path, error) from None


def mount_of(path: Path) -> Path:
    """Where the file system is mounted that has the file, or would have it."""
    folder = path.parent.resolve()
    return next(place for place in (folder, *folder.parents) if place.is_mount())


def owners_of(paths: Iterable[str]) -> dict[str, list[int]]:
    """User and group of each file that is there."""
    found = {}
    for path in paths:
        with suppress(OSError):  # what is missing, whoever opens it says
            seen = Path(path).stat()
            found[path] = [seen.st_uid, seen.st_gid]
    return found


def give_back_owners(owners: Mapping[str, list[int]], users: tuple[str, ...] = _QEMU_USERS) -> None:
    """Each file that one of these users has now to whom it belonged, by `owners_of`.

    Raises HostError for one that cannot be given back; one that is gone has no owner.
    """
    for path, (user, group) in owners.items():
        try:
            seen = Path(path).stat()
            if (seen.st_uid, seen.st_gid) != (user, group) and _name_of(seen.st_uid) in users:
                os.chown(path, user, group)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise cannot("give back", Path(path), error) from None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return ""


def target_of(path: Path) -> Path:
    """Where a file stands that is to be written by the name `path`, which may be a link to it.

    Raises UsageError for a link that somebody else put there, as anybody may in /tmp: the kernel's
    protected_symlinks (proc_sys_fs(5)) does not help where a link is read, and not followed. Raises
    OSError, and RuntimeError for links that go round (Python 3.12 and older).
    """
    if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{path} is a link of somebody else's, to {path.readlink()}", "name another file"
        )
    return path.resolve()


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Makes a folder, and those above it, where it is missing; one that is there keeps its mode."""
    try:
        if not path.is_dir():
            # Those above it for all to pass and nobody else to write to, whatever the umask is.
            for above in reversed([folder for folder in path.parents if not folder.exists()]):
                above.mkdir()
                above.chmod(0o755)
            path.mkdir(mode=mode)
            path.chmod(mode)
            sync_folder(path.parent)
    except OSError as error:
        raise cannot("make the folder", path, error) from None


def remove(path: Path) -> None:
    """Removes a file if it is there, and what a crash in the middle of writing it left."""
    try:
        path.unlink(missing_ok=True)
        _temporary(path).unlink(missing_ok=True)
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


def require_reachable(path: Path, what: str) -> None:
    """Raises HostError where QEMU's own user could not read the file, or not come to it.

    libvirt makes a disk, a kernel and an initrd readable, but no folder above them; and a base
    image that it makes its own it would not give back.
    """
    closed = [str(folder) for folder in path.resolve().parents if not _others(folder, stat.S_IXOTH)]
    if closed:
        raise HostError(
            f"QEMU's user cannot reach the {what} {path}: {closed[-1]} is closed to others",
            "move it into /var/lib/libvirt/images",
        )
    if not _others(path, stat.S_IROTH):
        raise HostError(f"QEMU's user cannot read the {what} {path}", f"chmod o+r {path}")


def require_trusted(folder: Path, what: str) -> None:
    """Raises HostError where somebody else could exchange what is put into `folder`.

    What root makes there is looked at, named to QEMU and removed again by its path. So the folder,
    those above it and the links that lead there belong to root or to whoever runs this, and nobody
    else may write to them; in those above, as in /tmp, the sticky bit will do. A folder that is not
    there is judged by those above it. (OpenSSH asks the same of authorized_keys: StrictModes.)
    """
    for path in (folder.absolute(), folder.resolve()):
        for part in (*reversed(path.parents), path):
            try:
                state = part.lstat()
            except FileNotFoundError:
                break
            except OSError as error:
                raise cannot("look at", part, error) from None
            found = _exchangeable(state, last=part == path)
            if found is not None:
                reason, cure = found
                raise HostError(
                    f"the {what} {folder} is not safe: {part} {reason}",
                    f"{cure} {shlex.quote(str(part))}; or give another folder",
                )
            if stat.S_ISDIR(state.st_mode) and not state.st_mode & (stat.S_IXGRP | stat.S_IXOTH):
                break  # nobody else comes any further


def _exchangeable(state: os.stat_result, *, last: bool) -> tuple[str, str] | None:
    """How somebody else could exchange what stands in a folder, and what ends that; or None."""
    if state.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {state.st_uid}", "chown -h root"
    if stat.S_ISLNK(state.st_mode) or (state.st_mode & stat.S_ISVTX and not last):
        return None
    if state.st_mode & stat.S_IWOTH:
        return "may be written to by everybody", "chmod go-w"
    if state.st_mode & stat.S_IWGRP and state.st_gid not in (0, os.getegid()):
        return f"may be written to by the group {state.st_gid}", "chmod g-w"
    return None


def _others(path: Path, bit: int) -> bool:
    try:
        return bool(path.stat().st_mode & bit)
    except OSError as error:
        raise cannot("look at", path, error) from None


def sync_folder(folder: Path) -> None:
    """Makes a new or a changed name in the folder survive a crash; raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot(verb: str, path: Path, error: OSError) -> HostError:
    """The error for a file operation that the host refused."""
    hint = {
        "ENOSPC": f"make room: df -h {path.parent}",
        "EACCES": "run as root: sudo vfio-kit …",
        "EPERM": "run as root: sudo vfio-kit …",
    }.get(_symbol(error), "")
    return HostError(f"cannot {verb} {path}: {error.strerror or error}", hint)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _symbol(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "")
