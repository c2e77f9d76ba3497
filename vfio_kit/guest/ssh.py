"""SSH to a guest with paramiko: the host key is known beforehand, or there is no connection."""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko
from paramiko.hostkeys import InvalidHostKey
from paramiko.ssh_exception import NoValidConnectionsError

from vfio_kit.errors import GuestError
from vfio_kit.model.health import CommandResult

_PATIENCE = 90.0
"""Seconds for a banner, a handshake or an authentication; a booting guest needs many of them."""

_PAUSE = 2.0
"""Seconds between two logins: a handshake is dear for a guest that boots."""
_CHUNK = 1 << 16
_MOST_OUTPUT = 16 << 20
"""Bytes; what verification asks for is far smaller, and a guest is not trusted with our memory."""


class CommandTimeout(GuestError):
    """A command in the guest did not end in time; the connection is sound."""


class _NoEnd(Exception):
    """A command's time is up; not TimeoutError, which a dead socket raises as well."""


class WrongHostKey(GuestError):
    """The server proved to be another one than expected."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to connect to, and what proves that it is them.

    known_hosts  None for the user's and the system's own files.
    alias        the name under which known_hosts has the key (OpenSSH's HostKeyAlias).
    identity     None for the agent and the user's default keys.
    """

    host: str
    port: int
    user: str
    identity: Path | None = None
    known_hosts: Path | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


class Connection:
    """One SSH connection, held; several commands, one after the other."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._client = paramiko.SSHClient()
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._load_host_keys()
        try:
            self._client.connect(
                target.host,
                target.port,
                target.user,
                key_filename=None if target.identity is None else str(target.identity),
                allow_agent=target.identity is None,
                look_for_keys=target.identity is None,
                timeout=15,
                banner_timeout=_PATIENCE,
                auth_timeout=_PATIENCE,
                channel_timeout=_PATIENCE,
                transport_factory=_patient_transport,
            )
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            self._client.close()
            raise _explained(target, error) from None
        self._transport().set_keepalive(15)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def run(self, command: str, timeout: float = 60) -> CommandResult:
        """Runs a shell command; raises GuestError when it does not end within `timeout` seconds."""
        try:
            channel = self._transport().open_session(timeout=_PATIENCE)
            channel.exec_command(command)
            with channel:
                out, err = _read_to_end(channel, time.monotonic() + timeout)
                status = channel.recv_exit_status()
        except _NoEnd:
            raise CommandTimeout(
                f"{self.target}: no end within {timeout:.0f} s: {command.splitlines()[0][:80]}"
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(f"{self.target}: the connection broke: {error}") from None
        if status < 0:
            raise GuestError(f"{self.target}: the connection broke while a command ran")
        return CommandResult(status, _text(out), _text(err))

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        if transport is None:
            raise GuestError(f"{self.target}: the connection is closed")
        return transport

    def _load_host_keys(self) -> None:
        target = self.target
        try:
            if target.known_hosts is None:
                with contextlib.suppress(OSError):  # the system's file is optional
                    self._client.load_system_host_keys("/etc/ssh/ssh_known_hosts")
                self._client.load_system_host_keys()  # the user's; may be missing
                return
            keys = paramiko.HostKeys(str(target.known_hosts))
        except (OSError, ValueError, InvalidHostKey) as error:
            where = target.known_hosts or "~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts"
            raise GuestError(
                f"cannot read the known host keys in {where}: {error}",
                "mend the file, or give another with --known-hosts",
            ) from None
        server = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
        for key in (keys.lookup(target.alias or server) or {}).values():
            self._client.get_host_keys().add(server, key.get_name(), key)


def _read_to_end(channel: paramiko.Channel, deadline: float) -> tuple[bytes, bytes]:
    """Reads both streams as they come, until the command has ended; _NoEnd at `deadline`."""
    out, err = bytearray(), bytearray()
    while True:
        ended = channel.exit_status_ready() and (channel.eof_received or channel.closed)
        while channel.recv_ready():
            out += channel.recv(_CHUNK)
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(_CHUNK)
        if len(out) + len(err) > _MOST_OUTPUT:
            raise EOFError(f"more than {_MOST_OUTPUT} bytes of output")
        if ended or (channel.closed and not channel.exit_status_ready()):
            return bytes(out), bytes(err)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _NoEnd
        # Woken by data and by the end; the second is for an end that came between the two looks.
        select.select([channel], [], [], min(1.0, remaining))
        if channel.eof_received and not channel.exit_status_ready():
            channel.status_event.wait(min(1.0, remaining))


def connect_when_ready(target: Target, deadline: float, patience: float = 120) -> Connection:
    """Logs in to a guest that is still booting; raises the last GuestError at `deadline`.

    Its sshd is restarted when cloud-init changes its configuration, and logins are refused until
    systemd opens them (pam_nologin); so a broken or refused login is tried again, for `patience`
    seconds at most. A wrong host key is final.
    """
    deadline = min(deadline, time.monotonic() + patience)
    while True:
        try:
            return Connection(target)
        except WrongHostKey:
            raise
        except GuestError:
            if time.monotonic() + _PAUSE > deadline:
                raise
            time.sleep(_PAUSE)


def wait_for_banner(
    address: Callable[[], str | None],
    port: int,
    deadline: float,
    still_there: Callable[[], None],
) -> str:
    """Waits until an SSH server greets at the address that `address` finds; returns that address.

    deadline is on the monotonic clock. still_there raises where waiting has no more sense (the VM
    died). An accepted connection is given its time: in a guest that still boots, forking sshd and
    its first line may take half a minute, and coming again makes it slower.
    """
    where: str | None = None
    while time.monotonic() < deadline:
        still_there()
        where = address() or where
        if where is not None and _greets(where, port, deadline):
            return where
        time.sleep(0.25)
    if where is None:
        raise GuestError(
            "the guest asked for no network address in time",
            "did it boot? its console log says; give it longer with --timeout",
        )
    raise GuestError(
        f"no SSH server answered at {where}:{port} in time",
        "did it boot? its console log says; give it longer with --timeout",
    )


def _greets(address: str, port: int, deadline: float) -> bool:
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.settimeout(max(0.1, min(_PATIENCE, deadline - time.monotonic())))
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False  # refused or unreachable: it is not there yet


def _patient_transport(sock: Any, /, **options: Any) -> paramiko.Transport:
    transport = paramiko.Transport(sock, **options)
    transport.handshake_timeout = _PATIENCE
    return transport


def _explained(target: Target, error: Exception) -> GuestError:
    if isinstance(error, paramiko.BadHostKeyException):
        return WrongHostKey(
            f"{target}: the host key is not the one that is known: this is another machine, or "
            "somebody is in between",
            "nothing was sent; compare: ssh-keyscan and the machine's own console",
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return GuestError(
            f"{target}: the key {target.identity or 'that was found'} has a passphrase",
            "load it into the agent (ssh-add), and leave --identity out",
        )
    if isinstance(error, paramiko.AuthenticationException):
        return GuestError(
            f"{target}: the server accepts none of our keys", "give the right one: --identity FILE"
        )
    if isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        return GuestError(
            f"{target}: its host key is not known, and unknown keys are not trusted",
            "add the key that the machine's console shows to known_hosts, or --known-hosts FILE",
        )
    if isinstance(error, NoValidConnectionsError):  # one reason an address; the first will do
        error = next(iter(error.errors.values()))
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return GuestError(
        f"{target}: cannot connect: {reason}",
        "is the machine up, and SSH open? vfio-kit list; ping; ssh -v",
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
