"""Whom `verify` checks: VMs by their names, hosts that SSH reaches, this machine; each once."""

import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.health import Planned

if TYPE_CHECKING:
    from vfio_kit.guest.target import Target

_LONGEST = 1 << 20
"""Characters of a list of hosts; a device has no end."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One machine: how it is told in every output, how to reach it, what it was made with."""

    label: str
    target: "Target | None"
    """None: this machine itself."""
    planned: Planned


@dataclass(frozen=True, slots=True)
class SshWords:
    """What the options say for every --host; None: what ssh_config or OpenSSH has."""

    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None
    jump: str | None = None


def guests_of(
    names: Iterable[str], hosts: Iterable[str], local: bool, words: SshWords, state_dir: Path
) -> tuple[Guest, ...]:
    """All of them, in this order; raises UsageError for one that cannot be meant."""
    found = [_vm(name, state_dir) for name in names]
    found += [_host(host, words) for host in hosts]
    if local:
        found.append(Guest(socket.gethostname(), None, Planned()))
    return tuple(_each_once(found))


def hosts_in(file: Path) -> tuple[str, ...]:
    """The hosts that a file lists, one a line; what follows a # is left out. `-` is stdin."""
    if str(file) == "-" and sys.stdin is None:
        raise HostError("cannot read the hosts in -: stdin is closed")
    try:
        with nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8") as stream:
            text = stream.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST} characters")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HostError(f"cannot read the hosts in {file}: {reason}") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line)


def _vm(name: str, state_dir: Path) -> Guest:
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.guest.target import Target
    from vfio_kit.model.vm import check_name

    check_name(name)
    folder = VmFolder(state_dir / name)
    record = folder.record()
    if record.address is None or not folder.outstanding():
        raise UsageError(f"{name!r} is not up", "vfio-kit list shows what is")
    key = folder.login_key(record)
    target = Target(record.address, 22, record.user, key, folder.known_hosts, name)
    return Guest(name, target, record.planned)


def _host(host: str, words: SshWords) -> Guest:
    from vfio_kit.guest.ssh_config import resolve_target

    target = resolve_target(
        host,
        user=words.user,
        port=words.port,
        identity=words.identity,
        known_hosts=words.known_hosts,
        config=words.config,
        jump=words.jump,
    )
    return Guest(host, target, Planned())


def _each_once(guests: Iterable[Guest]) -> Iterator[Guest]:
    """Without those that are told already; two machines of one label are told apart."""
    labels: set[str] = set()
    places: set[object] = set()
    for guest in guests:
        place = _place(guest.target)
        if place in places:
            continue
        label = guest.label if guest.label not in labels else f"{guest.label} ({guest.target})"
        places.add(place)
        labels.add(label)
        yield Guest(label, guest.target, guest.planned)


def _place(target: "Target | None") -> object:
    """What tells two machines apart: not the user, but the way, for networks number alike."""
    if target is None:
        return None
    options = target.options
    return target.host.lower(), target.port, options.jump, options.proxy_command
