"""vfio-kit down"""

from pathlib import Path

import click

from vfio_kit.cli import completing
from vfio_kit.cli.common import require_root, state_dir_option, step, uninterrupted
from vfio_kit.cli.connect import connectable


@click.command("down")
@click.argument("name", shell_complete=completing.vm_names)
@click.option(
    "--purge",
    is_flag=True,
    help="Also remove what is kept to read afterwards: record and console log.",
)
@state_dir_option
@connectable
def command(name: str, purge: bool, state_dir: Path) -> None:
    """Stop a VM and put the host back.

    The domain, the guest's disk, its seed and its keys are removed, the devices go back to their
    drivers, and the hugepages that were added are given back. May be repeated.
    """
    from vfio_kit.apply.files import remove
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.apply.transaction import take_down
    from vfio_kit.cli.hung import naming_holders
    from vfio_kit.model.vm import check_name, console_log

    check_name(name)
    require_root("down")
    folder = VmFolder(state_dir.absolute() / name)
    folder.require_there()
    with folder.locked():
        if not folder.outstanding():
            step(f"{name} was down already")
        with naming_holders(folder):
            take_down(folder, step, step, uninterrupted)
        if purge:
            remove(Path(console_log(name)))
            folder.purge()
    step(f"{name} is down; the host is as it was")
    if not purge:
        step(f"kept to be read: {folder.path} and {console_log(name)}; gone with down --purge")
