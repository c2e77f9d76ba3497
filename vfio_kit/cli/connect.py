"""--connect: a command that is carried out on another host, by the vfio-kit there.

A command takes part by a row of REMOTE and by the decorator `connectable`.
"""

import functools
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vfio_kit.cli import completing, console
from vfio_kit.cli.relay import Heard, Relayed
from vfio_kit.cli.report import Report
from vfio_kit.errors import UsageError

if TYPE_CHECKING:
    from vfio_kit.remote.protocol import Request
    from vfio_kit.remote.ssh import Call
    from vfio_kit.remote.uri import RemoteHost

Command = Callable[..., Any]

_HERE = ("--connect", "--log-file")
"""Options that are this machine's own affair."""
_LONGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """What of a command has another meaning on another host; its parameters by click's names.

    carried  a file of the workstation, whose content goes along.
    refused  makes no sense from afar: why.
    streams  a file that is written: taken as - alone, which is stdout.
    Every other path is one of the host.
    """

    carried: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    streams: tuple[str, ...] = ()


_FOR_HOST = "it goes with --host, and --connect verifies the VMs of that host"

REMOTE: dict[str, Row] = {
    "up": Row(carried=("spec_file", "plan_file")),
    "down": Row(),
    "start": Row(),
    "stop": Row(),
    "repair": Row(),
    "list": Row(),
    "verify": Row(
        refused=dict.fromkeys(
            ("hosts", "hosts_file", "local", "user", "port", "identity"), _FOR_HOST
        )
        | dict.fromkeys(("known_hosts", "jump", "ssh_config"), _FOR_HOST),
        streams=("junit", "prometheus"),
    ),
    "snapshot": Row(),
}
"""The commands that `vfio-kit remote` carries out, and no other."""


def connectable(function: Command) -> Command:
    """--connect URI: the command is carried out there, with a row of REMOTE."""

    @functools.wraps(function)
    def run(*args: Any, connect: str | None, **values: Any) -> Any:
        if connect is None:
            return function(*args, **values)
        from vfio_kit.remote.uri import parse_uri

        host = parse_uri(connect)
        if host is None:
            return function(*args, **values)
        return _relay(click.get_current_context(), host)

    return click.option(
        "--connect",
        metavar="URI",
        shell_complete=completing.uris,
        help="Do it on another GPU host: qemu+ssh://[user@]host[:port]/system. Paths are that "
        "host's; docs/remote.md.",
    )(run)


def require_no_further(ctx: click.Context) -> None:
    """Raises UsageError on a host that is asked for what is the workstation's own affair."""
    for parameter in ctx.command.params:
        if not ctx.params.get(parameter.name or ""):
            continue
        if "--connect" in parameter.opts:
            raise UsageError("--connect leads from one host to one other, and not further")
        if "--log-file" in parameter.opts:
            raise UsageError("--log-file is a file of the workstation's")


def require_sensible(ctx: click.Context, where: str) -> None:
    """Raises UsageError for a parameter that has no meaning on another host; see Row."""
    row = REMOTE[ctx.command.name or ""]
    for parameter in _given(ctx):
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        option = _spelled(parameter)
        if name in row.refused or (name in row.streams and value != "-"):
            why = row.refused.get(name, f"no file is written on {where}; - is stdout")
            raise UsageError(f"{option} with --connect: {why}", "docs/remote.md")
        if isinstance(parameter.type, click.Path) and name not in row.carried:
            for path in value if isinstance(value, tuple) else (value,):
                if not Path(path).is_absolute():
                    raise UsageError(
                        f"{option} {path}: with --connect it is a path on {where}",
                        "give it from / on",
                    )


def request_of(ctx: click.Context, host: "RemoteHost") -> "Request":
    """The command that click has parsed, for that host; UsageError for what cannot be meant."""
    from vfio_kit.remote.protocol import Request

    require_sensible(ctx, str(host))
    row = REMOTE[ctx.command.name or ""]
    argv, files = [ctx.command.name or ""], {}
    arguments: list[str] = []
    for parameter in _given(ctx):
        value = ctx.params[parameter.name or ""]
        if isinstance(parameter, click.Argument):
            arguments += map(str, value if isinstance(value, tuple) else (value,))
        elif parameter.name in row.carried:
            argv += [_spelled(parameter), str(value)]
            files[len(argv) - 1] = _content(value)
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            argv.append(_spelled(parameter) if value else parameter.secondary_opts[0])
        else:
            each = value if isinstance(value, tuple) else (value,)
            argv += [f"{_spelled(parameter)}={one}" for one in each]
    return Request(
        argv=(*argv, "--", *arguments),
        files=files,
        terminals=(sys.stdout.isatty(), sys.stderr.isatty()),
        columns=console.terminal_width(),
        uri=host.uri,
        login=_login(host),
        live=console.is_live(),
        colors=ctx.color,
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
    )


def _given(ctx: click.Context) -> Iterator[click.Parameter]:
    """What stands on the command line; the environment is this machine's, and stays here."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        ours = not parameter.expose_value or any(option in _HERE for option in parameter.opts)
        if source is ParameterSource.COMMANDLINE and not ours:
            yield parameter


def _spelled(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    if len(data) > _LONGEST_FILE:
        raise UsageError(f"{file} is longer than {_LONGEST_FILE} bytes")
    return data


def _login(host: "RemoteHost") -> str:
    """-t: sudo there may ask for a password."""
    from vfio_kit.remote.login import destination, login_words

    ssh, *words = login_words(host)
    return shlex.join([ssh, "-t", *words, destination(host)])


def _relay(ctx: click.Context, host: "RemoteHost") -> None:
    """Carries the command out there; its output and its exit status become ours."""
    from vfio_kit.remote.ssh import Call

    _check_spec(ctx)
    call = Call(host, request_of(ctx, host))
    out = Relayed(sys.stdout.buffer, call)
    err = Relayed(sys.stderr.buffer, heard=Heard())
    Report().begins(f"waiting for {host}")
    with _hanging_up(call):
        status = call.converse(
            out,
            err,
            hung_up=lambda: console.step(f"{host} was told; once more: do not wait for it"),
        )
    if out.failure is not None:
        raise out.failure
    ctx.exit(status)


def _check_spec(ctx: click.Context) -> None:
    """What is wrong with a spec is said here, where its file is, before anything is asked.

    A saved plan has its options in it, which the host lays the others over.
    """
    if "spec_file" in ctx.params and ctx.params.get("plan_file") is None:
        from vfio_kit.cli.spec_options import spec_from

        values = dict(ctx.params)
        spec_from(values.pop("spec_file"), values.pop("name"), values)


@contextmanager
def _hanging_up(call: "Call") -> Iterator[None]:
    """The first signal is passed on, by the end of stdin; with the second nobody waits any more."""
    told = False

    def tell(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        (call.let_go if told else call.hang_up)()
        told = True

    before = {s: signal.signal(s, tell) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
