"""vfio-kit plan"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli.common import (
    finding_json,
    image_dir_option,
    json_option,
    print_findings,
    print_json,
    root_option,
    state_dir_option,
    up_words,
)
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options
from vfio_kit.errors import UsageError
from vfio_kit.model.placement import CpuTopology
from vfio_kit.model.vm import DomainPlan, Software, UpPlan

if TYPE_CHECKING:
    from vfio_kit.spec import GuestSpec

_HOW_TO_SAVE = "save one with: vfio-kit plan --json … > FILE"


@click.command("plan")
@click.option("--name", help="Name of the VM.  [default: the spec's, else gpu-vm]")
@spec_options
@json_option
@root_option
@state_dir_option
@image_dir_option
def command(
    name: str | None,
    spec_file: Path | None,
    as_json: bool,
    root: Path,
    state_dir: Path,
    image_dir: Path,
    **values: Any,
) -> None:
    """Say what `up` will do, in order, with what undoes each step. Nothing is changed.

    Exit status 3 when the GPU cannot go.
    """
    spec = spec_from(spec_file, name or default_name(spec_file), values)
    plan = plan_from(root, spec, state_dir, image_dir)
    show_plan(plan, spec, as_json)


def default_name(spec_file: Path | None) -> str | None:
    """A plan or a rendering needs no name of its own; a spec file has to give one."""
    return None if spec_file else "gpu-vm"


def show_plan(plan: UpPlan, spec: "GuestSpec", as_json: bool) -> None:
    """Prints a plan: what `plan` and `up --dry-run` do. spec: what was asked for."""
    if as_json:
        print_json(plan_json(plan, spec))
    else:
        _print(plan)


def plan_json(plan: UpPlan, spec: "GuestSpec | None" = None) -> dict[str, Any]:
    """The document of `plan --json`."""
    from vfio_kit.plan.document import plan_document

    return {
        **plan_document(plan),
        "findings": [finding_json(found) for found in plan.findings],
        "spec": None if spec is None else spec.model_dump(mode="json", exclude_unset=True),
    }


_LONGEST = 16 << 20
"""Bytes of a plan that is read; a device has no end."""
_DEEPEST = 10
"""Levels; a plan has half of them."""


def saved_plan(path: Path) -> dict[str, Any]:
    """The document that `plan --json` printed into a file; `spec` in it is what was asked for.

    Raises UsageError where the file is none, or of another version.
    """
    import json

    from vfio_kit.plan.document import SCHEMA

    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(_LONGEST))
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no plan: {error}", _HOW_TO_SAVE) from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise UsageError(
            f"{path} is no plan of this version: its schema is {schema!r}, not {SCHEMA!r}",
            _HOW_TO_SAVE,
        )
    if not isinstance(document.get("spec"), dict) or _is_deeper(document, _DEEPEST):
        raise UsageError(f"{path} is no plan: what was asked for is not in it", _HOW_TO_SAVE)
    return dict(document)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in one another more than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _software(software: Software) -> str:
    """driver 470, CUDA 11.4 by packages, nvtop, from /srv/bundle"""
    parts = [f"driver {software.driver}"]
    if software.cuda:
        way = "" if software.baked else f" by {software.cuda_way.value}"
        parts.append(f"CUDA {software.cuda}{way}")
    parts += software.packages
    if software.bundle:
        parts.append(f"from {software.bundle}")
    if software.baked:
        parts.append("all of it in the image")
    return ", ".join(parts)


def _print(plan: UpPlan) -> None:
    domain = plan.domain
    click.echo(
        f"{domain.name}: {plan.guest}, {domain.cpus} CPUs, {domain.memory_mib} MiB, "
        f"boot {domain.boot.mode.value}, {_software(plan.software)}"
    )
    for device, place in zip(plan.devices, domain.host_devices, strict=True):
        name = f"{device.name} " if device.name else ""
        rom = f", with the ROM {place.rom}" if place.rom else ""
        click.echo(
            f"  {device.address} {name}[{device.ids}] → guest "
            f"{place.guest_bus:02x}:00.{place.guest_function}{rom}"
        )
    for line in _place(domain):
        click.echo(f"  {line}")
    print_findings(plan.findings)
    click.echo("steps:")
    for number, step in enumerate(plan.steps, start=1):
        click.echo(f"  {number}. {step.what}")
        if step.undo:
            click.echo(f"     undo: {step.undo}")
    click.echo(f"nothing was changed; next: {up_words(domain.name)}, with these options")


def _place(domain: DomainPlan) -> Iterator[str]:
    """Lines about where the VM runs: CPUs, memory, the window for its devices' BARs."""
    from vfio_kit.plan.cores import cpu_list
    from vfio_kit.plan.memlock import memlock_mib

    placement, pages, shown = domain.placement, domain.hugepages, _topology(domain.topology)
    if placement is not None and placement.vcpus:
        cpus = cpu_list(cpu for pins in placement.vcpus for cpu in pins)
        how = "shared with others" if placement.shared else "each vCPU on one of its own"
        own = (
            f"; QEMU's own threads on {cpu_list(placement.emulator)}" if placement.emulator else ""
        )
        yield f"CPUs {cpus} of the host, {how}{own}; the guest sees {shown}"
    else:
        yield f"CPUs of the host as its kernel gives them; the guest sees {shown}"
    if pages is None:
        where = f" on node {cpu_list(placement.nodes)}" if placement and placement.nodes else ""
        yield f"memory{where}, without hugepages"
    elif placement is not None and placement.pages:
        parts = [f"{count} on node {node}" for node, count in placement.pages]
        yield f"hugepages of {pages.size.words}: {', '.join(parts)}"
    else:
        yield f"hugepages of {pages.size.words}: {pages.count} on any node"
    if domain.host_devices:
        yield f"QEMU may lock {memlock_mib(domain)} MiB"
    if domain.mmio_window:
        yield f"a window of {domain.mmio_window >> 30} GiB for 64-bit BARs"


def _topology(topology: CpuTopology) -> str:
    """2 cores with 2 threads each"""
    sockets, cores, threads = topology.sockets, topology.cores, topology.threads
    words = f"{cores} core{'s' if cores > 1 else ''}"
    if threads > 1:
        words += f" with {threads} threads each"
    return f"{sockets} sockets of {words}" if sockets > 1 else words
