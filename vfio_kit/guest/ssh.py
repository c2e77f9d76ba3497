"""SSH to a guest with paramiko: the host key is known beforehand, or there is no connection."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

import paramiko

from vfio_kit.errors import GuestError
from vfio_kit.guest.local import ProxyProcess
from vfio_kit.guest.runner import CommandTimeout, decode, no_end, wire
from vfio_kit.guest.ssh_auth import log_in
from vfio_kit.guest.ssh_io import PATIENCE, NoEnd, Tunnel, at_most, converse, dial, read_lines
from vfio_kit.guest.ssh_trust import Trust, WrongHostKey
from vfio_kit.guest.target import SshOptions, Target
from vfio_kit.model.health import CommandResult

__all__ = [
    "CommandTimeout",
    "Connection",
    "Hops",
    "SshOptions",
    "Target",
    "WrongHostKey",
    "connect_when_ready",
    "wait_for_banner",
]

# What it logs as errors, with tracebacks, is what GuestError says in a sentence.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_DETAILS = logging.getLogger(__name__)
_SHOWN = 100
"""Characters of a command that are told of: most are scripts."""
_PAUSE = 2.0
"""Seconds between two logins: a handshake is dear for a guest that boots."""


class Connection:
    """One SSH connection, held; several commands, one after the other. A Runner."""

    def __init__(self, target: Target, hops: "Hops | None" = None) -> None:
        """Connects and logs in; raises GuestError, or WrongHostKey.

        hops: connections to jump hosts that others share; without them the way is this one's own.
        """
        self.target = target
        self._own_hops = Hops() if hops is None else None
        self._proxy: ProxyProcess | None = None
        self._transport: paramiko.Transport | None = None
        try:
            self._connect(self._own_hops or hops or Hops())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return str(self.target)

    @property
    def alive(self) -> bool:
        """The connection stands, as far as this side knows."""
        return self._transport is not None and self._transport.is_active()

    def close(self) -> None:
        """Closes the connection, and the way to it as far as it is this one's own."""
        if self._transport is not None:
            self._transport.close()
            self._transport.sock.close()  # a transport that has failed leaves it open
            self._transport = None
        if self._proxy is not None:
            self._proxy.close()
        if self._own_hops is not None:
            self._own_hops.close()

    def run(self, command: str, timeout: float = 60, *, stdin: str = "") -> CommandResult:
        """Runs a command with /bin/sh, whatever the user's login shell is; see Runner."""
        begin = time.monotonic()
        try:
            channel = self._open().open_session(timeout=PATIENCE)
            with channel:
                with at_most(PATIENCE, channel):
                    channel.exec_command(wire(command, timeout))
                out, err = converse(channel, stdin.encode(), time.monotonic() + timeout)
                status = channel.recv_exit_status()
        except NoEnd:
            raise no_end(str(self), timeout, command) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(f"{self}: the connection broke: {error}") from None
        if status < 0:
            raise GuestError(f"{self}: the connection broke while a command ran")
        shown, took = " ".join(command.split())[:_SHOWN], time.monotonic() - begin
        _DETAILS.debug("ran on %s: %s: exit status %d, %.1f s", self, shown, status, took)
        return CommandResult(status, decode(out), decode(err))

    def lines(self, command: str, timeout: float) -> Generator[str | None, None, None]:
        """Runs a command as `run` does, and yields its lines as they come.

        None comes in every second without a line. stdin stays open until the reader leaves, so a
        command that reads it learns that nobody listens any more. Raises CommandTimeout when there
        is no end within `timeout` seconds, GuestError where the connection or the command broke.
        """
        try:
            channel = self._open().open_session(timeout=PATIENCE)
            with channel:
                with at_most(PATIENCE, channel):
                    channel.exec_command(wire(command, timeout))
                yield from read_lines(channel, time.monotonic() + timeout)
        except NoEnd:
            raise no_end(str(self), timeout, command) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise GuestError(f"{self}: the connection broke: {error}") from None

    def tunnel(self, host: str, port: int) -> Tunnel:
        """A connection from this machine on to `host`, as ssh -W makes it."""
        try:
            channel = self._open().open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=PATIENCE
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            reason = error.text if isinstance(error, paramiko.ChannelException) else error
            raise GuestError(
                f"{self}: no way from there to {host}:{port}: {reason}",
                "is it up, and does the jump host's sshd_config have AllowTcpForwarding yes?",
            ) from None
        return Tunnel(channel)

    def _open(self) -> paramiko.Transport:
        if self._transport is None:
            raise GuestError(f"{self}: the connection is closed")
        return self._transport

    def _connect(self, hops: "Hops") -> None:
        target = self.target
        trust = Trust(target)
        try:
            # A Tunnel has what paramiko's documentation asks of a socket-like object.
            transport = self._transport = paramiko.Transport(self._way(hops))  # type: ignore[arg-type]
            transport.banner_timeout = transport.handshake_timeout = PATIENCE
            transport.auth_timeout = transport.channel_timeout = PATIENCE
            algorithms = transport.get_security_options()
            algorithms.key_types = trust.ordered(algorithms.key_types)
            transport.start_client(timeout=PATIENCE)
            key = transport.get_remote_server_key()
            trust.check(key.get_name(), key.asbytes())
            log_in(transport, target)
            transport.set_keepalive(15)
        except (OSError, EOFError, ValueError, paramiko.SSHException) as error:
            raise self._explained(error) from None

    def _way(self, hops: "Hops") -> socket.socket | Tunnel:
        """The bytes' way to the server, by whichever means the target names."""
        target = self.target
        if target.options.jump is not None:
            try:
                return hops.tunnel(target.options.jump, target.host, target.port)
            except GuestError as error:
                message = f"{target}: not reached through its jump host: {error.message}"
                raise type(error)(message, error.hint) from None
        if target.options.proxy_command is not None:
            self._proxy = ProxyProcess(target.options.proxy_command)
            return self._proxy.socket
        return dial(target)

    def _explained(self, error: Exception) -> GuestError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "is the machine up, and SSH open? vfio-kit list; ping; ssh -v"
        if self._proxy is not None:
            hint = f"its ProxyCommand: {self._proxy.command}"
            reason = self._proxy.complaint() or reason
        if self.target.options.not_honoured:
            hint += "\nssh_config has what vfio-kit does not honour: "
            hint += ", ".join(self.target.options.not_honoured)
        return GuestError(f"{self}: cannot connect: {reason}", hint)


class Hops:
    """Connections to jump hosts, shared by all who go through them at the same time.

    A server takes few logins at once (MaxStartups: ten, as a rule) and any number of tunnels. What
    made a hop fail is kept: nobody else waits for it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Target, threading.Lock] = {}
        self._hops: dict[Target, Connection | GuestError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tunnel(self, hop: Target, host: str, port: int) -> Tunnel:
        """A connection to host:port from `hop`, which is logged in to where it is not yet."""
        with self._lock:
            lock = self._locks.setdefault(hop, threading.Lock())
        with lock:
            known = self._hops.get(hop)
            if known is None or (isinstance(known, Connection) and not known.alive):
                try:
                    known = Connection(hop, self)
                except GuestError as error:
                    known = error
                self._hops[hop] = known
        if isinstance(known, GuestError):
            raise type(known)(known.message, known.hint)
        return known.tunnel(host, port)

    def close(self) -> None:
        """Closes all of them, and with them what goes through them."""
        for hop in reversed(list(self._hops.values())):
            if isinstance(hop, Connection):
                hop.close()


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
            connection.settimeout(max(0.1, min(PATIENCE, deadline - time.monotonic())))
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False  # refused or unreachable: it is not there yet
