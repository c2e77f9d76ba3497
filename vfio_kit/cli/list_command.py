"""vfio-kit list"""

from pathlib import Path

import click

from vfio_kit.cli.common import json_option, print_json, state_dir_option
from vfio_kit.errors import VfioKitError


@click.command("list")
@json_option
@state_dir_option
def command(as_json: bool, state_dir: Path) -> None:
    """Show the VMs that are up, or half up."""
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import folders

    records = []
    for folder in folders(state_dir):
        try:
            if folder.outstanding():
                records.append(folder.record())
        except VfioKitError as error:  # one damaged VM does not hide the others
            click.secho(f"warning: {folder.name}: {error.message}", fg="yellow", err=True)
    states: dict[str, str] = {}
    if records:
        with Hypervisor() as hypervisor:
            states = {domain.uuid: domain.state for domain in hypervisor.domains()}
    vms = [
        {
            "name": record.name,
            "state": states.get(record.uuid, "not defined"),
            "address": record.address,
            "gpus": list(record.gpus),
        }
        for record in records
    ]
    if as_json:
        print_json({"schema": "vfio-kit/list/1", "vms": vms})
        return
    if not vms:
        click.echo("no VM is up")
        return
    rows = [("NAME", "STATE", "ADDRESS", "GPUS")]
    rows += [
        (r.name, str(v["state"]), r.address or "-", ", ".join(r.gpus))
        for r, v in zip(records, vms, strict=True)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[3]]))
