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
from enum import Enum

from vfio_kit.errors import HostError
from vfio_kit.remote.protocol import Request, is_hello, require_same_protocol
from vfio_kit.remote.uri import RemoteHost

_DETAILS = logging.getLogger(__name__)
Sink = Callable[[bytes], None]

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
_NOT_INSTALLED, _NO_SUDO, _UNKNOWN_COMMAND, _SSH_FAILED = 92, 93, 2, 255
_FIND = f"PATH=$PATH:/usr/local/bin; v=$(command -v vfio-kit) || exit {_NOT_INSTALLED}; "
_IF_ROOT = '[ "$(id -u)" = 0 ] && exec "$v" remote; '
_MOST_NOISE = 64 * 1024
"""Bytes that a login shell's profile may print in front."""
_POLL = 0.2
_CHUNK = 1 << 16


class Rights(Enum):
    """With whose rights a command runs on the host; the value is the constant line of shell."""

    ROOT = (
        f"{_FIND}{_IF_ROOT}command -v sudo >/dev/null || exit {_NO_SUDO}; "
        'exec sudo -n -- "$v" remote'
    )
    ROOT_IF_ALLOWED = (
        f'{_FIND}{_IF_ROOT}sudo -n -l -- "$v" remote >/dev/null 2>&1 '
        '&& exec sudo -n -- "$v" remote; exec "$v" remote'
    )


_running: "set[subprocess.Popen[bytes]]" = set()


@atexit.register
def _end_running() -> None:
    """Of threads that nobody waits for any longer (list, after Ctrl-C)."""
    for process in list(_running):
        _kill(process)


def login_words(host: RemoteHost) -> list[str]:
    """ssh with what the URI says, up to the host: how the operator logs in there, too."""
    words = ["ssh"]
    if host.port is not None:
        words += ["-p", str(host.port)]
    if host.keyfile is not None:
        words += ["-i", host.keyfile, "-o", "IdentitiesOnly=yes"]
    if host.known_hosts is not None:
        words += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
    return words


def destination(host: RemoteHost) -> str:
    return host.host if host.user is None else f"{host.user}@{host.host}"


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
        streams = _Streams(self.host, out, err)
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

    def _step(self, selector: selectors.BaseSelector, streams: "_Streams") -> bool:
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


class _Streams:
    """Tells the command's output from what ssh, a profile or sudo say before it.

    begun: whether vfio-kit has said that it is there.
    """

    def __init__(self, host: RemoteHost, out: Sink, err: Sink) -> None:
        self._host, self._out, self._err = host, out, err
        self.begun = False
        self._head = b""
        self._complaints = b""

    def said(self, data: bytes) -> None:
        if self.begun:
            self._out(data)
            return
        self._head += data
        while not self.begun and b"\n" in self._head:
            line, _, self._head = self._head.partition(b"\n")
            if is_hello(line):
                require_same_protocol(str(self._host), line)
                self.begun = True
        if not self.begun:
            self._head = self._head[-_MOST_NOISE:]
            return
        if self._complaints:
            self._err(self._complaints)
        if self._head:
            self._out(self._head)

    def complained(self, data: bytes) -> None:
        if self.begun:
            self._err(data)
        else:
            self._complaints = (self._complaints + data)[-_MOST_NOISE:]

    def ended(self, status: int) -> int:
        """The command's exit status; HostError where there was no command, or not to its end."""
        host = self._host
        if self.begun:
            if status == _SSH_FAILED or status < 0:
                raise HostError(
                    f"{host}: the connection was lost, or vfio-kit was killed there",
                    "nothing is lost: its journal is on the host\n"
                    f"vfio-kit list --connect {shlex.quote(host.uri)} says what is there",
                )
            return status
        words = self._complaints.decode("utf-8", "replace").strip()
        said = " / ".join(line.strip() for line in words.splitlines()[-4:]) or "without a word"
        if status == _SSH_FAILED or status < 0:
            raise HostError(
                f"{host} cannot be reached by ssh: {said}",
                f"try it: {shlex.join([*login_words(host), destination(host), 'true'])}",
            )
        raise HostError(*_not_begun(host, status, said))


def _not_begun(host: RemoteHost, status: int, said: str) -> tuple[str, str]:
    """Message and hint of a login that did not get to vfio-kit."""
    if status == _NOT_INSTALLED:
        return (
            f"{host} has no vfio-kit in the PATH of {host.user or 'its login'}",
            "install it there, for root, with its libvirt extra: docs/remote.md",
        )
    if status == _NO_SUDO:
        return (
            f"{host} has no sudo, and {host.user or 'the login'} is not root there",
            f"install sudo there, or log in as root: qemu+ssh://root@{host.host}/system",
        )
    if status == _UNKNOWN_COMMAND:
        return (
            f"{host}: the vfio-kit there cannot be used from afar: {said}",
            "it is older than this one: install the same version on both",
        )
    return (
        f"{host}: vfio-kit could not be started there (exit {status}): {said}",
        "sudo has to run it without a password; a line for /etc/sudoers.d there:\n"
        f"{host.user or 'USER'} ALL=(root) NOPASSWD: /usr/local/bin/vfio-kit remote",
    )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """ssh and what it started: a ProxyCommand."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            return
