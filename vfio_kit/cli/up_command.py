"""vfio-kit up"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from vfio_kit.cli.preflight import prepare, require_down, require_files
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options
from vfio_kit.errors import (
    GuestError,
    HypervisorError,
    VfioKitError,
)

if TYPE_CHECKING:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.guest.ssh import Connection
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
    help="For the guest to answer over SSH and to end cloud-init.",
)
@json_option
@state_dir_option
@image_dir_option
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
    as it was. A guest that can be logged in to, and whose cloud-init fails (exit status 3) or does
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
                report.print(error.message)
            raise
    if as_json:
        report.print(None)
    else:
        click.echo(report.ssh_command())
        click.echo(f"next: vfio-kit verify {plan.domain.name}", err=True)


class LeftRunning(VfioKitError):
    """The guest can be logged in to, its provisioning has failed: it is left as it is."""

    exit_code = 3


class LeftUnfinished(LeftRunning):
    """The guest can be logged in to, and its cloud-init did not end in time."""

    exit_code = 6


class _Report:
    """What `up` did, with its times: said line by line, and printed at the end."""

    def __init__(self, plan: "UpPlan", folder: "VmFolder") -> None:
        self._plan, self._folder = plan, folder
        self._begin = time.monotonic()
        self._steps: list[tuple[str, float]] = []
        self.address: str | None = None

    def progress(self, what: str, seconds: float) -> None:
        self._steps.append((what, seconds))
        step(what, seconds)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.progress(what.format(address=self.address), time.monotonic() - begin)

    def total(self) -> float:
        return time.monotonic() - self._begin

    def ssh_command(self) -> str:
        name, folder = self._plan.domain.name, self._folder
        return (
            f"ssh -i {folder.identity} -o UserKnownHostsFile={folder.known_hosts} "
            f"-o HostKeyAlias={name} {self._plan.user}@{self.address}"
        )

    def print(self, failure: str | None) -> None:
        print_json(
            {
                "schema": "vfio-kit/up/1",
                "name": self._plan.domain.name,
                "address": self.address,
                "user": self._plan.user,
                "identity": str(self._folder.identity),
                "known_hosts": str(self._folder.known_hosts),
                "gpus": [str(gpu) for gpu in self._plan.gpus],
                "failure": failure,
                "findings": [finding_json(found) for found in self._plan.findings],
                "seconds": round(self.total(), 1),
                "steps": [{"what": what, "seconds": round(s, 1)} for what, s in self._steps],
            }
        )


def _bring_up(plan: "UpPlan", folder: "VmFolder", timeout: int, report: _Report) -> None:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.transaction import bring_up

    with Hypervisor() as hypervisor:
        with report.timed("host examined, nothing in the way"):
            work = prepare(plan, folder, hypervisor)
        try:
            bring_up(work, report.progress)
            _wait(plan, folder, hypervisor, timeout, report)
        except LeftRunning:
            raise
        except BaseException as error:
            with uninterrupted():
                _roll_back(folder, plan, error)
            raise
    step(f"{plan.domain.name} is up at {report.address}", report.total())


def _wait(
    plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor", timeout: int, report: _Report
) -> None:
    """Until SSH answers with the right host key, and cloud-init has ended."""
    from vfio_kit.guest.ssh import Target, connect_when_ready, wait_for_banner

    domain = plan.domain
    deadline = time.monotonic() + timeout

    def still_there() -> None:
        found = hypervisor.domain(domain.name)
        if found is None or found.state not in ("running", "blocked", "paused"):
            state = "gone" if found is None else found.state
            raise HypervisorError(
                f"the VM stopped while it booted: it is {state}",
                f"its console: {domain.console_log}; QEMU's own words: "
                f"/var/log/libvirt/qemu/{domain.name}.log",
            )

    step(f"waiting for the guest, {timeout} s at most; its console: {domain.console_log}")
    with report.timed("SSH server greets at {address}"):
        report.address = wait_for_banner(
            lambda: hypervisor.lease(domain.network, domain.mac), 22, deadline, still_there
        )
        folder.save(replace(folder.record(), address=report.address))
    host = report.address
    target = Target(host, 22, plan.user, folder.identity, folder.known_hosts, domain.name)
    with report.timed("logged in; the host key is the one made above"):
        connection = connect_when_ready(target, deadline)
    with connection, report.timed("cloud-init is done, without errors"):
        _wait_for_cloud_init(connection, domain.name, deadline)


def _wait_for_cloud_init(connection: "Connection", name: str, deadline: float) -> None:
    from vfio_kit.analysis.guest.cloud_init import parse_status
    from vfio_kit.guest.probe import wait_for_cloud_init

    left = (
        "in the guest: cloud-init status --long; less /var/log/cloud-init-output.log\n"
        f"it was left running; vfio-kit down {name} takes it away"
    )
    try:
        result = wait_for_cloud_init(connection, max(1.0, deadline - time.monotonic()))
    except GuestError as error:
        message = f"{name} is up, but cloud-init has not ended: {error.message}"
        raise LeftUnfinished(message, left) from None
    try:
        status = parse_status(result.stdout)
    except ValueError as error:
        said = result.stderr.strip() or error
        message = f"{name} is up, but cloud-init does not say how it went: {said}"
        raise LeftRunning(message, left) from None
    if not status.ok:
        reasons = "; ".join(status.errors) or "no reason given"
        message = f"{name} is up, but cloud-init ended with status {status.status}: {reasons}"
        raise LeftRunning(message, left)


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
