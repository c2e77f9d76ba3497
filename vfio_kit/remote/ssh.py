"""The one place that starts ssh: a command on a GPU host, and its streams.

OpenSSH's client, as libvirt's own qemu+ssh uses it: ~/.ssh/config, the agent, known_hosts and
ProxyJump are its own. It asks nobody anything, and takes a host whose key is known alone.
"""

import atexit
import contextlib
import logging
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable

from vfio_kit.errors import HostError
from vfio_kit.remote.login import Rights, destination, login_words
from vfio_kit.remote.protocol import Request
from vfio_kit.remote.streams import Sink, Streams
from vfio_kit.remote.uri import RemoteHost

_DETAILS = logging.getLogger(__name__)
_SETTINGS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "60",
    # A connection that is dead is noticed; a host that is busy has two minutes.
    "ServerAliveInterval": "20",
    "ServerAliveCountMax": "6",
    # Of ssh_config, what would get between us and the command's streams.
    "ControlMaster": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
}
_POLL = 0.2
_CHUNK = 1 << 16


_running: "set[subprocess.Popen[bytes]]" = set()


@atexit.register
def _end_running() -> None:
    """Of threads that nobody waits for any longer (list, after Ctrl-C)."""
    for process in list(_running):
        _kill(process)


class Call:
    """One command on a host. The methods but `converse` may be called by a signal's handler."""

    def __init__(self, host: RemoteHost, request: Request, rights: Rights = Rights.ROOT) -> None:
        """Raises HostError where there is no ssh on this machine."""
        self.host = host
        self._pending = memoryview(request.line())
        self._hung_up = self._left = False
        ssh, *words = login_words(host)
        settings = [word for item in _SETTINGS.items() for word in ("-o", "=".join(item))]
        line = f"exec sh -c {shlex.quote(rights.value)}"
        _DETAILS.debug("ssh to %s: vfio-kit %s", destination(host), shlex.join(request.argv))
        try:
            # A session of its own: Ctrl-C is for us, who end the command there in good order.
            self._process = subprocess.Popen(
                [ssh, "-T", *settings, *words, destination(host), line],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise HostError(
                f"cannot run ssh: {error.strerror}", "on Debian and Ubuntu: openssh-client"
            ) from None
        _running.add(self._process)

    def hang_up(self) -> None:
        """Lets the host know that nobody waits any longer: it puts itself back, and says so.

        As long as nobody has answered there is nothing to put back, and it is let go.
        """
        self._hung_up = True

    def let_go(self) -> None:
        """Ends the connection at once; the host notices, and puts itself back unseen."""
        self._left = True

    def converse(
        self,
        out: Sink,
        err: Sink,
        patience: float | None = None,
        hung_up: Callable[[], None] = lambda: None,
    ) -> int:
        """Sends the request and hands on what comes; the exit status of the command.

        patience: seconds until its end. hung_up: called once when the host was told so. Raises
        HostError where ssh or the start of vfio-kit failed, or the connection was lost;
        KeyboardInterrupt after let_go.
        """
        end = None if patience is None else time.monotonic() + patience
        streams = Streams(self.host, out, err)
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                while self._step(selector, streams):
                    if self._left or (self._hung_up and not streams.begun):
                        raise KeyboardInterrupt
                    if self._hung_up and self._lifeline_cut(selector):
                        hung_up()
                    if end is not None and time.monotonic() > end:
                        raise HostError(f"{self.host}: no answer within {patience:.0f} s")
            status = self._process.wait()
        finally:
            self._close()
        return streams.ended(status)

    def _register(self, selector: selectors.BaseSelector) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)

    def _step(self, selector: selectors.BaseSelector, streams: "Streams") -> bool:
        """Moves some bytes; whether there may be more."""
        ended = self._process.poll() is not None
        ready = selector.select(0 if ended else _POLL)
        for key, _ in ready:
            if key.fileobj is self._process.stdin:
                if not self._send(key.fd):
                    selector.unregister(key.fileobj)  # and stays open: it is the lifeline
                continue
            data = os.read(key.fd, _CHUNK)
            if not data:
                selector.unregister(key.fileobj)
            elif key.fileobj is self._process.stdout:
                streams.said(data)
            else:
                streams.complained(data)
        # A program of ssh_config's may hold stderr open for longer than ssh lives.
        return bool(ready) or not ended

    def _lifeline_cut(self, selector: selectors.BaseSelector) -> bool:
        """Closes stdin; whether it was open."""
        stdin = self._process.stdin
        assert stdin is not None
        if stdin.closed:
            return False
        if stdin in selector.get_map():
            selector.unregister(stdin)
        stdin.close()
        return True

    def _send(self, handle: int) -> bool:
        """Writes some of the request; whether more is left."""
        try:
            self._pending = self._pending[os.write(handle, self._pending[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._pending)

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._process.poll() is None:
            _kill(self._process)
        _running.discard(self._process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """ssh and what it started: a ProxyCommand."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            return
