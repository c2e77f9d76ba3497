"""known_hosts(5) as OpenSSH reads it.

paramiko's reader knows no patterns, takes the marker of `@revoked` and `@cert-authority` for a
name, and parses every key of the file for every connection, which is dear for a hundred of them.
"""

import base64
import binascii
import fnmatch
import functools
import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from vfio_kit.errors import GuestError

DEFAULT_FILES = (
    "~/.ssh/known_hosts",
    "~/.ssh/known_hosts2",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssh/ssh_known_hosts2",
)
"""OpenSSH's defaults of UserKnownHostsFile and GlobalKnownHostsFile."""

_KRL = b"SSHKRL\n\0"
_LONGEST = 16 << 20
"""Bytes of a file of host keys; a device has no end."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key: the type, and the key itself as it goes over the wire."""

    kind: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class KnownHost:
    """What files say of one host.

    keys        what the host may prove to have, in the files' order.
    revoked     what nobody may use any longer, whatever name it was revoked for.
    authority   the host is known by the certificates of an authority.
    """

    keys: tuple[HostKey, ...]
    revoked: frozenset[bytes]
    authority: bool


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    names: tuple[str, ...]
    key: HostKey


def known_host(name: str, files: tuple[Path, ...], required: bool) -> KnownHost:
    """What `files` say of `name`, which is a host, `[host]:port` or an alias.

    required: a file that is not there is an error. Raises GuestError for one that cannot be read
    or makes no sense.
    """
    keys: dict[HostKey, None] = {}
    revoked: set[bytes] = set()
    authority = False
    for path in files:
        for line in _lines(path, required):
            if line.marker == "@revoked":
                revoked.add(line.key.blob)
            elif _matches(name, line.names):
                if line.marker:
                    authority = True
                else:
                    keys[line.key] = None
    return KnownHost(tuple(keys), frozenset(revoked), authority)


def revoked_keys(path: Path) -> frozenset[bytes]:
    """The keys of a RevokedHostKeys file, one a line; GuestError for the binary form."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GuestError(
            f"cannot read the revoked host keys in {path}: {error.strerror}",
            "without them no host key can be accepted (RevokedHostKeys in ssh_config)",
        ) from None
    if data.startswith(_KRL):
        raise GuestError(
            f"{path} is a binary list of revoked keys (KRL), which vfio-kit cannot read",
            "list the public keys instead, one a line: RevokedHostKeys in ssh_config",
        )
    found = set()
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
        fields = line.split("#", 1)[0].split()
        if fields:
            try:
                found.add(_key(fields[0], fields[1] if len(fields) > 1 else "").blob)
            except ValueError as error:
                raise _malformed(path, number, error) from None
    return frozenset(found)


def fingerprint(blob: bytes) -> str:
    """As OpenSSH prints it: SHA256: and the digest in base64, unpadded."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def _lines(path: Path, required: bool) -> tuple[_Line, ...]:
    try:
        state = path.stat()
        return _parsed(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError as error:
        if not required:
            return ()
        reason: str | None = error.strerror
    except OSError as error:
        reason = error.strerror
    raise GuestError(
        f"cannot read the known host keys in {path}: {reason}",
        "mend the file, or give another with --known-hosts",
    )


@functools.lru_cache(maxsize=16)
def _parsed(path: Path, _changed_ns: int, _size: int) -> tuple[_Line, ...]:
    """The file's lines, read once for all connections as long as it does not change."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise GuestError(f"{path} is longer than {_LONGEST >> 20} MiB: no list of host keys")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(path, 1, error) from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) >= 4 and all(field.isdecimal() for field in fields[1:4]):
            continue  # a key of SSH 1: bits, exponent, modulus
        try:
            if marker not in ("", "@revoked", "@cert-authority"):
                raise ValueError(f"unknown marker {marker}")
            if len(fields) < 3:
                raise ValueError("a line has names, the key's type and the key")
            lines.append(_Line(marker, tuple(fields[0].split(",")), _key(fields[1], fields[2])))
        except ValueError as error:
            raise _malformed(path, number, error) from None
    return tuple(lines)


def _key(kind: str, text: str) -> HostKey:
    """A key from its base64, which repeats the type; raises ValueError."""
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the key is no base64: {error}") from None
    if blob[:4] != len(kind).to_bytes(4, "big") or blob[4 : 4 + len(kind)] != kind.encode():
        raise ValueError(f"the key is no {kind} key")
    return HostKey(kind, blob)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    found = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            found = found or _hashed(name, pattern)
        elif matches_pattern(name.lower(), pattern.removeprefix("!").lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def matches_pattern(name: str, pattern: str) -> bool:
    """OpenSSH's patterns: `*` and `?` alone have a meaning, brackets have none."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hashed(name: str, pattern: str) -> bool:
    """HashKnownHosts: |1|salt|HMAC-SHA1 of the name."""
    try:
        _, _, salt, digest = pattern.split("|")
        key, expected = base64.b64decode(salt), base64.b64decode(digest)
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(key, name.lower().encode(), "sha1"), expected)


def _malformed(path: Path, number: int, error: Exception) -> GuestError:
    return GuestError(
        f"cannot read the known host keys in {path}, line {number}: {error}",
        "mend the file, or give another with --known-hosts",
    )
