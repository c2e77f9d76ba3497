"""vfio-kit scan"""

from pathlib import Path
from typing import Any

import click

from vfio_kit.analysis.isolation import host_findings, judge
from vfio_kit.cli.common import (
    device_json,
    finding_json,
    json_option,
    print_findings,
    print_json,
    read_named_host,
    root_option,
)
from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.model import GpuReport, PciDevice, Verdict

_COLOURS = {Verdict.ISOLATED: "green", Verdict.SHARED: "red", Verdict.NO_IOMMU: "red"}


@click.command("scan")
@json_option
@root_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, root: Path) -> None:
    """Say which GPUs can go to a guest, and why others cannot.

    Exit status 0 when at least one can, 3 when none can.
    """
    host = read_named_host(root)
    reports = judge(host)
    general = host_findings(host)
    if as_json:
        print_json(
            {
                "schema": "vfio-kit/scan/1",
                "gpus": [_json(report) for report in reports],
                "findings": [finding_json(found) for found in general],
            }
        )
    else:
        for report in reports:
            _print(report)
        print_findings(general, "")
        _summary(reports)
    ctx.exit(0 if any(report.can_go for report in reports) else 3)


def _json(report: GpuReport) -> dict[str, Any]:
    gpu = report.gpu
    return {
        "address": str(gpu.address),
        "vendor_id": f"{gpu.vendor_id:04x}",
        "device_id": f"{gpu.device_id:04x}",
        "name": gpu.name,
        "class": gpu.pci_class,
        "iommu_group": gpu.iommu_group,
        "driver": gpu.driver,
        "verdict": report.verdict.value,
        "can_go": report.can_go,
        "functions": [str(function.address) for function in report.functions],
        "foreign_endpoints": [device_json(device) for device in report.foreign_endpoints],
        "bridges": [device_json(device) for device in report.bridges],
        "findings": [finding_json(found) for found in report.findings],
    }


def _print(report: GpuReport) -> None:
    gpu = report.gpu
    verdict = click.style(report.verdict.value, fg=_COLOURS[report.verdict], bold=True)
    click.echo(f"{gpu.address}  {gpu.name or 'unnamed'} [{gpu.ids}]  {verdict}")
    group = "none" if gpu.iommu_group is None else str(gpu.iommu_group)
    click.echo(f"  {class_name(gpu.pci_class)}, IOMMU group {group}, {_driver(gpu)}")
    for function in report.functions:
        if function.address != gpu.address:
            click.echo(f"  goes along  {_line(function)}")
    for device in report.foreign_endpoints:
        click.echo(f"  in the way  {_line(device)}")
    for device in report.bridges:
        click.echo(f"  bridge      {_line(device)}")
    print_findings(report.findings)


def _line(device: PciDevice) -> str:
    name = f" {device.name}" if device.name else ""
    return (
        f"{device.address} {class_name(device.pci_class)} [{device.ids}]{name}, {_driver(device)}"
    )


def _driver(device: PciDevice) -> str:
    return f"driver {device.driver}" if device.driver else "no driver"


def _summary(reports: tuple[GpuReport, ...]) -> None:
    able = [report for report in reports if report.can_go]
    if not reports:
        click.echo("no GPU on this host: no display controller (PCI class 03xx)")
        return
    noun = "GPU" if len(reports) == 1 else "GPUs"
    click.echo(f"{len(able)} of {len(reports)} {noun} can go to a guest")
    # The host's console is never proposed; it can be named all the same.
    proposed = [report.gpu for report in able if not report.gpu.boot_vga]
    if proposed:
        click.echo(f"next: vfio-kit plan --gpu {proposed[0].address}")
