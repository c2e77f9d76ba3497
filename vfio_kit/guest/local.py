"""Processes of this machine: `verify --local`, ssh, and the programs that an ssh_config names."""

import atexit
import contextlib
import os
import selectors
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence

from vfio_kit.errors import GuestError
from vfio_kit.guest.runner import MOST_OUTPUT, decode, no_end
from vfio_kit.model.health import CommandResult

_HERE = "this machine"

_CHUNK = 1 << 16
_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL, and again until the end is not waited for any longer."""


_running: "set[subprocess.Popen[bytes]]" = set()
"""Programs of threads that the end of this process does not wait for (many.for_each)."""
_ending = threading.Event()


@atexit.register
def _end_running() -> None:
    """After Ctrl-C no burn goes on without us: the terminal's SIGINT is not for its session."""
    _ending.set()
    for process in list(_running):
        _kill_group(process)


class _NoEnd(Exception):
    """A command's time is up."""


class LocalRunner:
    """Runs commands on this machine; see Runner."""

    def __str__(self) -> str:
        return _HERE

    def run(self, command: str, timeout: float = 60, *, stdin: str = "") -> CommandResult:
        """Runs a command in a process group of its own, which is killed when time is up."""
        return run_program(("/bin/sh", "-c", command), timeout, stdin=stdin, label=command)


def run_program(
    words: Sequence[str], timeout: float, *, stdin: str = "", label: str = ""
) -> CommandResult:
    """Runs a program and no shell, as LocalRunner runs commands; label: what errors call it."""
    if _ending.is_set():
        raise GuestError(f"{_HERE}: vfio-kit ends")
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        raise GuestError(f"{_HERE}: cannot run a command: {error}") from None
    ended = False
    _running.add(process)
    try:
        out, err = _converse(process, stdin.encode(), time.monotonic() + timeout)
        ended = True
    except _NoEnd:
        raise no_end(_HERE, timeout, label or shlex.join(words)) from None
    except EOFError as error:
        raise GuestError(f"{_HERE}: {error}") from None
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if not ended:
            _kill_group(process)
        _running.discard(process)
    return CommandResult(_shell_status(process.returncode), decode(out), decode(err))


class ProxyProcess:
    """A ProxyCommand: carries a connection on its stdin and stdout, which are one socket of ours.

    A real socket tells the end of the program at once; paramiko's own ProxyCommand does not notice
    it, and turns in a circle until its patience ends.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.socket, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )

    def complaint(self) -> str:
        """The last line that the program wrote to stderr."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._stderr.seek(0)
        lines = decode(self._stderr.read(_CHUNK)).strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Ends the program."""
        self.socket.close()
        if self._process.poll() is None:
            _kill_group(self._process)
        self._stderr.close()


def _converse(
    process: "subprocess.Popen[bytes]", stdin: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """Writes stdin and reads both streams until the process and they have ended."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    streams = {process.stdout: bytearray(), process.stderr: bytearray()}
    pending = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        if pending:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _NoEnd
            for key, _ in selector.select(remaining):
                if key.fileobj is process.stdin:
                    pending = _write(key.fd, pending)
                    if not pending:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                streams[process.stdout if key.fileobj is process.stdout else process.stderr] += data
            if sum(map(len, streams.values())) > MOST_OUTPUT:
                raise EOFError(f"more than {MOST_OUTPUT} bytes of output")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _NoEnd from None
    return bytes(streams[process.stdout]), bytes(streams[process.stderr])


def _write(fd: int, pending: memoryview) -> memoryview:
    """What is left to write; nothing, where nobody reads any longer."""
    try:
        return pending[os.write(fd, pending[:_CHUNK]) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return pending[:0]


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process and what it started; one in state D ends when its driver lets it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Gone already, or somebody else's by now (sudo): then there is nothing for us to end.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _shell_status(returncode: int) -> int:
    """As a shell tells it: 128 and the signal, where one ended the process."""
    return returncode if returncode >= 0 else 128 - returncode
