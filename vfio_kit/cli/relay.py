"""What another host says: passed on as it comes, or kept, where it is a snapshot."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from vfio_kit.cli import console
from vfio_kit.cli.report import Report
from vfio_kit.errors import HostError

if TYPE_CHECKING:
    from vfio_kit.remote.ssh import Call
    from vfio_kit.remote.uri import RemoteHost

_SNAPSHOT_PATIENCE = 300.0
_LARGEST_SNAPSHOT = 64 * 1024 * 1024


class Relayed:
    """A stream of ours that takes what comes. One that nobody reads any longer stops no command.

    call: is told when the result has nowhere to go; failure: why it has not.
    heard: gets all of it, whoever reads.
    """

    def __init__(
        self, stream: BinaryIO, call: "Call | None" = None, heard: "Heard | None" = None
    ) -> None:
        self._stream, self._call, self._heard = stream, call, heard
        self.failure: OSError | None = None

    def __call__(self, data: bytes) -> None:
        console.end()  # what is said there is drawn there
        if self._heard is not None:
            self._heard(data)
        if self.failure is not None:
            return
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            self.failure = error
            if self._call is not None:
                self._call.hang_up()


class Heard:
    """Puts what another host says on its stderr into the log here: lines as they stay there."""

    def __init__(self) -> None:
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = map(_last_drawn, (self._rest + data).split(b"\n"))
        for line in lines:
            console.log("info", line.decode("utf-8", "replace"))


def _last_drawn(line: bytes) -> bytes:
    return line.rpartition(b"\r\x1b[K")[2]


def fetch_snapshot(host: "RemoteHost") -> Path:
    """What `vfio-kit snapshot` packs there; with root's rights where sudo gives them unasked.

    The file is nowhere but in this process.
    """
    from vfio_kit.remote.login import Rights
    from vfio_kit.remote.protocol import Request
    from vfio_kit.remote.ssh import Call

    data = bytearray()

    def keep(more: bytes) -> None:
        data.extend(more)
        if len(data) > _LARGEST_SNAPSHOT:
            raise HostError(f"{host} sends more than a snapshot holds")

    call = Call(host, Request(("snapshot",)), Rights.ROOT_IF_ALLOWED)
    with Report().silently(f"reading {host}"):
        status = call.converse(keep, Relayed(sys.stderr.buffer, heard=Heard()), _SNAPSHOT_PATIENCE)
    if status:
        raise HostError(f"{host}: vfio-kit snapshot failed there (exit {status})")
    return file_in_memory(bytes(data))


def file_in_memory(content: bytes) -> Path:
    """A path to these bytes that this process has until its command has ended."""
    handle = os.memfd_create("vfio-kit")
    click.get_current_context().call_on_close(lambda: os.close(handle))
    with os.fdopen(os.dup(handle), "wb") as stream:
        stream.write(content)
    return Path(f"/proc/self/fd/{handle}")
