"""vfio-kit stop"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli import completing
from vfio_kit.cli.common import require_root, state_dir_option, step, uninterrupted
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.origin import next_words

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
    folder = VmFolder(state_dir.absolute() / name)
    folder.require_there()
    with Hypervisor() as hypervisor:
        # Without the VM's lock: `down` has it while systemd ends the unit of a VM that is off.
        if power.is_off(power.look(folder, hypervisor)):
            step(f"{name} is off already")
            return
        with folder.locked():
            power.require_kept(power.look(folder, hypervisor))
            _shut_down(folder, hypervisor, timeout)
            with uninterrupted():
                power.put_back(folder, hypervisor, step, step)
    service.deactivate(name)
    step(f"{name} is off; vfio-kit start {name}{next_words()} switches it on")


def _shut_down(folder: "VmFolder", hypervisor: "Hypervisor", timeout: int) -> None:
    import time

    from vfio_kit.apply import power

    name = folder.name
    if not power.look(folder, hypervisor).runs:
        step(f"{name} does not run")
        return
    begin = time.monotonic()
    step(f"asking {name} to shut down, {timeout} s at most")
    if power.shut_down(hypervisor, name, timeout):
        step(f"{name} has shut down", time.monotonic() - begin)
    else:
        step(f"{name} did not shut down within {timeout} s: it is switched off the hard way")
        hypervisor.destroy(name)
