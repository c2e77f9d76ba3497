"""What comes back from a host: where vfio-kit's own words begin, and what it is if they do not."""

import shlex
from collections.abc import Callable

from vfio_kit.errors import HostError
from vfio_kit.remote.login import NO_SUDO, NOT_INSTALLED, destination, login_words
from vfio_kit.remote.protocol import is_hello, require_same_protocol
from vfio_kit.remote.uri import RemoteHost

Sink = Callable[[bytes], None]

_UNKNOWN_COMMAND, _SSH_FAILED = 2, 255
_MOST_NOISE = 64 * 1024
"""Bytes that a login shell's profile may print in front."""


class Streams:
    """Tells the command's output from what ssh, a profile or sudo say before it.

    begun: whether vfio-kit has said that it is there.
    """

    def __init__(self, host: RemoteHost, out: Sink, err: Sink) -> None:
        self._host, self._out, self._err = host, out, err
        self.begun = False
        self._head = b""
        self._complaints = b""

    def said(self, data: bytes) -> None:
        """Takes bytes of stdout; HostError for a vfio-kit that speaks another protocol."""
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
        """Takes bytes of stderr."""
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
    if status == NOT_INSTALLED:
        return (
            f"{host} has no vfio-kit in the PATH of {host.user or 'its login'}",
            "install it there, for root, with its libvirt extra: docs/remote.md",
        )
    if status == NO_SUDO:
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
