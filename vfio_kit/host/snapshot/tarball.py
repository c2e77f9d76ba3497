"""A tarball from a stranger, member by member, without the generosity of Python's own reader.

That one calls itself for each extended header, searches such headers, of megabytes, with a regular
expression that takes the square of their length, and ends in exceptions of many kinds. Here a
header is no longer than its use allows, and what a snapshot never has is refused.
Formats: pax(1) of POSIX, and GNU tar's long names.
"""

import tarfile
from collections.abc import Iterator
from typing import Protocol

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_HEADER = 16 * 1024
"""Bytes: a name and a link of 1,024 characters each, and times."""
_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}


class Stream(Protocol):
    """What is read: as many bytes as were asked for, fewer at the end alone."""

    def read(self, size: int, /) -> bytes: ...


def members(stream: Stream, largest: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Every member with its bytes, a file's no more than `largest`.

    Raises tarfile.TarError for what is no tarball, ValueError for a member that it does not take.
    """
    said: dict[str, str] = {}
    while (block := _exactly(stream, _BLOCK)) != bytes(_BLOCK):
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if entry.size < 0:
            raise ValueError(f"{entry.name[:80]!r}: its size is negative")
        if entry.type in (tarfile.XHDTYPE, *_NAMES):
            if entry.size > _LONGEST_HEADER:
                raise ValueError(f"a header is larger than {_LONGEST_HEADER} bytes")
            data = _padded(stream, entry.size)
            key = _NAMES.get(entry.type)
            said |= _records(data) if key is None else {key: data.rstrip(b"\0").decode()}
            continue
        entry.name = said.pop("path", entry.name)
        entry.linkname = said.pop("linkpath", entry.linkname)
        sparse = any(key == "size" or key.startswith("GNU.sparse.") for key in said)
        if sparse or entry.type == tarfile.GNUTYPE_SPARSE or entry.size > largest:
            raise ValueError(f"{entry.name[:80]!r}: it is sparse, or larger than {largest} bytes")
        said = {}
        yield entry, _padded(stream, entry.size if entry.isreg() else 0)


def _records(data: bytes) -> dict[str, str]:
    """A line's length in decimal, a space, key=value, a line feed."""
    found = {}
    while data:
        length = data[:6].partition(b" ")[0]
        size = int(length) if length.isdigit() else 0
        key, equals, value = data[len(length) + 1 : size - 1].partition(b"=")
        if not equals or data[size - 1 : size] != b"\n":
            raise tarfile.ReadError("an extended header makes no sense")
        found[key.decode()] = value.decode()
        data = data[size:]
    return found


def _padded(stream: Stream, size: int) -> bytes:
    """So many bytes; behind them the block is filled up."""
    return _exactly(stream, -(-size // _BLOCK) * _BLOCK)[:size]


def _exactly(stream: Stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise tarfile.ReadError("unexpected end of data")
    return data
