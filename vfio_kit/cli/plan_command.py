"""vfio-kit plan"""

from pathlib import Path
from typing import Any

import click

from vfio_kit.cli.common import (
    finding_json,
    image_dir_option,
    json_option,
    print_findings,
    print_json,
    root_option,
    state_dir_option,
)
from vfio_kit.cli.spec_options import plan_from, spec_from, spec_options
from vfio_kit.model.vm import Software, UpPlan


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
    if as_json:
        print_json(_json(plan))
    else:
        _print(plan)


def default_name(spec_file: Path | None) -> str | None:
    """A plan or a rendering needs no name of its own; a spec file has to give one."""
    return None if spec_file else "gpu-vm"


def _json(plan: UpPlan) -> dict[str, Any]:
    domain = plan.domain
    return {
        "schema": "vfio-kit/plan/1",
        "name": domain.name,
        "guest": plan.guest,
        "driver": plan.software.driver,
        "cuda": plan.software.cuda,
        "cuda_way": plan.software.cuda_way.value if plan.software.cuda else None,
        "capabilities": list(plan.software.capabilities),
        "packages": list(plan.software.packages),
        "bundle": plan.software.bundle,
        "baked": plan.software.baked,
        "image": plan.image or None,
        "cpus": domain.cpus,
        "memory_mib": domain.memory_mib,
        "hugepages": None
        if domain.hugepages is None
        else {"size_kib": domain.hugepages.size_kib, "count": domain.hugepages.count},
        "boot": domain.boot.mode.value,
        "devices": [
            {
                "address": str(device.address),
                "ids": device.ids,
                "name": device.name,
                "driver": device.driver,
                "guest_address": f"0000:{place.guest_bus:02x}:00.{place.guest_function}",
            }
            for device, place in zip(plan.devices, domain.host_devices, strict=True)
        ],
        "steps": [
            {"step": step.kind.value, "what": step.what, "undo": step.undo} for step in plan.steps
        ],
        "findings": [finding_json(found) for found in plan.findings],
    }


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
        click.echo(
            f"  {device.address} {name}[{device.ids}] → guest "
            f"{place.guest_bus:02x}:00.{place.guest_function}"
        )
    print_findings(plan.findings)
    click.echo("steps:")
    for number, step in enumerate(plan.steps, start=1):
        click.echo(f"  {number}. {step.what}")
        if step.undo:
            click.echo(f"     undo: {step.undo}")
    click.echo(f"nothing was changed; next: sudo vfio-kit up {domain.name}, with these options")
