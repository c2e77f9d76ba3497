"""vfio-kit remote: what --connect starts on a GPU host; docs/remote.md"""

import io
import os
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

from vfio_kit.cli.common import sigterm_as_interrupt
from vfio_kit.cli.connect import REMOTE, require_no_further, require_sensible
from vfio_kit.cli.origin import Origin, set_origin
from vfio_kit.cli.relay import file_in_memory
from vfio_kit.errors import HostError, UsageError

if TYPE_CHECKING:
    from vfio_kit.remote.protocol import Request

_STDIN = 0
_CHUNK = 1 << 16


@click.command("remote", hidden=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Carry out one command for a workstation.

    The request is a line on stdin. When stdin ends before the command does, the workstation has
    gone: the command gets SIGHUP, as when its terminal is lost.
    """
    from vfio_kit.remote.protocol import Request, hello

    if os.isatty(_STDIN):
        raise UsageError(
            "vfio-kit remote is what --connect starts on a GPU host", "vfio-kit up --connect URI"
        )
    stdout = sys.stdout.buffer
    stdout.write(hello())
    stdout.flush()
    request = Request.read(_line())
    _be_terminals(request)
    ctx.color = request.colors
    set_origin(ctx, Origin(request.uri, request.login))
    with sigterm_as_interrupt():
        threading.Thread(target=_await_end, daemon=True).start()
        _carry_out(ctx, request)


def _line() -> bytes:
    """The first line of stdin; what follows it belongs to nobody."""
    from vfio_kit.remote.protocol import LONGEST

    data = bytearray()
    while b"\n" not in data:
        try:
            more = os.read(_STDIN, _CHUNK)
        except OSError:  # closed, or nothing to read from
            more = b""
        data += more
        if not more or len(data) > LONGEST:
            raise HostError("the workstation sent no request, or one without end")
    return bytes(data).partition(b"\n")[0]


def _await_end() -> None:
    """Stdin's end is the workstation's: Ctrl-C there, or its connection is lost."""
    while os.read(_STDIN, _CHUNK):
        """Nothing more is said."""
    os.kill(os.getpid(), signal.SIGHUP)


def _carry_out(ctx: click.Context, request: "Request") -> None:
    name, *words = request.argv
    assert ctx.parent is not None and isinstance(ctx.parent.command, click.Group)
    wanted = ctx.parent.command.get_command(ctx.parent, name) if name in REMOTE else None
    if wanted is None or (name == "snapshot" and words):
        what = shlex.join(request.argv)
        raise UsageError(f"{what}: not carried out for another machine", "docs/remote.md")
    for place, content in request.files.items():
        words[place - 1] = str(file_in_memory(content))
    with wanted.make_context(name, words, parent=ctx.parent) as inner:
        require_no_further(inner)
        require_sensible(inner, "the host")
        if name == "snapshot":
            _send_snapshot(inner)
        else:
            wanted.invoke(inner)


def _send_snapshot(ctx: click.Context) -> None:
    """A stream, which the command itself does not write: it would be a file without a name."""
    from vfio_kit.host.machine import names_of
    from vfio_kit.host.snapshot.take import take_snapshot
    from vfio_kit.host.tree import Tree

    root = ctx.params["root"]
    data = take_snapshot(root, names_of(Tree(root)))
    sys.stdout.buffer.write(data)


def _be_terminals(request: "Request") -> None:
    """Streams with the answers that the workstation's would give."""
    os.environ["COLUMNS"] = str(request.columns)
    os.environ["TERM"] = "xterm" if request.live else "dumb"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=request.encoding)
    if request.terminals[0] and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _AsTerminal(sys.stdout)
    if request.terminals[1] and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _AsTerminal(sys.stderr)


class _AsTerminal(io.TextIOWrapper):
    def __init__(self, stream: io.TextIOWrapper) -> None:
        encoding, errors = stream.encoding, stream.errors
        super().__init__(stream.detach(), encoding, errors, line_buffering=True)

    def isatty(self) -> bool:
        return True
