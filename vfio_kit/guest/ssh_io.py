"""Bytes of an SSH connection: the socket below it, and the streams of a command on top."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import paramiko

from vfio_kit.guest.runner import MOST_OUTPUT, decode
from vfio_kit.guest.target import Target

PATIENCE = 90.0
"""Seconds for a banner, a handshake or an authentication; a booting guest needs many of them."""

_CHUNK = 1 << 16


class NoEnd(Exception):
    """A command's time is up; not TimeoutError, which a dead socket raises as well."""


class Tunnel:
    """A channel through a jump host, in the place of a socket.

    paramiko sends what one thread is about to write even after another has closed the channel, and
    OpenSSH's sshd then ends the whole connection, with the tunnels of all others ("data packet
    referred to nonexistent channel"): so nobody closes while somebody writes.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._writing = threading.Lock()

    @property
    def _closed(self) -> bool:
        """What paramiko asks its sockets for."""
        return self._channel.closed

    def settimeout(self, seconds: float | None) -> None:
        """Of both directions."""
        self._channel.settimeout(seconds)

    def send(self, data: bytes) -> int:
        """As a socket's; OSError where the tunnel is closed."""
        with self._writing:
            return self._channel.send(data)

    def recv(self, size: int) -> bytes:
        """As a socket's; no bytes at the end."""
        return self._channel.recv(size)

    def close(self) -> None:
        """Ends the tunnel, when what is being written is written."""
        with self._writing:
            self._channel.close()


def dial(target: Target) -> socket.socket:
    """A TCP connection to the first address of the host that takes one."""
    options = target.options
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(options.family, 0)
    failure: OSError | None = None
    for kind, _, _, _, address in socket.getaddrinfo(
        target.host, target.port, family, socket.SOCK_STREAM
    ):
        sock = socket.socket(kind, socket.SOCK_STREAM)
        try:
            sock.settimeout(options.connect_timeout)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = failure or error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A machine that went away without a word is noticed: keepalives stay unanswered.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PATIENCE * 1000))
        return sock
    raise failure or OSError("the name has no address")


@contextlib.contextmanager
def at_most(seconds: float, channel: paramiko.Channel) -> Iterator[None]:
    """Closes the channel when time is up: paramiko waits for a request's answer without end."""
    timer = threading.Timer(seconds, channel.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def converse(channel: paramiko.Channel, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Writes stdin and reads both streams until the command has ended; NoEnd at `deadline`."""
    out, err = bytearray(), bytearray()
    pending: memoryview | None = memoryview(stdin)
    readable = select.poll()
    readable.register(channel.fileno(), select.POLLIN)
    while True:
        ended = channel.exit_status_ready() and (channel.eof_received or channel.closed)
        pending = _write(channel, pending)
        # Who writes faster than we read does not keep us here.
        while channel.recv_ready() and len(out) <= MOST_OUTPUT:
            out += channel.recv(_CHUNK)
        while channel.recv_stderr_ready() and len(err) <= MOST_OUTPUT:
            err += channel.recv_stderr(_CHUNK)
        if len(out) + len(err) > MOST_OUTPUT:
            raise EOFError(f"more than {MOST_OUTPUT} bytes of output")
        if ended or (channel.closed and not channel.exit_status_ready()):
            return bytes(out), bytes(err)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise NoEnd
        # Woken by data and by the end; the second is for an end that came between the two looks,
        # and the short one for a window that opens without waking anybody.
        readable.poll(1000 * min(0.05 if pending is not None else 1.0, remaining))
        if channel.eof_received and not channel.exit_status_ready():
            channel.status_event.wait(min(1.0, remaining))


def read_lines(channel: paramiko.Channel, deadline: float) -> Iterator[str | None]:
    """The lines that a command prints, as they come, and None in every second without one.

    Ends with the command; NoEnd at `deadline`, EOFError where the connection or the command broke,
    with what the command said last on stderr.
    """
    pending, err = b"", b""
    readable = select.poll()
    readable.register(channel.fileno(), select.POLLIN)
    while True:
        ended = channel.closed or (channel.exit_status_ready() and channel.eof_received)
        while channel.recv_stderr_ready():
            err = (err + channel.recv_stderr(_CHUNK))[-_CHUNK:]
        while channel.recv_ready():
            pending += channel.recv(_CHUNK)
            *lines, pending = pending.split(b"\n")
            if len(pending) > MOST_OUTPUT:
                raise EOFError(f"a line of more than {MOST_OUTPUT} bytes")
            yield from map(decode, lines)
        if ended:
            break
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise NoEnd
        readable.poll(1000 * min(1.0, remaining))
        if channel.eof_received and not channel.exit_status_ready():
            channel.status_event.wait(min(1.0, remaining))
        if not (channel.recv_ready() or channel.recv_stderr_ready() or channel.closed):
            yield None
    status = channel.recv_exit_status() if channel.exit_status_ready() else -1
    if status != 0:
        said = decode(err).strip().splitlines()
        raise EOFError(said[-1] if said else f"it ended with exit status {status}")


def _write(channel: paramiko.Channel, pending: memoryview | None) -> memoryview | None:
    """What is left to write; None when all is written and the command has its end of file."""
    if pending is None:
        return None
    try:
        while pending and channel.send_ready():
            pending = pending[channel.send(bytes(pending[:_CHUNK])) :]
        if pending:
            return pending
        channel.shutdown_write()
    except OSError:
        return None  # nobody reads any longer
    return None
