"""Fetching a guest's image: first what vouches for it, then the image, then the checksum.

The file's name carries its checksum, so that another image never takes the place of one that a
VM's overlay stands on.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path, PurePosixPath

from vfio_kit.apply.fetch import Downloaded, download, get_small
from vfio_kit.apply.files import cannot, make_folder, remove, sync_folder
from vfio_kit.apply.image_store import ImageRecord, save_record, stored_images
from vfio_kit.apply.openpgp import Signed, verify
from vfio_kit.apply.web import Web
from vfio_kit.errors import HostError, Refused, UsageError
from vfio_kit.knowledge.cloud_images import CloudImage

_HEX_IN_NAME = 12
"""Digits of the checksum in the name of the file: enough to tell, short enough to read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch, and where from."""

    row: CloudImage
    serial: str | None = None
    digest: str | None = None
    """What the operator trusts, for a row that has no signature; lower-case hex."""
    mirror: str | None = None
    """In the place of the row's origin; ends with a slash."""

    def url(self, name: str) -> str:
        return f"{self.mirror or self.row.origin}{self.row.folder(self.serial)}{name}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is there now; `new` says whether it was downloaded, or was there before."""

    path: Path
    record: ImageRecord
    new: bool


def require_sense(wanted: Wanted) -> None:
    """Raises UsageError for a serial or a digest that the row cannot mean, or that it lacks."""
    row = wanted.row
    if wanted.serial is not None and not re.fullmatch(row.serial_pattern, wanted.serial):
        raise UsageError(
            f"{wanted.serial!r} is no serial of {row.guest}",
            f"one looks like {row.serial_example}; those there are: {row.source}",
        )
    if row.key is None and wanted.digest is None:
        raise UsageError(
            f"nobody signs the checksums of {row.guest}: without a digest that you trust, nothing "
            "would tell its image from another",
            f"give --{row.algorithm} DIGEST, from a source that you trust; what the server itself "
            f"says is in {wanted.url(row.checksums)}",
        )
    if row.key is not None and wanted.digest is not None:
        raise UsageError(
            f"{row.guest} takes no digest: its checksums are signed by {row.key.owner}",
            "leave the digest out; --serial names one release",
        )
    length = 2 * hashlib.new(row.algorithm).digest_size
    if wanted.digest is not None and not re.fullmatch(rf"[0-9a-f]{{{length}}}", wanted.digest):
        raise UsageError(
            f"{wanted.digest!r} is no {row.algorithm.upper()} digest", f"it has {length} hex digits"
        )


def fetch_image(wanted: Wanted, folder: Path, web: Web) -> Fetched:
    """Puts a verified image into the folder, or finds that it is there already.

    Raises UsageError as `require_sense` does; Refused where a signature or a checksum is not what
    it has to be, after which nothing of the image is left; HypervisorError and HostError as
    `fetch.download` does, after which what was downloaded is.
    """
    require_sense(wanted)
    vouched = "checksums" if wanted.row.key is None else "checksums, and their signature"
    with web.timed(vouched, "asking for the checksums"):
        digest, signed = _expected(wanted, web)
    kind = PurePosixPath(wanted.row.file(wanted.serial)).suffix
    target = folder / f"{wanted.row.guest}-{digest[:_HEX_IN_NAME]}{kind}"
    make_folder(folder, 0o755)
    _warn_of_older(wanted, signed, folder, web.note)
    if target.exists():
        with web.timed("compared with its checksum", "comparing it with its checksum"):
            _require_digest(target, digest, wanted.row)
        return Fetched(target, _record(wanted, target, digest, signed, None), False)
    _drop_other_parts(target, wanted.row.guest, web.note)
    with _part(target) as part:
        last_modified = _download_verified(wanted, part, target, digest, web)
        _put_in_place(part, target)
    remove(_version_file(target))
    return Fetched(target, _record(wanted, target, digest, signed, last_modified), True)


def _expected(wanted: Wanted, web: Web) -> tuple[str, Signed | None]:
    """The digest that the image must have, before a byte of it is asked for."""
    row = wanted.row
    url = wanted.url(row.checksums)
    name = row.file(wanted.serial)
    sums = get_small(url, web)
    if row.key is None or row.signature is None:
        assert wanted.digest is not None
        published = _listed(sums, name, url)
        if published != wanted.digest:
            raise Refused(
                f"the server has another {name} than the one you trust: its "
                f"{row.algorithm.upper()} is {published}",
                f"the newest may have come out since: name yours with --serial; see {row.source}",
            )
        return wanted.digest, None
    signature_url = wanted.url(row.signature)
    signed = verify(sums, get_small(signature_url, web), row.key, signature_url)
    return _listed(sums, name, url), signed


def _listed(sums: bytes, name: str, url: str) -> str:
    """The digest of a file in a list as sha256sum writes it; lower-case hex."""
    lines = sums.decode("utf-8", "replace").splitlines()
    found = {
        match[1].lower()
        for line in lines
        if (match := re.fullmatch(r"([0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *](.+)", line))
        and match[2].removeprefix("./") == name
    }
    if len(found) != 1:
        raise Refused(
            f"{url} has {'no' if not found else 'more than one'} checksum of {name}",
            "is it the list of another release?",
        )
    return found.pop()


def _warn_of_older(
    wanted: Wanted, signed: Signed | None, folder: Path, note: Callable[[str], None]
) -> None:
    """A signature does not say that it is the newest one: a mirror may be old, or be made so."""
    if signed is None or wanted.serial is not None:
        return
    known = [
        image.record.published()
        for image in stored_images(folder)
        if image.record is not None and image.guest == wanted.row.guest
    ]
    if known and signed.at < max(known):
        note(
            f"warning: these checksums were signed on {signed.at:%Y-%m-%d}, before those of an "
            f"image that is here ({max(known):%Y-%m-%d}): the mirror is behind"
        )


def _download_verified(
    wanted: Wanted, part: FileIO, target: Path, digest: str, web: Web
) -> str | None:
    """Fills the part and checks it; a wrong one that was gone on with is fetched once more."""
    url = wanted.url(wanted.row.file(wanted.serial))
    while True:
        with web.timed(f"downloaded {target.name}", "downloading"):
            done: Downloaded = download(url, part, _version_file(target), web)
        with web.timed("compared with its checksum", "comparing it with its checksum"):
            found = _digest(part, wanted.row.algorithm)
        if found == digest:
            return done.last_modified
        part.truncate(0)
        if not done.resumed:
            break
        web.note("the checksum of what was gone on with is wrong: from the start")
    _drop(target)
    raise Refused(
        f"{url} is not what its checksum says: {wanted.row.algorithm.upper()} is {found}, "
        f"must be {digest}; it was removed",
        "repeat it once: the publisher may have replaced it just now; "
        "else do not trust this server",
    )


def _put_in_place(part: FileIO, target: Path) -> None:
    """Readable by QEMU's user, on the disk, and under its name in one step."""
    try:
        os.fchmod(part.fileno(), 0o644)
        os.fsync(part.fileno())
        Path(str(part.name)).rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot("write", target, error) from None


def _record(
    wanted: Wanted, target: Path, digest: str, signed: Signed | None, last_modified: str | None
) -> ImageRecord:
    """Writes down what the image is; what an earlier record knew of its date is kept."""
    row = wanted.row
    before = {i.record.file: i.record for i in stored_images(target.parent) if i.record}
    known = before.get(target.name)
    stat = target.stat()
    record = ImageRecord(
        guest=row.guest,
        file=target.name,
        url=wanted.url(row.file(wanted.serial)),
        serial=wanted.serial or (known.serial if known else None),
        last_modified=last_modified or (known.last_modified if known else None),
        algorithm=row.algorithm,
        digest=digest,
        size=stat.st_size,
        changed=int(stat.st_mtime),
        signed_by=None if signed is None else signed.fingerprint,
        signed_at=None if signed is None else signed.at.isoformat(),
        verified_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    save_record(target.parent, record)
    return record


def _require_digest(target: Path, digest: str, row: CloudImage) -> None:
    """One that is there is hashed again; a wrong one is never overwritten: a VM may stand on it."""
    try:
        with target.open("rb", buffering=0) as stream:
            found = _digest(stream, row.algorithm)
    except OSError as error:
        raise cannot("read", target, error) from None
    if found != digest:
        raise Refused(
            f"{target} is not what was verified: its {row.algorithm.upper()} is {found}",
            f"somebody wrote to it, perhaps a VM started on it; vfio-kit image rm {target.name}, "
            "and fetch it again",
        )


def _digest(stream: FileIO, algorithm: str) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, algorithm).hexdigest()


# Parts.


def _part_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _version_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.part.json")


@contextmanager
def _part(target: Path) -> Iterator[FileIO]:
    """The part of an image, to read and write; HostError where another vfio-kit has it."""
    path = _part_file(target)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o644)
    except OSError as error:
        raise cannot("write", path, error) from None
    # No buffer of Python's: what could not be written would be tried again when it is closed.
    with FileIO(handle, "r+") as stream:
        stream.name = path
        if not _lock(handle):
            raise HostError(
                f"another vfio-kit downloads {target.name}", f"find it: fuser -v {path}"
            )
        yield stream


def _drop_other_parts(target: Path, guest: str, note: Callable[[str], None]) -> None:
    """Parts of images that are not wanted any more, unless another vfio-kit is at work on them."""
    for path in sorted(target.parent.glob(f".{guest}-*.part")):
        other = target.with_name(path.name.removeprefix(".").removesuffix(".part"))
        if other == target:
            continue
        try:
            with path.open("rb") as stream:
                idle = _lock(stream.fileno())
        except OSError as error:
            raise cannot("read", path, error) from None
        if idle:
            note(f"removed {path}: it was part of another image")
            _drop(other)


def _drop(target: Path) -> None:
    remove(_part_file(target))
    remove(_version_file(target))


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
