"""vfio-kit start"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import (
    log_file_option,
    require_root,
    sigterm_as_interrupt,
    state_dir_option,
    uninterrupted,
)
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.first_boot_report import ConsoleTail
from vfio_kit.cli.origin import next_words
from vfio_kit.cli.report import Report
from vfio_kit.errors import HypervisorError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder

_BOOT = 60.0
"""Seconds for libvirt, where systemd starts the VM."""


@click.command("start")
@click.argument("name", shell_complete=completing.vm_names)
@click.option("--no-wait", is_flag=True, help="Do not wait until the guest takes a login.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="For the guest to answer over SSH.",
)
@state_dir_option
@log_file_option
@connectable
def command(name: str, no_wait: bool, timeout: int, state_dir: Path) -> None:
    """Switch on a VM that is off: after stop, after a reboot of the host, after its own end.

    Its devices must be the cards that they were. Hugepages are made free first; what fails is put
    back, and the VM stays, off.
    """
    from vfio_kit.apply import power
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.model.vm import check_name

    check_name(name)
    require_root("start")
    folder = VmFolder(state_dir.absolute() / name)
    folder.require_there()
    # At boot libvirt may still be on its way.
    with Hypervisor(patience=_BOOT if os.environ.get("VFIO_KIT_UNIT") else 0) as hypervisor:
        # Without the VM's lock: `up` has it while systemd learns that the VM runs.
        if power.is_up(power.look(folder, hypervisor)):
            console.step(f"{name} is up already")
            return
        with sigterm_as_interrupt(), folder.locked():
            report = Report()
            _start(folder, hypervisor, report)
            if no_wait:
                report.finish(f"{name} runs")
            else:
                _wait(folder, hypervisor, timeout, report)


def _start(folder: "VmFolder", hypervisor: "Hypervisor", report: Report) -> None:
    from vfio_kit.apply import power
    from vfio_kit.cli.common import read_named_host

    vm = power.look(folder, hypervisor)
    power.require_kept(vm)
    if vm.runs:
        raise HypervisorError(
            f"{folder.name!r} runs, and was not started by vfio-kit on this boot of the host",
            f"vfio-kit stop {folder.name}, and then start it",
        )
    try:
        power.start_again(
            *(folder, hypervisor, lambda: read_named_host(Path("/"))),
            *(report.progress, report.note, report.begins),
        )
    except BaseException as error:
        reason = error.message if isinstance(error, VfioKitError) else type(error).__name__
        report.failed(f"failed: {reason}; giving devices and hugepages back")
        with uninterrupted():
            try:
                power.put_back(folder, hypervisor, report.progress, report.note, report.begins)
            except VfioKitError as second:
                report.failed(f"could not give everything back: {second.message}")
                report.note(f"what is left is written down: vfio-kit repair {folder.name}")
        raise


def _wait(folder: "VmFolder", hypervisor: "Hypervisor", timeout: int, report: Report) -> None:
    """Until somebody could log in; the VM is left running where nobody can."""
    from vfio_kit.guest.ssh import Target, connect_when_ready, wait_for_banner

    record = folder.record()
    begin, deadline = time.monotonic(), time.monotonic() + timeout
    tail = ConsoleTail(record.console_log)

    def still_there() -> None:
        found = hypervisor.domain(record.name)
        if found is None or not found.runs:
            raise HypervisorError(
                f"the VM stopped while it booted: it is {found.state if found else 'gone'}",
                f"its console: {record.console_log}; then: vfio-kit repair {record.name}",
            )
        report.running("waiting for the guest's SSH server", begin, tail)

    report.note(f"waiting for the guest, {timeout} s at most; its console: {record.console_log}")
    try:
        host = wait_for_banner(
            lambda: hypervisor.lease(record.network, record.mac), 22, deadline, still_there
        )
        report.progress(f"SSH server greets at {host}", time.monotonic() - begin)
        key = folder.login_key(record)
        target = Target(host, 22, record.user, key, folder.known_hosts, record.name)
        with report.timed("logged in", "logging in"):
            connect_when_ready(target, deadline).close()
    finally:
        report.idle()
    folder.save(replace(record, address=host))
    report.finish(f"{record.name} is up at {host}")
    console.say(f"next: vfio-kit verify {record.name}{next_words()}")
