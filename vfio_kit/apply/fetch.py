"""Files over HTTP: small ones whole, large ones in a part that a later attempt goes on with.

Beside a part, a file in JSON says which version of it the server has (RFC 9110, 8.8: ETag,
Last-Modified).
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from email.message import Message
from http import HTTPStatus
from io import FileIO
from pathlib import Path

from vfio_kit.apply.files import cannot, write_file
from vfio_kit.apply.web import KEPT, MIB, PAST_END, Answer, Broken, Web, ask, patiently
from vfio_kit.errors import HostError, Refused


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is all there."""

    last_modified: str | None
    """As the server has it, in HTTP's form; None where it does not say."""
    resumed: bool
    """Whether a part of it was there before."""


@dataclass(frozen=True, slots=True)
class _Version:
    """What a part is a part of."""

    url: str
    etag: str | None
    last_modified: str | None

    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, else the date; None where there is neither."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def contradicts(self, headers: Message) -> bool:
        """Whether an answer is of another version."""
        pairs = ((self.etag, headers["ETag"]), (self.last_modified, headers["Last-Modified"]))
        return any(ours and theirs and ours != theirs for ours, theirs in pairs)


def get_small(url: str, web: Web) -> bytes:
    """A small file, whole. Raises as `download` does, and Refused where it is above 1 MiB."""

    def once() -> bytes:
        with ask(url, {}, web) as answer:
            data = answer.read(MIB + 1)
            if len(data) > MIB:
                raise Refused(f"{url} is larger than 1 MiB, which no such list is")
            _require_all(len(data), _length(answer.headers))
            return bytes(data)

    return patiently(url, web, once, lambda: 0)


def download(url: str, part: FileIO, version_file: Path, web: Web) -> Downloaded:
    """Fills a part, from where it ends if that can be; returns when all of it is there.

    What is in it is for a checksum to judge. Raises Refused where we are sent to a host or a scheme
    that we do not go to, HypervisorError where network or server fail, HostError where the disk
    does; after the last two the part is kept, to be gone on with.
    """
    at_first = _size(part)
    resumed = False

    def once() -> Downloaded:
        nonlocal resumed
        version = _read_version(version_file, url)
        have = _size(part)
        if version is None or not have:
            have = 0
        headers = _range(have, version)
        with ask(url, headers, web, may_be_past_end=have > 0) as answer:
            begin = _begin(answer, have, version)
            if begin is None:
                part.truncate(0)
                raise Broken("what is there does not fit to the file: from the start")
            if begin == 0 and have:
                web.note("the server has another version, or no ranges: from the start")
            if begin == 0 or version is None:
                version = _Version(url, answer.headers["ETag"], answer.headers["Last-Modified"])
                part.truncate(0)
                write_file(version_file, json.dumps(asdict(version)).encode(), 0o644)
            resumed = begin > 0 and at_first > 0
            _copy(answer, part, begin, web, version_file.parent)
        return Downloaded(version.last_modified, resumed)

    return patiently(url, web, once, lambda: _size(part))


def _copy(answer: Answer, part: FileIO, begin: int, web: Web, folder: Path) -> None:
    """The body of an answer, behind the first `begin` bytes of a part."""
    left = _length(answer.headers) if answer.status != PAST_END else 0
    total = None if left is None else begin + left
    _require_room(folder, left)
    part.seek(begin)
    web.meter(begin, total)
    have = begin
    while have != total and (data := answer.some(None if total is None else total - have)):
        _write(part, data)
        have += len(data)
        web.meter(have, total)
    _require_all(have, total)


def _write(part: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[part.write(rest) :]
    except OSError as error:
        failed = cannot("write", Path(str(part.name)), error)
        raise HostError(failed.message, "\n".join(filter(None, (failed.hint, KEPT)))) from None


def _require_room(folder: Path, needed: int | None) -> None:
    """Before the first byte, where the server says how many there will be."""
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise HostError(
            f"{folder} has {free / MIB:.0f} MiB free, and {needed / MIB:.0f} MiB are to come",
            f"make room: df -h {folder}; or give another folder",
        )


def _require_all(have: int, total: int | None) -> None:
    if total is not None and have < total:
        raise Broken(f"the connection ended after {have} of {total} bytes")


# What a part and an answer have to do with each other: RFC 9110, 13.1.5 and 14.


def _range(have: int, version: _Version | None) -> dict[str, str]:
    validator = None if version is None else version.validator()
    if not have or validator is None:
        return {}
    return {"Range": f"bytes={have}-", "If-Range": validator}


def _begin(answer: Answer, have: int, version: _Version | None) -> int | None:
    """Where in the file the body begins: 0, or what there is; None where the part is of no use."""
    content_range = answer.headers["Content-Range"] or ""
    if answer.status == PAST_END:
        return have if content_range == f"bytes */{have}" else None
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    fits = re.match(rf"bytes {have}-\d+/", content_range)
    return have if fits and version and not version.contradicts(answer.headers) else None


def _read_version(file: Path, url: str) -> _Version | None:
    """None where the part is of something else, or nothing is known of it."""
    try:
        version = _Version(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # a part of unknown origin is no part of anything
    return version if version.url == url and version.validator() else None


def _length(headers: Message) -> int | None:
    text = headers["Content-Length"] or ""
    return int(text) if re.fullmatch("[0-9]{1,19}", text) else None


def _size(part: FileIO) -> int:
    return os.fstat(part.fileno()).st_size
