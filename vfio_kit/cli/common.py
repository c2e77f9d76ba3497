"""What several commands share: options, reading the host, and how things are printed."""

import functools
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import console
from vfio_kit.cli.context import CONNECTED_TO, SNAPSHOT_OF
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model import Finding, Host, Level, PciDevice

if TYPE_CHECKING:
    from vfio_kit.remote.uri import RemoteHost

Command = Callable[..., Any]


def _keep_snapshot(ctx: click.Context, _option: click.Parameter, file: Path | None) -> None:
    if file is not None:
        ctx.meta[SNAPSHOT_OF] = file


def _snapshot_or_root(ctx: click.Context, _option: click.Parameter, root: Path | None) -> Path:
    given = {
        "--root": root,
        "--from": ctx.meta.get(SNAPSHOT_OF),
        "--connect": ctx.meta.get(CONNECTED_TO),
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} name two machines; give one of them", ctx)
    return Path(given["--from"] or root or "/")


def _keep_host(ctx: click.Context, _option: click.Parameter, uri: str | None) -> None:
    if uri is not None:
        from vfio_kit.remote.uri import parse_uri

        ctx.meta[CONNECTED_TO] = parse_uri(uri)


def root_option(function: Command) -> Command:
    """--root DIR, --from FILE and --connect URI: the machine that the command reads.

    The command's `root` is the folder, or a file that is a snapshot, else `/`.
    """
    from vfio_kit.cli import completing

    @functools.wraps(function)
    def run(*args: Any, root: Path, **values: Any) -> Any:
        host = connected_host()
        if host is not None:
            from vfio_kit.cli.relay import fetch_snapshot

            root = fetch_snapshot(host)
        return function(*args, root=root, **values)

    with_options = click.option(
        "--connect",
        metavar="URI",
        shell_complete=completing.uris,
        callback=_keep_host,
        expose_value=False,
        is_eager=True,
        help="Read another host over SSH, as in qemu+ssh://root@gpu1/system; docs/remote.md.",
    )(run)
    with_options = click.option(
        "--root",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar="VFIO_KIT_ROOT",
        callback=_snapshot_or_root,
        help="Read another machine's tree of /sys and /proc instead of this one's.",
    )(with_options)
    return click.option(
        "--from",
        "snapshot",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        callback=_keep_snapshot,
        expose_value=False,
        is_eager=True,
        help="Read a snapshot of a machine (vfio-kit snapshot) instead of this one.",
    )(with_options)


def connected_host() -> "RemoteHost | None":
    """The host that --connect has a command read, by its snapshot."""
    ctx = click.get_current_context(silent=True)
    found: RemoteHost | None = None if ctx is None else ctx.meta.get(CONNECTED_TO)
    return found


def up_words(name: str) -> str:
    """The command that brings a VM up on the machine that was read."""
    host = connected_host()
    if host is None:
        return f"sudo vfio-kit up {name}"
    return f"vfio-kit up {name} --connect {shlex.quote(host.uri)}"


def source_words(root: Path) -> str:
    """What names the machine again in a next command: nothing for this one."""
    host = connected_host()
    if host is not None:
        return f" --connect {shlex.quote(host.uri)}"
    if root == Path("/"):
        return ""
    return f" {'--root' if root.is_dir() else '--from'} {shlex.quote(str(root))}"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


def log_file_option(function: Command) -> Command:
    """--log-file FILE: opened before the command does anything, and closed when all is said."""

    @functools.wraps(function)
    def run(*args: Any, log_file: Path | None, **values: Any) -> Any:
        if log_file is None:
            return function(*args, **values)
        from vfio_kit.cli.log_file import logged

        with logged(log_file):
            return function(*args, **values)

    return click.option(
        "--log-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Add all that is said on stderr to this file, with times (UTC), and what was run.",
    )(run)


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=Path("/var/lib/vfio-kit"),
    envvar="VFIO_KIT_STATE_DIR",
    show_default=True,
    help="Where vfio-kit keeps what it did.",
)
image_dir_option = click.option(
    "--image-dir",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=Path("/var/lib/libvirt/images"),
    envvar="VFIO_KIT_IMAGE_DIR",
    show_default=True,
    help="Where the overlay and the seed are put.",
)


def read_named_host(root: Path) -> Host:
    """The host at `root`, a folder or a snapshot, with the names of its GPUs and their groups."""
    from vfio_kit.host.machine import read_machine

    try:
        return read_machine(root)
    except UsageError as error:
        host = connected_host()
        if host is None:
            raise
        raise HostError(error.message.replace(str(root), f"what {host} sent"), error.hint) from None


def require_root(what: str) -> None:
    """Raises HostError unless root runs this."""
    if os.geteuid() != 0:
        raise HostError(
            f"{what} needs root: it changes hugepages, drivers and libvirt's domains",
            f"sudo {shlex.join([sys.argv[0], *sys.argv[1:]])}",
        )


def print_json(document: dict[str, Any]) -> None:
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    click.echo(text)


def print_findings(findings: tuple[Finding, ...], indent: str = "  ", *, err: bool = False) -> None:
    """Each with its code and level, wrapped, and its next step below; the same step once."""
    colours = {Level.BLOCK: "red", Level.WARN: "yellow", Level.INFO: None}
    deeper, echo = indent + " " * 12, console.echo_of(err)
    for found, following in zip_longest(findings, findings[1:]):
        mark = click.style(f"{found.code} {found.level.value:<5}", fg=colours[found.level])
        # Wrapped with as much room in front as the mark takes, which may hold colours.
        lines = wrapped(found.message, deeper, deeper)
        echo(f"{indent}{mark} {lines[0].lstrip()}")
        for line in lines[1:]:
            echo(line)
        if following is not None and following.hint == found.hint:
            continue
        for hint in found.hint.splitlines():
            for line in wrapped(hint, f"{deeper}→ ", f"{deeper}  "):
                echo(line)


def wrapped(text: str, first: str, rest: str) -> list[str]:
    """The text in lines of the terminal's width; no word is broken: commands can be copied."""
    return textwrap.wrap(
        text,
        max(40, console.terminal_width()),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first]


def finding_json(found: Finding) -> dict[str, Any]:
    return {
        "code": found.code,
        "level": found.level.value,
        "device": None if found.device is None else str(found.device),
        "message": found.message,
        "hint": found.hint,
        "acceptable": found.acceptable,
    }


def device_json(device: PciDevice) -> dict[str, Any]:
    return {
        "address": str(device.address),
        "class": device.pci_class,
        "vendor_id": f"{device.vendor_id:04x}",
        "device_id": f"{device.device_id:04x}",
        "name": device.name,
        "driver": device.driver,
        "interfaces": list(device.interfaces),
    }


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Putting the host back is not broken off: signals are noted, and said, and that is all."""

    def note(number: int, _frame: FrameType | None) -> None:
        console.step(
            f"{signal.Signals(number).name}: still putting the host back, this takes seconds"
        )

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM and a lost terminal end a command as Ctrl-C does: through its clean-up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
