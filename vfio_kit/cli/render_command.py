"""vfio-kit render"""

from pathlib import Path
from typing import Any

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import (
    image_dir_option,
    root_option,
    state_dir_option,
)
from vfio_kit.cli.plan_command import default_name
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.findings import HELD_OPEN
from vfio_kit.model.vm import RenderedFile, SeedKeys
from vfio_kit.render import OUTPUTS, render


@click.command("render")
@click.option("--name", help="Name of the VM.  [default: the spec's, else gpu-vm]")
@click.option(
    "--output",
    type=click.Choice(list(OUTPUTS)),
    multiple=True,
    required=True,
    shell_complete=completing.outputs,
    help="May be repeated.",
)
@click.option(
    "-o",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the files are put; made if missing.",
)
@click.option("--force", is_flag=True, help="Replace keys that are there already.")
@spec_options
@root_option
@state_dir_option
@image_dir_option
def command(
    name: str | None,
    output: tuple[str, ...],
    directory: Path,
    force: bool,
    spec_file: Path | None,
    root: Path,
    state_dir: Path,
    image_dir: Path,
    **values: Any,
) -> None:
    """Write the files of a VM without making it.

    The seed holds a fresh SSH host key, and a fresh client key is put beside it unless --identity
    names one; both are for their owner alone.
    """
    from vfio_kit.apply.files import make_folder

    if "cloud-init" in output:
        _keep_keys(directory, force)
    from vfio_kit.apply.keys import load_key, new_key

    spec = spec_from(spec_file, name or default_name(spec_file), values)
    # Files are written for later, also while a VM has the GPU, or a process that will be ended.
    plan = plan_from(root, spec, state_dir, image_dir, frozenset({HELD_OPEN.code}))
    host_key, client_key = new_key(f"root@{spec.name}"), new_key(f"vfio-kit@{spec.name}")
    given = load_key(Path(plan.identity)) if plan.identity and "cloud-init" in output else None
    opens = (given or client_key).public
    keys = SeedKeys(host_key.private, host_key.public, (opens, *plan.authorized_keys))
    files = [file for one in output for file in render(one, plan, keys)]
    if not directory.exists():
        make_folder(directory)
    _write(directory, files)
    if "cloud-init" in output:
        files = [RenderedFile("known_hosts", f"{spec.name} {host_key.public}\n", 0o600)]
        if given is None:
            files += [RenderedFile("id_ed25519", client_key.private, 0o600)]
        _write(directory, files)
    if plan.autostart:
        console.step(
            "autostart is in none of these files: the unit that starts a VM at boot needs the "
            "record that `up --autostart` makes; docs/autostart.md"
        )


def _write(directory: Path, files: list[RenderedFile]) -> None:
    from vfio_kit.apply.files import write_file

    for file in files:
        write_file(directory / file.path, file.text.encode(), file.mode)
        console.step(f"wrote {directory / file.path}")


def _keep_keys(directory: Path, force: bool) -> None:
    """A key that is there may be the only one that opens a VM: it is not written over."""
    for name in ("id_ed25519", "known_hosts"):
        if not force and (directory / name).exists():
            raise UsageError(
                f"{directory / name} is there already", "choose another directory, or --force"
            )
