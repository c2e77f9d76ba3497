"""vfio-kit list"""

from pathlib import Path
from typing import Any

import click

from vfio_kit.cli.common import json_option, print_json, state_dir_option
from vfio_kit.errors import VfioKitError


@click.command("list")
@json_option
@click.option(
    "--connect",
    "uris",
    multiple=True,
    metavar="URI",
    help="Of another GPU host: qemu+ssh://[user@]host[:port]/system; may be repeated, "
    "qemu:///system is this one; docs/remote.md.",
)
@state_dir_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, uris: tuple[str, ...], state_dir: Path) -> None:
    """Show the VMs that are up, or half up.

    Of several hosts, all are asked at once; exit status 4 when one did not answer.
    """
    if uris:
        from vfio_kit.cli.list_hosts import list_hosts

        ctx.exit(list_hosts(ctx, uris, as_json, lambda: vms_here(state_dir)))
    vms = vms_here(state_dir)
    if as_json:
        print_json({"schema": "vfio-kit/list/1", "vms": vms})
    elif vms:
        print_table([HEAD, *map(cells_of, vms)])
    else:
        click.echo("no VM is up")


def vms_here(state_dir: Path) -> list[dict[str, Any]]:
    """The objects of `vms` in the JSON, for the VMs of this host."""
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
    return [
        {
            "name": record.name,
            "state": states.get(record.uuid, "not defined"),
            "address": record.address,
            "gpus": list(record.gpus),
        }
        for record in records
    ]


HEAD = ("NAME", "STATE", "ADDRESS", "GPUS")


def cells_of(vm: dict[str, Any]) -> tuple[str, ...]:
    """A VM's line of the table."""
    return vm["name"], vm["state"], vm["address"] or "-", ", ".join(vm["gpus"])


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Rows of equal length, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))
