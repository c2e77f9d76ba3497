"""vfio-kit list"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import json_option, print_json, state_dir_option
from vfio_kit.cli.list_table import HEAD, cells_of, print_table
from vfio_kit.cli.origin import next_words
from vfio_kit.errors import VfioKitError

if TYPE_CHECKING:
    from vfio_kit.analysis.leftovers import VmFacts
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.model.domain import DomainState


@click.command("list")
@json_option
@click.option(
    "--connect",
    "uris",
    multiple=True,
    metavar="URI",
    shell_complete=completing.uris,
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
    """The objects of `vms` in the JSON, for the VMs of this host; none of those that are down."""
    from vfio_kit.analysis.leftovers import State, leftovers_of, state_of
    from vfio_kit.apply.facts import vm_facts
    from vfio_kit.apply.journal import folders

    first = [(folder, vm_facts(folder, {})) for folder in folders(state_dir)]
    kept = [(folder, facts) for folder, facts in first if state_of(facts) is not State.DOWN]
    # libvirt is asked where there is something to ask.
    domains = _domains() if any(facts.damage is None for _, facts in kept) else {}
    vms, wrong = [], False
    for folder, _ in kept:
        facts = vm_facts(folder, domains)
        if facts.damage is not None:
            console.warn(f"{folder.name}: {facts.damage}")
        wrong = wrong or bool(leftovers_of(facts))
        vms.append(_vm(folder, facts))
    if wrong:
        command = f"vfio-kit repair --check{next_words()}"
        console.say(f"next: {command}, for what is not as it should be")
    return vms


def _domains() -> "dict[str, DomainState]":
    from vfio_kit.apply.hypervisor import Hypervisor

    with Hypervisor() as hypervisor:
        return {domain.name: domain for domain in hypervisor.domains()}


def _vm(folder: "VmFolder", facts: "VmFacts") -> dict[str, Any]:
    """state is libvirt's word, condition is ours; a record that is damaged tells nothing."""
    from vfio_kit.analysis.leftovers import state_of

    record = None
    with contextlib.suppress(VfioKitError):  # said by the condition
        record = folder.record()
    return {
        "name": folder.name,
        "state": facts.domain or "not defined",
        "condition": state_of(facts).value,
        "address": None if record is None else record.address,
        "gpus": [] if record is None else list(record.gpus),
    }
