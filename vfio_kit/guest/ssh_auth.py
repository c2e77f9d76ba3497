"""Which keys prove to a server that it is us: the agent's and those in files, in ssh(1)'s order."""

import base64
import binascii
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentSSH
from paramiko.pkey import UnknownKeyType

from vfio_kit.errors import GuestError
from vfio_kit.guest.target import Target

DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
"""In ~/.ssh; paramiko has no key on a hardware token (id_ed25519_sk), but the agent may."""

_AGENT_PATIENCE = 60.0
"""Seconds; an agent may ask its owner for consent."""


class _Unusable(Exception):
    """A key that cannot be used; the text says why."""


@dataclass(slots=True)
class _Attempts:
    """What was tried and what was not, for the error."""

    refused: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)


def log_in(transport: paramiko.Transport, target: Target) -> None:
    """Proves to the server that it is us; raises GuestError where no key does."""
    attempts = _Attempts()
    with contextlib.closing(_Agent(target.options.agent)) as agent:
        for label, key in _keys(target, agent, attempts):
            try:
                more = transport.auth_publickey(target.user, key)
            except paramiko.BadAuthenticationType as error:
                ways = ", ".join(error.allowed_types)
                raise GuestError(
                    f"{target}: the server lets nobody in with a key, but with: {ways}",
                    "allow PubkeyAuthentication in the machine's sshd_config",
                ) from None
            except paramiko.AuthenticationException:
                attempts.refused.append(label)
                if not transport.is_active():
                    break  # MaxAuthTries
                continue
            except paramiko.SSHException as error:  # the agent, or its owner, said no
                raise GuestError(
                    f"{target}: the key {label} could not be used: {error}",
                    "name another one: --identity FILE, or IdentitiesOnly in ssh_config",
                ) from None
            if not more:
                return
            raise GuestError(
                f"{target}: after the key the server also wants: {', '.join(more)}",
                "nobody is there to type: let this user in with a key alone",
            )
    raise _refused(target, attempts, transport.is_active())


def _keys(
    target: Target, agent: "_Agent", attempts: _Attempts
) -> Iterator[tuple[str, paramiko.PKey]]:
    """The agent's keys that were asked for, the agent's others, then files; each key once."""
    options = target.options
    wanted = (target.identity,) if target.identity else options.identities
    only = target.identity is not None or options.identities_only
    if not wanted:
        wanted = tuple(p for name in DEFAULT_IDENTITIES if os.access(p := _home(name), os.R_OK))
    blobs = [_public_half(path) for path in wanted]
    from_agent = [key for key in agent.keys if key.asbytes() in blobs]
    if not only:
        from_agent += [key for key in agent.keys if key.asbytes() not in blobs]
    for key in from_agent:
        yield f"{key.comment or key.get_name()} (agent)", key
    offered = {key.asbytes() for key in from_agent}
    for path, blob in zip(wanted, blobs, strict=True):
        if blob is not None and blob in offered and not options.certificates:
            continue
        try:
            for loaded in _from_file(path, options.certificates, attempts):
                yield str(path), loaded
        except _Unusable as error:
            attempts.unusable.append(f"{path}: {error}")


def _from_file(
    path: Path, certificates: tuple[Path, ...], attempts: _Attempts
) -> Iterator[paramiko.PKey]:
    """The key with each certificate that may be its own, and then without; raises _Unusable."""
    for certificate in certificates:
        key = _load(path)
        try:
            key.load_certificate(certificate.read_text())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no certificate of this kind of key"
            attempts.unusable.append(f"{certificate}: {reason}")
            continue
        yield key
    key = _load(path)  # with PATH-cert.pub, where there is one
    if key.public_blob is not None:
        yield key
        key.public_blob = None
    yield key


def _load(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except OSError as error:
        raise _Unusable(error.strerror or str(error)) from None
    except (TypeError, paramiko.PasswordRequiredException):  # what cryptography raises for it
        raise _Unusable("it has a passphrase, and the agent does not have it") from None
    except (ValueError, paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm):
        raise _Unusable("no private key that can be used") from None


def _public_half(path: Path) -> bytes | None:
    """The public key of an identity, from PATH.pub or from the file itself; None where neither."""
    for candidate in (path.with_name(path.name + ".pub"), path):
        with contextlib.suppress(OSError, UnicodeDecodeError, IndexError, binascii.Error):
            return base64.b64decode(candidate.read_text().split()[1], validate=True)
    return None


def _home(name: str) -> Path:
    return Path("~/.ssh", name).expanduser()


class _Agent:
    """The keys of an agent; none where no agent answers, as ssh(1) has it."""

    def __init__(self, where: str) -> None:
        self.keys: tuple[paramiko.AgentKey, ...] = ()
        self._socket: socket.socket | None = None
        path = os.environ.get(where, "") if where == "SSH_AUTH_SOCK" else where
        if path in ("", "none"):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_AGENT_PATIENCE)
        try:
            self._socket.connect(path)
            agent = AgentSSH()
            # paramiko's own Agent knows no socket but the environment's (IdentityAgent).
            agent._connect(self._socket)  # type: ignore[attr-defined]
            self.keys = agent.get_keys()
        except (OSError, paramiko.SSHException):
            return

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _refused(target: Target, attempts: _Attempts, open_still: bool) -> GuestError:
    if not attempts.refused and target.identity is not None and attempts.unusable:
        return GuestError(
            f"{target}: the key {attempts.unusable[0]}",
            "give the right one: --identity FILE; one with a passphrase: ssh-add FILE",
        )
    tried = ", ".join(attempts.refused) or "there is none"
    if not open_still:
        return GuestError(
            f"{target}: the server broke the login off after: {tried}",
            "too many keys? name the right one: --identity FILE, or IdentitiesOnly in ssh_config",
        )
    hint = "give the right one: --identity FILE"
    if attempts.unusable:
        hint += "\nnot usable: " + "; ".join(attempts.unusable)
    return GuestError(f"{target}: the server accepts none of our keys ({tried})", hint)
