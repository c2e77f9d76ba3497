"""vfio-kit verify"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import json_option, log_file_option, sigterm_as_interrupt, state_dir_option
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.report import Report
from vfio_kit.errors import GuestError, Refused
from vfio_kit.model.health import Fitness, VerifyReport

if TYPE_CHECKING:
    from vfio_kit.analysis.guest.expect import Expectation
    from vfio_kit.cli.verify_output import Outputs
    from vfio_kit.cli.verify_rounds import Rounds
    from vfio_kit.cli.verify_targets import Guest, SshWords

_INTERVAL = 30
_FILE = click.Path(path_type=Path, dir_okay=False)
_SECONDS = click.IntRange(min=1)


class _Command(click.Command):
    """--watch may stand without its number, also where a NAME follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            if word == "--":
                break
            following = args[place + 1] if place + 1 < len(args) else ""
            if word == "--watch" and not following.lstrip("-").isdecimal():
                args[place] = f"--watch={_INTERVAL}"
        return super().parse_args(ctx, args)


@click.command("verify", cls=_Command)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=completing.vm_names)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="[USER@]ADDR[:PORT]",
    shell_complete=completing.ssh_hosts,
    help="Any machine that SSH reaches, as ssh_config names it; repeatable.",
)
@click.option(
    "--hosts",
    "hosts_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="A file with a host a line, # for comments; - for stdin.",
)
@click.option("--local", is_flag=True, help="This machine itself, without SSH: inside a guest.")
@click.option("--user", help="Whom to log in as at --host.  [default: ssh_config's, or yours]")
@click.option("--port", type=click.IntRange(1, 65535), help="[default: ssh_config's, or 22]")
@click.option("--identity", type=_FILE, help="Private key.")
@click.option("--known-hosts", type=_FILE, help="File with the host keys.  [default: ssh_config's]")
@click.option("-J", "--jump", metavar="HOST,…", help="The jump hosts on the way; none: no jump.")
@click.option("--ssh-config", type=_FILE, help="In the place of ~/.ssh/config and the system's.")
@click.option(
    "--timeout",
    type=_SECONDS,
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="For each of the tools in the guest.",
)
@click.option(
    "--expect",
    multiple=True,
    metavar="KEY=VALUE,…",
    shell_complete=completing.expectations,
    help="What must hold: gpu_count=1,cc=5.2,driver=470,memory_mib=8127±2%; repeatable.",
)
@click.option(
    "--burn",
    type=click.IntRange(1, 86400),
    metavar="SECONDS",
    help="Let every GPU compute for so long, and compare the results.",
)
@click.option(
    "--watch",
    type=_SECONDS,
    metavar="[SECONDS]",
    help=f"Check again and again, {_INTERVAL} s apart, and tell what changes.",
)
@click.option("--until", type=click.Choice(["healthy"]), help="Check again until all guests are.")
@click.option(
    "--for", "patience", type=_SECONDS, metavar="SECONDS", help="Begin no check after so long."
)
@click.option(
    "--junit",
    metavar="FILE",
    shell_complete=completing.any_file,
    help="Write JUnit's XML; - for stdout.",
)
@click.option(
    "--prometheus",
    metavar="FILE",
    shell_complete=completing.any_file,
    help="Write for node_exporter's textfile collector.",
)
@json_option
@state_dir_option
@log_file_option
@connectable
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[str, ...],
    hosts: tuple[str, ...],
    hosts_file: Path | None,
    local: bool,
    user: str | None,
    port: int | None,
    identity: Path | None,
    known_hosts: Path | None,
    jump: str | None,
    ssh_config: Path | None,
    timeout: int,
    expect: tuple[str, ...],
    burn: int | None,
    watch: int | None,
    until: str | None,
    patience: int | None,
    junit: str | None,
    prometheus: str | None,
    as_json: bool,
    state_dir: Path,
) -> None:
    """Prove the GPUs of guests, rung by rung: from SSH to deviceQuery.

    NAME is a VM that vfio-kit made; --host is any machine whose host key is known.
    Exit status 0 all are healthy, 3 one is not, 6 one could not be checked and no other is
    unhealthy. Rungs, causes and examples: docs/verify.md.
    """
    from vfio_kit.cli.verify_output import Outputs
    from vfio_kit.cli.verify_rounds import Questions, Rounds
    from vfio_kit.cli.verify_targets import SshWords

    words = SshWords(user, port, identity, known_hosts, ssh_config, jump)
    if (until or patience) and watch is None:
        watch = _INTERVAL
    if patience and not until:
        raise click.UsageError("--for says how long --until healthy waits: give both")
    outputs = Outputs(as_json, junit, prometheus, watching=watch is not None)
    expectations = _expectations(expect)
    guests = _guests(names, hosts, hosts_file, local, words, state_dir)
    if burn:
        console.step(f"every GPU will compute for {burn} s")
    rounds = Rounds(guests, Questions(timeout, burn or 0, expectations))
    with sigterm_as_interrupt():
        status = _watch(rounds, guests, outputs, watch, until is not None, patience)
    ctx.exit(status)


def _guests(
    names: tuple[str, ...],
    hosts: tuple[str, ...],
    hosts_file: Path | None,
    local: bool,
    words: "SshWords",
    state_dir: Path,
) -> "tuple[Guest, ...]":
    from vfio_kit.cli.verify_targets import SshWords, guests_of, hosts_in

    listed = hosts_in(hosts_file) if hosts_file else ()
    if not (names or hosts or listed or local):
        what = f"{hosts_file} names no host" if hosts_file else "nobody to verify"
        raise click.UsageError(f"{what}: give the NAME of a VM, --host ADDR or --local")
    if words != SshWords() and not (hosts or listed):
        raise click.UsageError("how to log in is known of a VM: such options are for --host")
    return guests_of(names, (*hosts, *listed), local, words, state_dir)


def _expectations(texts: tuple[str, ...]) -> "tuple[Expectation, ...]":
    if not texts:
        return ()
    from vfio_kit.analysis.guest.expect import parse

    return tuple(each for text in texts for each in parse(text))


def _watch(
    rounds: "Rounds",
    guests: "Sequence[Guest]",
    outputs: "Outputs",
    interval: int | None,
    until_healthy: bool,
    patience: int | None,
) -> int:
    """Asks once, or again and again; the exit status of the last round."""
    end = None if patience is None else time.monotonic() + patience
    while True:
        begin = time.monotonic()
        outputs.begin(guests)
        found: dict[int, VerifyReport] = {}
        drawn = Report()
        drawn.running(*_what_runs(guests, found, begin))
        try:
            for place, report in rounds.ask():
                found[place] = report
                console.clear()
                outputs.came(report)
        finally:
            drawn.idle()
        reports = [report for _, report in sorted(found.items())]
        outputs.end(reports, datetime.now(UTC).astimezone(), time.monotonic() - begin)
        status = exit_status([report.fitness for report in reports])
        if interval is None or (until_healthy and status == 0) or outputs.nobody_reads:
            break
        following = begin + interval
        if end is not None and following > end:
            following = end
            if time.monotonic() >= end:
                break
        time.sleep(max(0.0, following - time.monotonic()))  # SIGINT ends it at once
    rounds.close()
    return status


class _Left:
    """How many guests were checked, and who is waited for; see live_line.Shown."""

    def __init__(self, guests: "Sequence[Guest]", found: "Mapping[int, VerifyReport]") -> None:
        self._guests, self._found = guests, found

    def words(self) -> str:
        known = set(self._found)  # the thread that draws asks while they come
        left = [guest.label for place, guest in enumerate(self._guests) if place not in known]
        return f"{len(known)} of {len(self._guests)}, waiting for {', '.join(left[:3])}" + (
            f" and {len(left) - 3} more" if len(left) > 3 else ""
        )

    def part(self) -> float | None:
        return len(self._found) / len(self._guests)


def _what_runs(
    guests: "Sequence[Guest]", found: "Mapping[int, VerifyReport]", begin: float
) -> tuple[str, float, _Left | None]:
    if len(guests) == 1:
        return f"checking {guests[0].label}", begin, None
    return "checking guests", begin, _Left(guests, found)


def exit_status(verdicts: Sequence[Fitness]) -> int:
    """0 all are healthy, 3 one is not, 6 one was not checked and none is known to be unhealthy."""
    if Fitness.UNFIT in verdicts:
        return Refused.exit_code
    return GuestError.exit_code if Fitness.NOT_CHECKED in verdicts else 0
