"""The offline bundle: a folder with all that a guest installs, checked, and put on an ISO.

    SHA256SUMS               of every file that counts, as sha256sum writes it
    apt/Packages, apt/*.deb  a flat repository
    cuda/*.run               NVIDIA's installer, where CUDA comes by it
    cuda-samples/*.tar.gz    the samples, where deviceQuery is built

Files that SHA256SUMS does not list do not count, and stay where they are.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pycdlib

from vfio_kit.apply.files import cannot, remove, require_space
from vfio_kit.errors import HypervisorError

BUNDLE_LABEL = "VFIO-KIT"
SUMS = "SHA256SUMS"
PACKAGES = "apt/Packages"

_AGAIN = "make it with make-bundle.sh: vfio-kit render --output bundle"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")
_DEEPEST = 7
"""Folders in one another, which ISO 9660 allows eight of, its root among them."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file that counts: its path within the bundle, and what SHA256SUMS says of it."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a folder holds, as far as can be seen without reading it all."""

    folder: Path
    files: tuple[BundleFile, ...]

    @property
    def mib(self) -> int:
        return (sum(file.size for file in self.files) >> 20) + 1


def examine_bundle(folder: Path) -> Bundle:
    """Looks whether all is there; raises HypervisorError that names what is not."""
    try:
        if (folder / SUMS).is_fifo():  # to open it would be to wait for somebody who writes
            raise HypervisorError(f"{folder / SUMS} is no file", _AGAIN)
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise HypervisorError(f"{folder} is no bundle: it has no {SUMS}", _AGAIN) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HypervisorError(f"{folder / SUMS} cannot be read: {error}", _AGAIN) from None
    files = [_listed(folder, number, line) for number, line in enumerate(lines, start=1)]
    bundle = Bundle(folder, tuple(sorted(files, key=lambda file: file.path)))
    _require_packages(bundle)
    return bundle


def _listed(folder: Path, number: int, line: str) -> BundleFile:
    """The file of a line of SHA256SUMS."""
    match = _LINE.fullmatch(line)
    path = PurePosixPath(match[2]) if match else PurePosixPath("..")
    if match is None or path.is_absolute() or ".." in path.parts or len(path.parts) > _DEEPEST:
        raise HypervisorError(f"{folder / SUMS}:{number} makes no sense: {line[:100]!r}", _AGAIN)
    file = folder / path
    try:
        state = file.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        if stat.S_ISREG(state.st_mode):
            return BundleFile(str(path), match[1], state.st_size)
        reason = "it is no file"
    raise HypervisorError(f"the bundle lacks {path}, which {SUMS} lists: {file}: {reason}", _AGAIN)


def _require_packages(bundle: Bundle) -> None:
    """Raises HypervisorError where apt in the guest would look for a file in vain."""
    listed = {file.path for file in bundle.files}
    if PACKAGES not in listed:
        raise HypervisorError(f"{bundle.folder / SUMS} does not list {PACKAGES}", _AGAIN)
    try:
        text = (bundle.folder / PACKAGES).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise cannot("read", bundle.folder / PACKAGES, error) from None
    for line in text.split("\n"):
        if line.startswith("Filename:"):
            name = str(PurePosixPath("apt") / line.removeprefix("Filename:").strip())
            if name not in listed:
                raise HypervisorError(
                    f"{bundle.folder / PACKAGES} names {name[:200]}, which {SUMS} does not list",
                    _AGAIN,
                )


def check_bundle(bundle: Bundle) -> None:
    """Reads every file once; raises HypervisorError that names those that are not as they were."""
    bad = [file.path for file in bundle.files if _digest(bundle.folder / file.path) != file.sha256]
    if bad:
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise HypervisorError(
            f"the bundle {bundle.folder} is damaged: {', '.join(bad[:3])}{more} "
            f"{'is' if len(bad) == 1 else 'are'} not what {SUMS} says",
            _AGAIN,
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise HypervisorError(f"{path} cannot be read: {error.strerror}", _AGAIN) from None


def write_bundle(path: Path, bundle: Bundle) -> None:
    """An ISO 9660 with Rock Ridge, labelled VFIO-KIT; mode 0644: it holds no secret.

    Without Joliet, whose names end at 64 characters. File by file: memory stays small, and a file
    may be larger than 4 GiB. Raises HostError that names the ISO, or the disk that is too small.
    """
    require_space(path.parent, bundle.mib + bundle.mib // 100 + 16)
    temporary = path.with_name(f".{path.name}.tmp")
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=BUNDLE_LABEL)
    try:
        _fill(iso, bundle)
        remove(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchmod(handle, 0o644)
                iso.write_fp(stream)
                stream.flush()
                os.fsync(handle)
            temporary.replace(path)
        except BaseException:  # an interrupt, too, leaves no gigabytes behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot("write", path, error) from None
    finally:
        iso.close()


def _fill(iso: pycdlib.PyCdlib, bundle: Bundle) -> None:
    """Names of ISO 9660 itself are numbers; Linux reads those of Rock Ridge."""
    folders: dict[PurePosixPath, str] = {PurePosixPath("."): ""}
    for number, name in enumerate((SUMS, *(file.path for file in bundle.files))):
        path = PurePosixPath(name)
        for parent in reversed(path.parents):
            if parent not in folders:
                folders[parent] = f"{folders[parent.parent]}/D{len(folders)}"
                iso.add_directory(folders[parent], rr_name=parent.name, file_mode=0o040555)
        iso.add_file(
            str(bundle.folder / path),
            f"{folders[path.parent]}/F{number}.;1",
            rr_name=path.name,
            file_mode=0o100444,
        )
