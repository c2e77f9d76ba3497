"""An SSH server in this process: a real handshake, and commands that behave as a test wants."""

import contextlib
import io
import re
import shlex
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_SUCCESS,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from vfio_kit.apply.keys import KeyPair, new_key
from vfio_kit.guest.ssh import Target
from vfio_kit.model.health import CommandResult

Behaviour = Callable[[paramiko.Channel], None]
"""What a command does with its channel; runs in a thread of its own."""


def answer(result: CommandResult) -> Behaviour:
    """A command that gives this and ends."""

    def behave(channel: paramiko.Channel) -> None:
        channel.sendall(result.stdout.encode())
        channel.sendall_stderr(result.stderr.encode())
        channel.send_exit_status(result.exit_status)
        channel.close()

    return behave


def hang(_channel: paramiko.Channel) -> None:
    """A command that says nothing and does not end."""


def break_off(channel: paramiko.Channel) -> None:
    """A machine that goes away while a command runs."""
    channel.sendall(b"half of the out")
    channel.get_transport().close()


def end_without_status(channel: paramiko.Channel) -> None:
    """A command that is killed: its channel closes, and no exit status was sent."""
    channel.close()


def shell(*argv: str) -> Callable[[str], Behaviour]:
    """What a login shell makes of the line that comes: it is really run, with its stdin."""

    def of(line: str) -> Behaviour:
        def behave(channel: paramiko.Channel) -> None:
            stdin = channel.makefile("rb").read()
            done = subprocess.run(
                [*argv, "-c", line], check=False, input=stdin, capture_output=True
            )
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
            channel.close()

        return behave

    return of


class _Interface(paramiko.ServerInterface):
    """One connection's view of the server."""

    def __init__(self, server: "SshServer") -> None:
        self._server = server
        self.destinations: dict[int, tuple[str, int]] = {}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        certified = key.public_blob is not None
        self._server.offered.append(key.get_base64())
        self._server.certified.append(certified)
        if certified and self._server.refuses_certificates:
            return AUTH_FAILED
        known = key.get_base64() == self._server.client_key.public.split()[1]
        opened = time.monotonic() >= self._server.closed_until
        return AUTH_SUCCESSFUL if known and opened else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        line = command.decode()
        missing = answer(CommandResult(127, "", "command not found\n"))
        if self._server.shell is not None:
            behave = self._server.shell(line)
        else:
            behave = self._server.commands.get(plain(line), missing)
        transport = channel.get_transport()
        assert isinstance(transport, _Transport)
        transport.after_reply(channel.remote_chanid, lambda: _quietly(behave, channel))
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self._server.tunnels.append(destination)
        self.destinations[chanid] = destination
        return OPEN_SUCCEEDED if self._server.forwards else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


def plain(line: str) -> str:
    """The command that a line on the wire has a shell run: printf's %b undone."""
    escaped = shlex.split(line)[-2]
    text = re.sub(r"\\0([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
    return text.encode("latin-1").decode()


class _Transport(paramiko.Transport):
    """Begins what a command does when the reply to its request has gone out, as sshd does.

    paramiko sends that reply after it has asked whether the command may run; what comes before it,
    a channel's close above all, would look to the client as if the command had been refused.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._waiting: dict[int, Callable[[], None]] = {}

    def after_reply(self, channel: int, begin: Callable[[], None]) -> None:
        self._waiting[channel] = begin

    def _send_user_message(self, data: paramiko.Message) -> None:
        # paramiko's own method, which its type stubs leave out.
        super()._send_user_message(data)  # type: ignore[misc]
        kind, channel = struct.unpack(">BI", data.asbytes()[:5].ljust(5, b"\0"))
        if kind == MSG_CHANNEL_SUCCESS and channel in self._waiting:
            threading.Thread(target=self._waiting.pop(channel), daemon=True).start()


def _quietly(behave: Behaviour, channel: paramiko.Channel) -> None:
    try:
        behave(channel)
    except (OSError, EOFError, paramiko.SSHException):
        return  # the client went away: tests make it do so


def _pump(
    read: Callable[[int], bytes], write: Callable[[bytes], object], end: Callable[[], object]
) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := read(1 << 15):
            write(data)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        end()


class SshServer:
    """Listens on 127.0.0.1 while it is entered; `commands` maps a command to its behaviour.

    shell: instead of `commands`, what a login shell makes of any line.
    forwards: it is a jump host. tunnels: where it was asked to go; offered: the keys it was
    shown; certified: whether each came with a certificate.

    banner_delay is in seconds: how long an accepted connection waits for the server's first line.
    closed_for: for how many seconds every login is refused, as pam_nologin does at boot.
    """

    def __init__(
        self,
        folder: Path,
        commands: Mapping[str, Behaviour] | None = None,
        banner_delay: float = 0,
        closed_for: float = 0,
        shell: Callable[[str], Behaviour] | None = None,
        forwards: bool = False,
        client_key: KeyPair | None = None,
    ) -> None:
        self.host_key, self.client_key = new_key("root@vm"), client_key or new_key("client@vm")
        self.identity = folder / "id_ed25519"
        self.identity.write_text(self.client_key.private)
        self.commands, self.shell, self.forwards = commands or {}, shell, forwards
        self.closed_until = time.monotonic() + closed_for
        self.tunnels: list[tuple[str, int]] = []
        self.offered: list[str] = []
        self.certified: list[bool] = []
        self.refuses_certificates = False
        self._banner_delay = banner_delay
        self._folder = folder
        self._transports: list[paramiko.Transport] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.02)
        self.port = int(self._socket.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def known_hosts(self, *lines: str) -> Path:
        path = self._folder / "known_hosts"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def target(self, known_hosts: Path | None = None, alias: str | None = None) -> Target:
        """How to reach this server, knowing its key unless another file is given."""
        known = known_hosts or self.known_hosts(
            f"{alias or f'[127.0.0.1]:{self.port}'} {self.host_key.public}"
        )
        return Target("127.0.0.1", self.port, "root", self.identity, known, alias)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(10)
        self._socket.close()
        for transport in self._transports:
            transport.close()

    def _serve(self) -> None:
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(self.host_key.private))
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ended.wait(self._banner_delay)
            transport = _Transport(connection)
            self._transports.append(transport)
            transport.add_server_key(key)
            interface = _Interface(self)
            try:
                transport.start_server(server=interface, event=threading.Event())
            except (OSError, EOFError, paramiko.SSHException):
                continue
            if self.forwards:
                threading.Thread(target=_forward, args=(transport, interface), daemon=True).start()


def _forward(transport: paramiko.Transport, interface: _Interface) -> None:
    """Carries the tunnels of one connection, until it ends."""
    while transport.is_alive():
        channel = transport.accept(0.1)
        if channel is None or channel.get_id() not in interface.destinations:
            continue
        try:
            onward = socket.create_connection(interface.destinations[channel.get_id()], timeout=10)
        except OSError:
            channel.close()
            continue
        onward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way in (
            (channel.recv, onward.sendall, onward.close),
            (onward.recv, channel.sendall, channel.close),
        ):
            threading.Thread(target=_pump, args=way, daemon=True).start()
