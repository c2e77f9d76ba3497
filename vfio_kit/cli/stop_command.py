"""vfio-kit stop"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import log_file_option, require_root, state_dir_option, uninterrupted
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.first_boot_report import ConsoleTail
from vfio_kit.cli.origin import next_words
from vfio_kit.cli.report import Report

if TYPE_CHECKING:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder


@click.command("stop")
@click.argument("name", shell_complete=completing.vm_names)
@click.option(
    "--timeout",
    type=click.IntRange(min=0),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="For the guest to shut itself down; then it is switched off.",
)
@state_dir_option
@log_file_option
@connectable
def command(name: str, timeout: int, state_dir: Path) -> None:
    """Switch a VM off, and keep it.

    The guest is asked to shut down; the devices go back to their drivers, and the hugepages that
    were added are given back. Disk, seed, keys and domain stay: vfio-kit start switches it on.
    """
    from vfio_kit.apply import power, service
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.model.vm import check_name

    check_name(name)
    require_root("stop")
    folder, report = VmFolder(state_dir.absolute() / name), Report()
    folder.require_there()
    with Hypervisor() as hypervisor:
        # Without the VM's lock: `down` has it while systemd ends the unit of a VM that is off.
        if power.is_off(power.look(folder, hypervisor)):
            console.step(f"{name} is off already")
            return
        with folder.locked():
            power.require_kept(power.look(folder, hypervisor))
            _shut_down(folder, hypervisor, timeout, report)
            with uninterrupted():
                power.put_back(folder, hypervisor, report.progress, report.note, report.begins)
    service.deactivate(name)
    report.finish(f"{name} is off; vfio-kit start {name}{next_words()} switches it on")


def _shut_down(folder: "VmFolder", hypervisor: "Hypervisor", timeout: int, report: Report) -> None:
    import time

    from vfio_kit.apply import power

    name = folder.name
    if not power.look(folder, hypervisor).runs:
        report.note(f"{name} does not run")
        return
    begin = time.monotonic()
    report.note(f"asking {name} to shut down, {timeout} s at most")
    report.running(f"{name} shuts down", begin, ConsoleTail(folder.record().console_log))
    if power.shut_down(hypervisor, name, timeout):
        report.progress(f"{name} has shut down", time.monotonic() - begin)
    else:
        report.failed(
            f"{name} did not shut down within {timeout} s: it is switched off the hard way"
        )
        hypervisor.destroy(name)
