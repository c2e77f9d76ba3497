"""vfio-kit up"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli.common import (
    finding_json,
    image_dir_option,
    json_option,
    print_findings,
    print_json,
    require_root,
    sigterm_as_interrupt,
    state_dir_option,
    step,
    uninterrupted,
)
from vfio_kit.cli.connect import as_typed, connectable, next_words
from vfio_kit.cli.first_boot import FirstBootWatch, LeftRunning
from vfio_kit.cli.first_boot_report import FirstBootReport
from vfio_kit.cli.preflight import prepare, require_down, require_files
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options
from vfio_kit.errors import VfioKitError

if TYPE_CHECKING:
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.model.vm import UpPlan


@click.command("up")
@click.argument("name")
@spec_options
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="For the guest to answer over SSH and to end its first boot.",
)
@json_option
@state_dir_option
@image_dir_option
@connectable
def command(
    name: str,
    spec_file: Path | None,
    timeout: int,
    as_json: bool,
    state_dir: Path,
    image_dir: Path,
    **values: Any,
) -> None:
    """Take a GPU into a running VM that answers over SSH.

    A transaction: when it fails or is interrupted before anyone could log in, the host is put back
    as it was. A guest that can be logged in to, and whose first boot fails (exit status 3) or does
    not end in time (6), is left running, for you to look at.
    """
    from vfio_kit.apply.journal import VmFolder

    spec = spec_from(spec_file, name, values)
    require_root("up")
    folder = VmFolder(state_dir.absolute() / spec.name)
    # Before the host is judged: of a VM that is up the judgement is that a VM has the GPU.
    require_down(folder)
    plan = plan_from(Path("/"), spec, state_dir, image_dir)
    require_files(plan)
    print_findings(plan.findings, err=True)
    report = _Report(plan, folder)
    with sigterm_as_interrupt(), folder.locked():
        try:
            _bring_up(plan, folder, timeout, report)
        except LeftRunning as error:
            if as_json:
                report.print(error)
            raise
    if as_json:
        report.print(None)
    else:
        click.echo(as_typed(report.ssh_command()))
        click.echo(f"next: vfio-kit verify {plan.domain.name}{next_words()}", err=True)


class _Report(FirstBootReport):
    """What `up` did, with its times: said line by line, and printed at the end."""

    def __init__(self, plan: "UpPlan", folder: "VmFolder") -> None:
        super().__init__()
        self._plan, self._folder = plan, folder
        self.address: str | None = None

    def ssh_command(self) -> str:
        name, folder = self._plan.domain.name, self._folder
        return (
            f"ssh -i {folder.identity} -o UserKnownHostsFile={folder.known_hosts} "
            f"-o HostKeyAlias={name} {self._plan.user}@{self.address}"
        )

    def print(self, failure: LeftRunning | None) -> None:
        why = failure.diagnosis if failure else None
        print_json(
            {
                "schema": "vfio-kit/up/1",
                "name": self._plan.domain.name,
                "address": self.address,
                "user": self._plan.user,
                "identity": str(self._folder.identity),
                "known_hosts": str(self._folder.known_hosts),
                "gpus": [str(gpu) for gpu in self._plan.gpus],
                "failure": None if failure is None else failure.message,
                "diagnosis": None
                if why is None
                else {
                    "pain": why.pain or None,
                    "meaning": why.meaning,
                    "remedy": why.remedy,
                    "log": why.log or None,
                    "lines": list(why.lines),
                },
                "findings": [finding_json(found) for found in self._plan.findings],
                "seconds": round(self.total(), 1),
                "steps": self.steps_json(),
            }
        )


def _bring_up(plan: "UpPlan", folder: "VmFolder", timeout: int, report: _Report) -> None:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.locks import host_lock
    from vfio_kit.apply.transaction import bring_up

    work = None
    with Hypervisor() as hypervisor:
        try:
            with host_lock(folder.path.parent, report.note):
                with report.timed("host examined, nothing in the way"):
                    work = prepare(plan, folder, hypervisor)
                bring_up(work, report.progress)
            report.note(
                f"waiting for the guest, {timeout} s at most; its console: "
                f"{plan.domain.console_log}"
            )
            deadline = time.monotonic() + timeout
            watch = FirstBootWatch(plan, folder, hypervisor, deadline, report)
            try:
                watch.wait()
            finally:
                report.address = watch.address
        except LeftRunning:
            raise
        except BaseException as error:
            if work is None:
                raise
            with uninterrupted():
                _roll_back(folder, plan, error)
            raise
    step(f"{plan.domain.name} is up at {report.address}", report.total())


def _roll_back(folder: "VmFolder", plan: "UpPlan", error: BaseException) -> None:
    from vfio_kit.apply.transaction import take_down

    reason = error.message if isinstance(error, VfioKitError) else type(error).__name__
    step(f"failed: {reason}; putting the host back")
    try:
        take_down(folder, step)
        if not Path(plan.domain.console_log).exists():
            folder.purge()  # the guest never ran: there is nothing to read afterwards
    except VfioKitError as second:
        step(f"could not put everything back: {second.message}")
        step(f"what is left is written down; repeat: vfio-kit down {plan.domain.name}")
        return
    step("the host is as it was")
