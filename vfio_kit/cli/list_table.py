"""The table that `list` prints, of one host or of several."""

from typing import Any

import click

HEAD = ("NAME", "STATE", "ADDRESS", "GPUS")


def cells_of(vm: dict[str, Any]) -> tuple[str, ...]:
    """A VM's line of the table."""
    # A host with an older vfio-kit has no condition.
    state = vm.get("condition") or vm["state"]
    return vm["name"], str(state), vm["address"] or "-", ", ".join(vm["gpus"]) or "-"


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Rows of equal length, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))
