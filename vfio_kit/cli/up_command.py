"""vfio-kit up"""

from pathlib import Path
from typing import Any

import click

from vfio_kit.cli import completing
from vfio_kit.cli.common import (
    image_dir_option,
    json_option,
    log_file_option,
    require_root,
    sigterm_as_interrupt,
    state_dir_option,
)
from vfio_kit.cli.connect import connectable
from vfio_kit.cli.first_boot import LeftRunning
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options


@click.command("up")
@click.argument("name", shell_complete=completing.vm_names)
@spec_options
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `plan --json` wrote: its options serve, and where anything is not as it was then, "
    "it is refused.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done, as `plan` does, and change nothing."
)
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
@log_file_option
@connectable
def command(
    name: str,
    spec_file: Path | None,
    plan_file: Path | None,
    dry_run: bool,
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

    If an earlier `up` of that name was killed: with the same options it goes on waiting for a VM
    that runs; what came less far is taken down, and begun anew.
    """
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.cli.up_report import UpReport
    from vfio_kit.cli.up_run import UpRun

    looked_at = None
    if plan_file is not None:
        from vfio_kit.cli.plan_command import saved_plan

        looked_at = saved_plan(plan_file)
    spec = spec_from(spec_file, name, values, looked_at and looked_at.get("spec"))
    if dry_run:
        from vfio_kit.cli.plan_command import show_plan
        from vfio_kit.cli.preflight import require_as_looked_at

        plan = plan_from(Path("/"), spec, state_dir, image_dir)
        show_plan(plan, spec, as_json)
        require_as_looked_at(looked_at, plan)
        return
    require_root("up")
    report = UpReport()
    folder = VmFolder(state_dir.absolute() / spec.name)
    run = UpRun(spec, folder, image_dir, timeout, report, looked_at)
    with sigterm_as_interrupt():
        try:
            run.run()
        except LeftRunning as error:
            if as_json:
                report.print_document(error)
            raise
    if as_json:
        report.print_document(None)
    else:
        report.print_login()
