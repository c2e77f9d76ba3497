"""What --connect takes: libvirt's URI of a host that SSH reaches, as far as it has a meaning here.

Source: https://libvirt.org/uri.html ("SSH transport"), whose parameters are known by name, so that
one that is refused is refused with its reason.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from vfio_kit.errors import UsageError

_EXAMPLE = "as in qemu+ssh://root@gpu1/system"
# No dash first, and nothing that a shell knows: ssh_config may hand both on to programs (%h, %r).
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
# ssh expands % and ${}, and takes a path with spaces for several files.
_PATH = re.compile(r"/[^\s%$\"'\\]*")

_REFUSED = {
    "no_verify": "the host's key is always checked; put it into known_hosts",
    "sshauth": "OpenSSH's client chooses; ~/.ssh/config can say how",
    "command": "OpenSSH's client is used; ~/.ssh/config can say how (ProxyCommand, ProxyJump)",
    "no_tty": "vfio-kit never asks for a password",
    "netcat": "no libvirt socket is forwarded: vfio-kit runs on that host",
    "socket": "no libvirt socket is forwarded: vfio-kit runs on that host",
    "proxy": "no libvirt socket is forwarded: vfio-kit runs on that host",
    "mode": "no libvirt socket is forwarded: vfio-kit runs on that host",
}


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A GPU host, as its URI names it; what is None is ssh_config's to say.

    keyfile      the private key to log in with, and no other.
    known_hosts  the file that has the host's key.
    """

    uri: str
    host: str
    user: str | None = None
    port: int | None = None
    keyfile: str | None = None
    known_hosts: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"{user}{host}" + ("" if self.port is None else f":{self.port}")


def parse_uri(text: str) -> RemoteHost | None:
    """The host of qemu+ssh://[user@]host[:port]/system; None for qemu:///system, which is this one.

    Raises UsageError that names what of the URI cannot be meant.
    """
    if not text.isprintable():
        raise UsageError(f"--connect {text!r} holds a control character", _EXAMPLE)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise _wrong(text, str(error)) from None
    if parts.scheme == "qemu" and not parts.netloc and parts.path == "/system" and not parts.query:
        return None
    if not parts.scheme:
        raise _wrong(text, "it is no URI")
    if parts.scheme != "qemu+ssh":
        raise _wrong(text, f"vfio-kit goes by qemu+ssh, and not by {parts.scheme!r}")
    if parts.path != "/system":
        raise _wrong(text, f"it ends in {parts.path!r}, and has to end in /system")
    if parts.fragment:
        raise _wrong(text, f"#{parts.fragment} has no meaning")
    user, host, port = _authority(text, parts.netloc)
    files = _parameters(text, parts.query)
    return RemoteHost(text, host, user, port, files.get("keyfile"), files.get("known_hosts"))


def _wrong(uri: str, reason: str) -> UsageError:
    return UsageError(f"--connect {uri}: {reason}", _EXAMPLE)


def _authority(uri: str, netloc: str) -> tuple[str | None, str, int | None]:
    login, at, place = netloc.rpartition("@")
    if ":" in login:  # which is not said: it would stand in a log
        raise UsageError("--connect: a password in a URI is no secret", "log in with a key")
    user = unquote(login) if at else None
    if user is not None and _USER.fullmatch(user) is None:
        raise _wrong(uri, f"{user!r} is no user")
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::(.*))?", place)
    if found is None:
        raise _wrong(uri, f"{place!r} is no host; an IPv6 address stands in [ ]")
    literal, name, port = found.groups()
    address = None if literal is None else unquote(literal)  # RFC 6874: %25 before an interface
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise _wrong(uri, f"{port!r} is no port")
    if address is not None:
        _require_ipv6(uri, address)
    elif _HOST.fullmatch(name) is None:
        raise _wrong(uri, f"{name!r} is no host" if name else "it names no host")
    return user, address or name, None if port is None else int(port)


def _require_ipv6(uri: str, address: str) -> None:
    plain, _, zone = address.partition("%")
    try:
        ipaddress.IPv6Address(plain)
    except ValueError:
        raise _wrong(uri, f"{address!r} is no IPv6 address") from None
    if zone and re.fullmatch(r"[A-Za-z0-9_.-]+", zone) is None:
        raise _wrong(uri, f"{zone!r} is no interface")


def _parameters(uri: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise _wrong(uri, f"?{query}: {error}") from None
    files: dict[str, str] = {}
    for key, value in pairs:
        if key in _REFUSED:
            raise _wrong(uri, f"{key} is not taken: {_REFUSED[key]}")
        if key == "known_hosts_verify":
            if value != "normal":
                raise _wrong(uri, f"{key}={value} is not taken: {_REFUSED['no_verify']}")
            continue
        if key not in ("keyfile", "known_hosts"):
            raise _wrong(uri, f"{key} is not known; keyfile and known_hosts are")
        if key in files:
            raise _wrong(uri, f"{key} is there twice")
        if _PATH.fullmatch(value) is None:
            raise _wrong(uri, f"{key} takes an absolute path without spaces, quotes, $ and %")
        files[key] = value
    return files
