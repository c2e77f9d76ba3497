"""vfio-kit down"""

from pathlib import Path

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import log_file_option, require_root, state_dir_option, uninterrupted
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.report import Report


@click.command("down")
@click.argument("name", shell_complete=completing.vm_names)
@click.option(
    "--purge",
    is_flag=True,
    help="Also remove what is kept to read afterwards: record and console log.",
)
@state_dir_option
@log_file_option
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
    report = Report()
    with folder.locked():
        if not folder.outstanding():
            report.note(f"{name} was down already")
        with naming_holders(folder):
            take_down(folder, report.progress, report.note, uninterrupted, report.begins)
        if purge:
            remove(Path(console_log(name)))
            folder.purge()
    report.finish(f"{name} is down; the host is as it was")
    if not purge:
        console.step(
            f"kept to be read: {folder.path} and {console_log(name)}; gone with down --purge"
        )
