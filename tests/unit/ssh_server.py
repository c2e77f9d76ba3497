"""An SSH server in this process: a real handshake, and commands that behave as a test wants."""

import io
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

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


class _Interface(paramiko.ServerInterface):
    def __init__(
        self, client_key: KeyPair, commands: Mapping[str, Behaviour], closed_until: float
    ) -> None:
        self._client_key = client_key
        self._closed_until = closed_until
        self._commands = commands

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = key.get_base64() == self._client_key.public.split()[1]
        opened = time.monotonic() >= self._closed_until
        return AUTH_SUCCESSFUL if known and opened else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        missing = answer(CommandResult(127, "", "command not found\n"))
        behave = self._commands.get(plain(command.decode()), missing)
        threading.Thread(target=_quietly, args=(behave, channel), daemon=True).start()
        return True


def plain(line: str) -> str:
    """The command that a line on the wire has a shell run: printf's %b undone."""
    escaped = shlex.split(line)[-2]
    text = re.sub(r"\\0([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
    return text.encode("latin-1").decode()


def _quietly(behave: Behaviour, channel: paramiko.Channel) -> None:
    try:
        time.sleep(0.01)  # the reply to the request goes first
        behave(channel)
    except (OSError, EOFError, paramiko.SSHException):
        return  # the client went away: tests make it do so


class SshServer:
    """Listens on 127.0.0.1 while it is entered; `commands` maps a command to its behaviour.

    banner_delay is in seconds: how long an accepted connection waits for the server's first line.
    closed_for: for how many seconds every login is refused, as pam_nologin does at boot.
    """

    def __init__(
        self,
        folder: Path,
        commands: Mapping[str, Behaviour] | None = None,
        banner_delay: float = 0,
        closed_for: float = 0,
    ) -> None:
        self.host_key, self.client_key = new_key("root@vm"), new_key("client@vm")
        self.identity = folder / "id_ed25519"
        self.identity.write_text(self.client_key.private)
        self._interface = _Interface(self.client_key, commands or {}, time.monotonic() + closed_for)
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
            transport = paramiko.Transport(connection)
            self._transports.append(transport)
            transport.add_server_key(key)
            try:
                transport.start_server(server=self._interface, event=threading.Event())
            except (OSError, EOFError, paramiko.SSHException):
                continue
