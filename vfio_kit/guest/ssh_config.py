"""From a name, as one gives it to ssh(1), to the Target that it means on this machine."""

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vfio_kit.errors import GuestError, UsageError
from vfio_kit.guest.known_hosts import DEFAULT_FILES
from vfio_kit.guest.ssh_config_file import Asked, Reader, Settings, Statement, local_user
from vfio_kit.guest.ssh_config_words import expand, not_honoured
from vfio_kit.guest.target import SshOptions, Target

_LONGEST = 16
"""Jump hosts on the way to one host; more is a loop that grows its names."""

_COMMAND_LINE = "the command line"

_FORBIDDEN = re.compile(r"""[\s\x00-\x1f\x7f'"`$\\;&<>|(){}]""")
"""What no name of a host or user has, and a shell would take for more (ProxyCommand)."""


@dataclass(frozen=True, slots=True)
class _Spec:
    """[user@]host[:port], as typed."""

    host: str
    user: str | None
    port: int | None


def resolve_target(
    host: str,
    *,
    user: str | None = None,
    port: int | None = None,
    identity: Path | None = None,
    known_hosts: Path | None = None,
    config: Path | None = None,
    jump: str | None = None,
) -> Target:
    """Whom `host` means: [user@]host[:port], ssh://…, a name of ssh_config.

    What is given here wins over the files: config is the only one to read (ssh -F), else
    ~/.ssh/config and /etc/ssh/ssh_config; jump is a list of hops (ssh -J), or "none". As with ssh,
    identity and known_hosts are for the host itself and not for the hops. Raises UsageError for a
    name or a file that makes no sense.
    """
    spec = _parse_spec(host)
    spec = _Spec(spec.host, user or spec.user, port or spec.port)
    target = _resolve(spec, jump, config, ())
    return replace(target, identity=identity, known_hosts=known_hosts)


def _resolve(
    spec: _Spec, jump: str | None, config: Path | None, behind: tuple[_Spec, ...]
) -> Target:
    """behind: those who are reached through this one."""
    if spec in behind or len(behind) > _LONGEST:
        way = " → ".join(other.host for other in (*behind, spec))
        raise UsageError(f"the jump hosts of ssh_config lead in a circle: {way}")
    host, settings, fill_in = _read(spec, jump, config)
    return _Builder(spec, host, settings, fill_in).target(config, behind)


def _parse_spec(text: str) -> _Spec:
    address = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
    user, at, rest = address.rpartition("@")
    found = re.fullmatch(
        r"\[([^\[\]]+)\](?::(\d+))?|([^:\[\]]+)(?::(\d+))?|([^\[\]]*:.*:[^\[\]]*)", rest
    )
    name = found and (found[1] or found[3] or found[5])
    if not found or not name or (at and not user):
        raise UsageError(f"{text!r} names no host", "give [USER@]HOST[:PORT], or ssh://…")
    for part in (name, user):
        if part.startswith("-") or _FORBIDDEN.search(part):
            raise UsageError(f"{text!r}: {part!r} is no name of a host or user")
    number = found[2] or found[4]
    port = None if number is None else int(number)
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"{text!r}: {port} is no port")
    if name.count(":") > 1 and not _is_ipv6(name):
        raise UsageError(f"{text!r}: {name!r} is no address")
    return _Spec(name, user or None, port)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _read(
    spec: _Spec, jump: str | None, config: Path | None
) -> tuple[str, Settings, Callable[[Statement, str], str]]:
    """The host's name in the end, what the files say of it, and how to fill texts in."""
    settings = Settings()
    given = {"user": spec.user, "port": spec.port, "proxyjump": jump}
    for keyword, value in given.items():
        if value is not None:
            settings.take(Statement(keyword, (str(value),), _COMMAND_LINE))
    asked = Asked(spec.host, spec.host)
    wants_final = _read_files(asked, settings, config)
    if _canonicalizes(settings, spec.host):
        asked = Asked(spec.host, _canonical(settings, spec.host), canonical=True, final=True)
        _read_files(asked, settings, config)
    elif wants_final:
        _read_files(Asked(spec.host, spec.host, final=True), settings, config)
    return asked.host, settings, lambda statement, text: expand(statement, text, asked, settings)


def _read_files(asked: Asked, settings: Settings, config: Path | None) -> bool:
    def fill_in(statement: Statement, text: str) -> str:
        return expand(statement, text, asked, settings)

    reader = Reader(asked, settings, fill_in)
    home = Path("~/.ssh").expanduser()
    if config is not None:
        reader.read(config, home, required=True)
    else:
        reader.read(home / "config", home, required=False)
        reader.read(Path("/etc/ssh/ssh_config"), Path("/etc/ssh"), required=False)
    return reader.wants_final


def _canonicalizes(settings: Settings, host: str) -> bool:
    how = settings.first.get("canonicalizehostname")
    if how is None or how.value.lower() not in ("yes", "true", "always"):
        return False
    direct = not any(word in settings.first for word in ("proxyjump", "proxycommand"))
    dots = settings.first.get("canonicalizemaxdots")
    most = 1 if dots is None else _number(dots, 0, 255)
    return (direct or how.value.lower() == "always") and host.count(".") <= most and ":" not in host


def _canonical(settings: Settings, host: str) -> str:
    """The first of CanonicalDomains in which the name exists."""
    domains = settings.first.get("canonicaldomains")
    for domain in domains.arguments if domains else ():
        name = f"{host}.{domain}"
        try:
            socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
        except OSError:
            continue
        return name
    fallback = settings.first.get("canonicalizefallbacklocal")
    if fallback is None or _yes(fallback):
        return host
    raise GuestError(f"{host}: no such host in the CanonicalDomains of ssh_config")


class _Builder:
    """Makes a Target of what was read."""

    def __init__(
        self, spec: _Spec, host: str, settings: Settings, expand: Callable[[Statement, str], str]
    ) -> None:
        self._spec = spec
        self._host = host
        self._settings = settings
        self._first = settings.first
        self._lists = settings.lists
        self._expand = expand

    def target(self, config: Path | None, behind: tuple[_Spec, ...]) -> Target:
        port = self._first.get("port")
        user = self._first.get("user")
        proxy = self._first.get("proxycommand")
        return Target(
            self._text("hostname") or self._host,
            22 if port is None else _number(port, 1, 65535),
            local_user() if user is None else user.value,
            alias=self._text("hostkeyalias"),
            options=replace(
                self._options(),
                jump=self._jump(config, behind),
                proxy_command=self._proxy_command(proxy),
            ),
        )

    def _options(self) -> SshOptions:
        revoked = self._text("revokedhostkeys")
        only = self._first.get("identitiesonly")
        timeout = self._first.get("connecttimeout")
        family = self._first.get("addressfamily")
        if family is not None and family.value.lower() not in ("any", "inet", "inet6"):
            raise family.malformed("any, inet or inet6 are due")
        return SshOptions(
            agent=self._agent(),
            identities=self._identities(),
            identities_only=only is not None and _yes(only),
            certificates=self._paths("certificatefile"),
            known_hosts=self._known_hosts(),
            revoked=None if revoked is None or revoked == "none" else Path(revoked),
            family="any" if family is None else family.value.lower(),
            connect_timeout=15 if timeout is None else _seconds(timeout, 15),
            not_honoured=not_honoured(self._settings),
        )

    def _text(self, keyword: str) -> str | None:
        statement = self._first.get(keyword)
        return None if statement is None else self._expand(statement, statement.value)

    def _paths(self, keyword: str) -> tuple[Path, ...]:
        texts = (self._expand(s, s.value) for s in self._lists.get(keyword, ()))
        return tuple(Path(text) for text in texts if text.lower() != "none")

    def _identities(self) -> tuple[Path, ...]:
        paths = self._paths("identityfile")
        # "none" means no key, and not the default ones either: a file that has none.
        return paths or ((Path(os.devnull),) if "identityfile" in self._lists else ())

    def _agent(self) -> str:
        agent = self._text("identityagent") or "SSH_AUTH_SOCK"
        return os.environ.get(agent[1:], "none") if agent.startswith("$") else agent

    def _known_hosts(self) -> tuple[Path, ...]:
        files: list[Path] = []
        keywords = ("userknownhostsfile", "globalknownhostsfile")
        for keyword, defaults in zip(keywords, (DEFAULT_FILES[:2], DEFAULT_FILES[2:]), strict=True):
            statement = self._first.get(keyword)
            if statement is None:
                files += (Path(name).expanduser() for name in defaults)
                continue
            texts = (self._expand(statement, text) for text in statement.arguments)
            files += (Path(text) for text in texts if text.lower() != "none")
        return tuple(files) or (Path(os.devnull),)

    def _proxy_command(self, statement: Statement | None) -> str | None:
        if statement is None or statement.value.lower() == "none":
            return None
        passing = self._first.get("proxyusefdpass")
        if passing is not None and _yes(passing):
            raise passing.malformed("vfio-kit takes no file descriptor from a ProxyCommand")
        return self._expand(statement, statement.value)

    def _jump(self, config: Path | None, behind: tuple[_Spec, ...]) -> Target | None:
        statement = self._first.get("proxyjump")
        if statement is None or statement.value.lower() == "none":
            return None
        *before, last = self._expand(statement, statement.value).split(",")
        try:
            hop = _parse_spec(last)
        except UsageError as error:
            raise statement.malformed(error.message) from None
        return _resolve(hop, ",".join(before) or None, config, (*behind, self._spec))


def _yes(statement: Statement) -> bool:
    value = statement.value.lower()
    if value not in ("yes", "true", "no", "false"):
        raise statement.malformed("yes or no is due")
    return value in ("yes", "true")


def _number(statement: Statement, least: int, most: int) -> int:
    value = statement.value
    if not value.isascii() or not value.isdecimal() or not least <= int(value) <= most:
        raise statement.malformed(f"a number from {least} to {most} is due")
    return int(value)


def _seconds(statement: Statement, default: float) -> float:
    """sshd_config(5)'s time format: 90, 90s, 1m30s; `none` is ours for the default."""
    value = statement.value.lower()
    if value == "none":
        return default
    if not re.fullmatch(r"\d+|(\d+[smhdw])+", value):
        raise statement.malformed("a time is due: 30, or 1m30s")
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    total = sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([smhdw]?)", value))
    return float(total or default)
