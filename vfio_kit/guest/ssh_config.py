"""From a name, as one gives it to ssh(1), to the Target that it means: `ssh -G` is asked.

Include, Match, canonical names and defaults are OpenSSH's own. What `ssh -G` prints as it stands in
the file is filled in here: the names of keys' files, ProxyJump and ProxyCommand, which ssh expands
after dump_client_config (ssh.c; so do 8.4, 9.2 and 10.0).
"""

import functools
import ipaddress
import os
import pwd
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vfio_kit.errors import UsageError
from vfio_kit.guest.local import run_program
from vfio_kit.guest.target import SshOptions, Target

_LONGEST = 16
"""Jump hosts on the way to one host; more is a loop that grows its names."""

_FORBIDDEN = re.compile(r"""[\s\x00-\x1f\x7f'"`$\\;&<>|(){}]""")
"""What no name of a host or user has, and a shell would take for more (ProxyCommand)."""

_PATIENCE = 30.0
"""Seconds for `ssh -G`: a `Match exec` runs a program, a canonical name asks the DNS."""

_NOT_HONOURED = (
    "bindaddress",
    "bindinterface",
    "ciphers",
    "hostkeyalgorithms",
    "kexalgorithms",
    "knownhostscommand",
    "macs",
    "pkcs11provider",
    "pubkeyacceptedalgorithms",
    "requiredrsasize",
    "securitykeyprovider",
    "verifyhostkeydns",
)
"""What changes whether a connection comes about, and has no effect here."""


@dataclass(frozen=True, slots=True)
class _Spec:
    """[user@]host[:port], as typed."""

    host: str
    user: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The values of each keyword for a name, and those that it has where no file is read."""

    name: str
    values: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, tuple[str, ...]]

    def first(self, keyword: str, default: str = "") -> str:
        return self.values.get(keyword, (default,))[0]

    def changed(self, keyword: str) -> tuple[str, ...]:
        """The values, where they are not the defaults."""
        values = self.values.get(keyword, ())
        return () if values == self.defaults.get(keyword) else values


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
    identity and known_hosts are for the host itself and not for the hops. Where ssh is not
    installed and no file is to be read, OpenSSH's defaults hold. Raises UsageError for a name or a
    file that makes no sense, and GuestError where ssh does not answer.
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
    answer = _ask(spec, jump, config)
    options = _options(answer)
    hops = _fill(answer, answer.first("proxyjump", "none"))
    if hops != "none":
        *before, last = hops.split(",")
        hop = _resolve(_parse_spec(last), ",".join(before) or None, config, (*behind, spec))
        options = replace(options, jump=hop)
    return Target(
        answer.first("hostname"),
        int(answer.first("port")),
        answer.first("user"),
        alias=answer.first("hostkeyalias") or None,
        options=options,
    )


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


def _ask(spec: _Spec, jump: str | None, config: Path | None) -> _Answer:
    own = Path("~/.ssh/config").expanduser()
    ssh = shutil.which("ssh")
    if ssh is None:
        return _without_ssh(spec, jump, config or (own if own.exists() else None))
    file = config.absolute() if config is not None else None
    given = {"-F": file, "-l": spec.user, "-p": spec.port, "-J": jump}
    words = [
        word for key, value in given.items() if value is not None for word in (key, str(value))
    ]
    values = _said((ssh, *words, "--", spec.host), _state(config or own))
    return _Answer(spec.host, values, _said((ssh, "-F", os.devnull, "--", "localhost"), None))


def _without_ssh(spec: _Spec, jump: str | None, file: Path | None) -> _Answer:
    """The command line alone."""
    if file is not None:
        raise UsageError(
            f"{spec.host}: ssh, which reads {file}, is not installed",
            "apt-get install openssh-client",
        )
    values = {"hostname": spec.host, "port": str(spec.port or 22), "proxyjump": jump or "none"}
    values["user"] = spec.user or _local_user()
    return _Answer(spec.host, {keyword: (value,) for keyword, value in values.items()}, {})


def _state(file: Path) -> tuple[int, int] | None:
    """What changes with a file."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=1024)
def _said(words: tuple[str, ...], _state: tuple[int, int] | None) -> Mapping[str, tuple[str, ...]]:
    """What `ssh -G` prints for these arguments; asked once, for a hop is shared by many."""
    ssh, *arguments = words
    done = run_program((ssh, "-T", "-G", *arguments), _PATIENCE)
    if done.exit_status != 0:
        reason = "; ".join(line.rstrip(".\r") for line in done.stderr.strip().split("\n"))
        raise UsageError(
            f"{words[-1]}: ssh cannot tell what it means: {reason}",
            "mend the file, or use another one: --ssh-config FILE",
        )
    values: dict[str, tuple[str, ...]] = {}
    for line in done.stdout.split("\n"):
        keyword, _, value = line.partition(" ")
        values[keyword] = (*values.get(keyword, ()), value)
    return values


def _options(answer: _Answer) -> SshOptions:
    command = _fill(answer, answer.first("proxycommand")) or None
    if command is not None and answer.first("proxyusefdpass") == "yes":
        raise UsageError(
            f"{answer.name}: vfio-kit takes no file descriptor from a ProxyCommand",
            "leave ProxyUseFdpass out of its ssh_config: --ssh-config FILE",
        )
    agent = answer.first("identityagent", "SSH_AUTH_SOCK")
    revoked = _paths(answer, answer.values.get("revokedhostkeys", ()))
    timeout = answer.first("connecttimeout", "none").replace("none", "0")
    return SshOptions(
        agent=os.environ.get(agent[1:], "none") if agent.startswith("$") else agent,
        identities=_identities(answer),
        identities_only=answer.first("identitiesonly") == "yes",
        certificates=_paths(answer, answer.values.get("certificatefile", ())),
        known_hosts=_known_hosts(answer),
        revoked=revoked[0] if revoked else None,
        family=answer.first("addressfamily", "any"),
        connect_timeout=float(timeout) or 15,
        proxy_command=command,
        not_honoured=tuple(
            word for word in _NOT_HONOURED if answer.changed(word) not in ((), ("none",))
        ),
    )


def _identities(answer: _Answer) -> tuple[Path, ...]:
    files = answer.changed("identityfile")
    # "none" means no key, and not the default ones either: a file that has none.
    return _paths(answer, files) or ((Path(os.devnull),) if files else ())


def _known_hosts(answer: _Answer) -> tuple[Path, ...]:
    keywords = ("userknownhostsfile", "globalknownhostsfile")
    lines = [answer.first(keyword) for keyword in keywords if keyword in answer.values]
    # One line for all files, and no quotes where a name has a space.
    names = [name for line in lines for name in re.split(r" (?=[/~])", line)]
    files = tuple(_path(name) for name in names if name.lower() != "none")
    return files or ((Path(os.devnull),) if lines else ())


def _fill(answer: _Answer, text: str) -> str:
    """Fills %h and the like in."""
    tokens = {
        "%": lambda: "%",
        "d": lambda: str(_path("~")),
        "h": lambda: answer.first("hostname"),
        "i": lambda: str(os.getuid()),
        "k": lambda: answer.first("hostkeyalias", answer.name),
        "L": lambda: socket.gethostname().split(".")[0],
        "l": socket.gethostname,
        "n": lambda: answer.name,
        "p": lambda: answer.first("port"),
        "r": lambda: answer.first("user"),
        "u": _local_user,
    }

    def value(found: re.Match[str]) -> str:
        if found[1] not in tokens:
            raise UsageError(f"{answer.name}: {text}: vfio-kit cannot fill {found[0]} in")
        return tokens[found[1]]()

    return re.sub(r"%(.?)", value, text)


def _paths(answer: _Answer, texts: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of keys: with tokens, ${VARIABLE} and ~."""

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(f"{answer.name}: {found.string}: the environment has no {found[1]}")
        return os.environ[found[1]]

    named = (_fill(answer, text) for text in texts if text.lower() != "none")
    return tuple(_path(re.sub(r"\$\{(\w+)\}", variable, text)) for text in named)


def _path(text: str) -> Path:
    """~ is where the system has the user's home, as for ssh(1), and not $HOME."""
    try:
        return Path(re.sub(r"^~(?=/|$)", f"~{_local_user()}", text)).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: there is no such user") from None


def _local_user() -> str:
    """Who runs this; UsageError where the system has no name for them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UsageError(
            f"the system has no name for user {os.getuid()}", "say whom to log in as: --user NAME"
        ) from None
