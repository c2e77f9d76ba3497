"""vfio-kit repair"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import completing
from vfio_kit.cli.common import (
    json_option,
    log_file_option,
    print_json,
    read_named_host,
    require_root,
    state_dir_option,
    uninterrupted,
    wrapped,
)
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.console import without_control
from vfio_kit.cli.report import Report
from vfio_kit.errors import HypervisorError, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_kit.analysis.leftovers import Leftover
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.repair import Found, Mended


@click.command("repair")
@click.argument("names", nargs=-1, metavar="[NAME]…", shell_complete=completing.vm_names)
@click.option("--check", is_flag=True, help="Mend nothing: exit status 3 where there is something.")
@json_option
@state_dir_option
@log_file_option
@connectable
@click.pass_context
def command(
    ctx: click.Context, names: tuple[str, ...], check: bool, as_json: bool, state_dir: Path
) -> None:
    """Tell what a crash or a reboot left of VMs, and mend it.

    What was begun is taken down to the end, what is off gives its hugepages and devices back, a VM
    that the host should have started is started. What runs, and what vfio-kit did not make, is
    told and left alone. Exit status: 0 all is well now; 3 something is left for you to decide.
    """
    from vfio_kit.apply.repair import Repair
    from vfio_kit.model.vm import check_name

    for name in names:
        check_name(name)
    if not check:
        require_root("repair")
    state_dir, report = state_dir.absolute(), Report()
    with ExitStack() as stack:
        hypervisor = _libvirt(stack, state_dir)
        run = Repair(
            *(state_dir, hypervisor, lambda: read_named_host(Path("/"))),
            *(report.progress, report.note),
            begins=report.begins,
        )
        with report.silently("looking at the VMs"):
            found = run.look(names)
        mended: Sequence[Mended] = ()
        after = found
        if not check:
            with uninterrupted():
                mended = run.mend(found)
            with report.silently("looking at the VMs again"):
                after = run.look_again(names)
    still = _all(after)
    if as_json:
        print_json({**document_of(found, mended, after), **report.times_json()})
    else:
        _print(found, mended)
    failures = [result.failure for result in mended if result.failure is not None]
    if mended:
        report.finish(f"{len(mended) - len(failures)} of {len(mended)} mended")
    if still:
        ctx.exit(failures[0].exit_code if failures else Refused.exit_code)


def _libvirt(stack: ExitStack, state_dir: Path) -> "Hypervisor | None":
    """The connection; None where there is none, and nothing that needs one."""
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import folders

    try:
        return stack.enter_context(Hypervisor())
    except HypervisorError:
        if folders(state_dir):
            raise
        return None


def _all(found: "Found") -> "list[Leftover]":
    return [left for _, several in found.vms for left in several] + list(found.others)


def _by_kind(mended: "Sequence[Mended]") -> "dict[tuple[str | None, str], Mended]":
    return {(result.left.vm, result.left.kind.word): result for result in mended}


def _print(found: "Found", mended: "Sequence[Mended]") -> None:
    results = _by_kind(mended)
    everything = _all(found)
    for left in everything:
        name = left.vm or "this host"
        click.echo(without_control(f"{name}: {left.kind.word}: {left.kind.meaning}"))
        for line in wrapped(without_control(left.what), "  ", "  "):
            click.echo(line)
        result = results.get((left.vm, left.kind.word))
        if result is None:
            for line in left.remedy.splitlines():
                click.echo(without_control(f"  → {line}"))
        elif result.failure is None:
            click.secho(f"  mended: {_DONE[left.kind.mend.value]}", fg="green")
        else:
            click.secho(without_control(f"  not mended: {result.failure.message}"), fg="red")
            for line in result.failure.hint.splitlines():
                click.echo(without_control(f"  → {line}"))
    if not everything:
        number = len(found.vms)
        click.echo(f"all is well: {number} {'VM' if number == 1 else 'VMs'}, nothing left over")


_DONE = {
    "down": "it was taken down; the host is as it was before",
    "define": "libvirt knows it again",
    "stop": "what was kept for it was given back; it is off",
    "start": "it was started",
    "remove": "removed",
    "disable": "the host does not start it any more",
}


def document_of(found: "Found", mended: "Sequence[Mended]", after: "Found") -> dict[str, Any]:
    """The JSON document: what was found, what became of it, and how the VMs are now."""
    from vfio_kit.analysis.leftovers import state_of

    results = _by_kind(mended)

    def entry(left: "Leftover") -> dict[str, Any]:
        result = results.get((left.vm, left.kind.word))
        failure = None if result is None or result.failure is None else result.failure.message
        return {
            "word": left.kind.word,
            "vm": left.vm,
            "what": left.what,
            "meaning": left.kind.meaning,
            "mend": left.kind.mend.value,
            "remedy": left.remedy,
            "files": list(left.files),
            "mended": None if result is None else result.failure is None,
            "failure": failure,
        }

    return {
        "schema": "vfio-kit/repair/1",
        "healthy": not _all(after),
        "vms": [{"name": vm.name, "state": state_of(vm).value} for vm, _ in after.vms],
        "leftovers": [entry(left) for left in _all(found)],
    }
