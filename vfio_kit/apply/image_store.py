"""The images in a folder: those that were fetched and verified, and those that were baked.

Beside a fetched image NAME lies its record NAME.json: where it is from, its checksum, and who
vouched for it. Beside a baked image NAME.qcow2 lies its manifest NAME.manifest.json, of the schema
vfio-kit/image/1. What is said of an image holds for as long as its size and its time of change are
those of the record.
"""

import errno
import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

from vfio_kit.apply.files import cannot, remove, write_file
from vfio_kit.apply.manifest import MANIFEST_SUFFIX, image_of, manifest_of
from vfio_kit.apply.manifest import SCHEMA as MANIFEST_SCHEMA
from vfio_kit.errors import HostError

_SCHEMA = "vfio-kit/fetched-image/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
"""Of an image that was fetched: a file beside its record, and nothing else."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A fetched image. Times are in ISO 8601, UTC, but for `last_modified`."""

    guest: str
    file: str
    url: str
    serial: str | None
    """As asked for; None where the newest one was."""
    last_modified: str | None
    """As the server gave it: an HTTP date (RFC 9110, 5.6.7)."""
    algorithm: str
    digest: str
    """Of the whole file, lower-case hex."""
    size: int
    """In bytes."""
    changed: int
    """The file's time of change, in seconds since 1970, when it was verified."""
    signed_by: str | None
    """Fingerprint of the key that signed the checksums; None where the operator gave the digest."""
    signed_at: str | None
    verified_at: str

    @classmethod
    def read(cls, document: Any) -> Self:
        """The record in a JSON document; raises ValueError where it is none."""
        if not isinstance(document, dict) or document.pop("schema", None) != _SCHEMA:
            raise ValueError(f"it is not of the schema {_SCHEMA}")
        optional = {"serial", "last_modified", "signed_by", "signed_at"}
        for name, kind in cls.__annotations__.items():
            value = document.get(name)
            expected = int if kind is int else str
            if not isinstance(value, expected) and not (value is None and name in optional):
                raise ValueError(f"{name} is {value!r}")
            # The server's date is kept as it came, and never told.
            if isinstance(value, str) and name != "last_modified" and not value.isprintable():
                raise ValueError(f"{name} is {value!r}")
        if not _NAME.fullmatch(document["file"]):
            raise ValueError(f"file is {document['file']!r}")
        for name in ("signed_at", "verified_at"):
            _require_time(name, document[name])
        return cls(**{name: document[name] for name in cls.__annotations__})

    def published(self) -> datetime:
        """When its publisher let it out, as well as can be known: signed, else uploaded."""
        if self.signed_at is not None:
            return datetime.fromisoformat(self.signed_at)
        try:
            when = parsedate_to_datetime(self.last_modified or "")
        except (ValueError, OverflowError):
            return datetime.fromisoformat(self.verified_at)
        return when.replace(tzinfo=when.tzinfo or UTC)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that lies in the folder; `record` is None for a baked one."""

    path: Path
    guest: str | None
    size: int
    record: ImageRecord | None
    intact: bool
    """Whether nothing was written to it since; true for a baked one, of which nobody knows."""


def record_of(image: Path) -> Path:
    return image.with_name(f"{image.name}.json")


def save_record(folder: Path, record: ImageRecord) -> None:
    """Writes the record beside the image; readable by all."""
    document = {"schema": _SCHEMA, **asdict(record)}
    text = json.dumps(document, indent=2) + "\n"
    write_file(record_of(folder / record.file), text.encode(), 0o644)


def stored_images(folder: Path) -> list[StoredImage]:
    """Those in the folder, by name; none where it is not there. HostError where it is closed."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", folder, error) from None
    return [image for file in files if (image := _stored(file)) is not None]


def fetched_image(guest: str, folder: Path) -> Path | None:
    """The image of a guest system that was published last, of the verified ones there.

    One that was written to since it was verified does not count. None where there is none.
    """
    verified = [
        image.record
        for image in stored_images(folder)
        if image.record is not None and image.intact and image.guest == guest
    ]
    newest = max(verified, key=ImageRecord.published, default=None)
    return None if newest is None else folder / newest.file


def remove_image(image: StoredImage) -> None:
    """Removes the image, then what is said of it; who stands on it is the caller's to ask."""
    remove(image.path)
    if image.record is None:
        remove(manifest_of(image.path))
    else:
        remove(record_of(image.path))


def _require_time(name: str, text: str | None) -> None:
    """Raises ValueError for what is no time that can be compared with others."""
    try:
        comparable = text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        comparable = False
    if not comparable:
        raise ValueError(f"{name} is {text!r}")


def _stored(file: Path) -> StoredImage | None:
    """The image that a JSON file is about; None where it is about none, or that is gone."""
    if _look(file) is None:
        return None  # a folder, a pipe, a link to nowhere: nobody's record
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError, PermissionError):
        return None  # somebody else's file: ours are JSON, and open to all
    except OSError as error:
        raise cannot("read", file, error) from None
    if not isinstance(document, dict):
        return None
    if document.get("schema") == MANIFEST_SCHEMA and file.name.endswith(MANIFEST_SUFFIX):
        return _baked(file, document)
    if document.get("schema") != _SCHEMA:
        return None
    try:
        record = ImageRecord.read(document)
    except ValueError as error:
        raise HostError(f"{file} is damaged: {error}", f"rm {file}; and fetch again") from None
    path = file.with_name(record.file)
    found = _look(path)
    if found is None:
        return None
    intact = (found.st_size, int(found.st_mtime)) == (record.size, record.changed)
    return StoredImage(path, record.guest, found.st_size, record, intact)


def _baked(file: Path, manifest: dict[str, Any]) -> StoredImage | None:
    path = image_of(file)
    guest = manifest.get("guest")
    found = _look(path)
    if found is None:
        return None
    return StoredImage(path, guest if isinstance(guest, str) else None, found.st_size, None, True)


def _look(path: Path) -> os.stat_result | None:
    """A file's size and times; None for what is no file, or is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise cannot("look at", path, error) from None
    return found if stat.S_ISREG(found.st_mode) else None
