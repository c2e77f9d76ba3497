"""vfio-kit verify"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli.common import json_option, print_json, state_dir_option
from vfio_kit.errors import GuestError, UsageError
from vfio_kit.model.health import CheckStatus, VerifyReport

if TYPE_CHECKING:
    from vfio_kit.guest.ssh import Target

_MARKS = {
    CheckStatus.OK: "green",
    CheckStatus.WARN: "yellow",
    CheckStatus.FAILED: "red",
    CheckStatus.SKIPPED: "white",
    CheckStatus.NOT_RUN: "yellow",
}


@click.command("verify")
@click.argument("name", required=False)
@click.option("--host", metavar="ADDR", help="Any machine that SSH reaches, in the place of NAME.")
@click.option("--port", type=click.IntRange(1, 65535), default=22, show_default=True)
@click.option("--user", help="Whom to log in as.  [default: the VM's user; with --host root]")
@click.option("--identity", type=click.Path(path_type=Path, dir_okay=False), help="Private key.")
@click.option(
    "--known-hosts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the host key.  [default: ~/.ssh/known_hosts and the system's]",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="For each of the tools in the guest.",
)
@json_option
@state_dir_option
@click.pass_context
def command(
    ctx: click.Context,
    name: str | None,
    host: str | None,
    port: int,
    user: str | None,
    identity: Path | None,
    known_hosts: Path | None,
    timeout: int,
    as_json: bool,
    state_dir: Path,
) -> None:
    """Prove the GPU in a guest: nvidia-smi and deviceQuery, over SSH.

    NAME is a VM that vfio-kit made; --host is any machine whose host key is known.
    Exit status 0 healthy, 3 not healthy, 6 unreachable.
    """
    if (name is None) == (host is None):
        raise click.UsageError("give either the NAME of a VM or --host ADDR")
    if name is not None:
        target = _vm_target(name, state_dir)
    else:
        assert host is not None
        from vfio_kit.guest.ssh import Target

        target = Target(host, port, user or "root", identity, known_hosts)
    label = name or target.host
    report = _verify(label, target, timeout)
    if as_json:
        print_json(_json(report))
    else:
        _print(report)
    if report.checks[0].status is not CheckStatus.OK:
        ctx.exit(GuestError.exit_code)
    ctx.exit(0 if report.healthy else 3)


def _vm_target(name: str, state_dir: Path) -> "Target":
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.guest.ssh import Target
    from vfio_kit.model.vm import check_name

    check_name(name)
    folder = VmFolder(state_dir / name)
    record = folder.record()
    if record.address is None or not folder.outstanding():
        raise UsageError(f"{name!r} is not up", "vfio-kit list shows what is")
    return Target(record.address, 22, record.user, folder.identity, folder.known_hosts, name)


def _verify(label: str, target: "Target", timeout: int) -> VerifyReport:
    from vfio_kit.analysis.guest.verification import judge_guest, unreachable
    from vfio_kit.guest.probe import probe
    from vfio_kit.guest.ssh import Connection

    try:
        with Connection(target) as connection:
            return judge_guest(label, probe(connection, timeout))
    except GuestError as error:
        return unreachable(label, error.message, error.hint)


def _json(report: VerifyReport) -> dict[str, Any]:
    return {
        "schema": "vfio-kit/verify/1",
        "host": report.host,
        "healthy": report.healthy,
        "gpus": [
            {
                "name": gpu.name,
                "driver": gpu.driver,
                "cuda": gpu.cuda,
                "memory_mib": gpu.memory_mib,
                "compute_capability": gpu.compute_capability,
                "device_query": gpu.device_query,
            }
            for gpu in report.gpus
        ],
        "checks": [
            {
                "code": check.code,
                "status": check.status.value,
                "cause": check.cause,
                "evidence": check.evidence,
                "remedy": check.remedy,
            }
            for check in report.checks
        ],
    }


def _print(report: VerifyReport) -> None:
    for check in report.checks:
        mark = click.style(f"{check.status.value:<8}", fg=_MARKS[check.status])
        cause = f" {check.cause}:" if check.cause else ""
        click.echo(f"{mark} {check.code:<14}{cause} {check.evidence}")
        if check.remedy and check.status is CheckStatus.FAILED:
            click.echo(f"         → {check.remedy}")
    for gpu in report.gpus:
        click.echo(
            f"GPU {gpu.name}: driver {gpu.driver}, CUDA {gpu.cuda}, {gpu.memory_mib} MiB, "
            f"compute capability {gpu.compute_capability}, deviceQuery {gpu.device_query}"
        )
    verdict = ("healthy", "green") if report.healthy else ("not healthy", "red")
    click.echo(f"{report.host}: " + click.style(verdict[0], fg=verdict[1], bold=True))
