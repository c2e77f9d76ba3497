"""What `scan` prints for people: a table of the GPUs, then each with its reasons."""

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import print_findings, wrapped
from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.model import Finding, GpuReport, Host, Level, PciDevice, Verdict

COLOURS = {
    Verdict.ISOLATED: "green",
    Verdict.OVERRIDDEN: "yellow",
    Verdict.SHARED: "red",
    Verdict.NO_IOMMU: "red",
}
_HEADS = ("GPU", "NAME", "GROUP", "DRIVER", "VERDICT", "CAN GO")
_NAME = 1


def print_report(
    host: Host,
    reports: tuple[GpuReport, ...],
    general: tuple[Finding, ...],
    *,
    source: str = "",
    together: bool = False,
) -> None:
    """The table, what concerns the host, the details of each GPU, and the next command.

    `source`: the options that name the machine again; `together`: the GPUs go to one guest.
    """
    _print_table(reports)
    if reports:
        click.echo()
    click.secho(_host_line(host), bold=True)
    print_findings(general)
    for report in reports:
        click.echo()
        _print_gpu(report)
    click.echo()
    _print_summary(reports, general, source, together=together)


def _host_line(host: Host) -> str:
    kernel = f"Linux {host.kernel_release}" if host.kernel_release else "Linux"
    words = f"this host: {kernel} on {host.machine}"
    groups = len(host.iommu_groups)
    return f"{words}, {groups or 'no'} IOMMU group{'' if groups == 1 else 's'}"


def _print_table(reports: tuple[GpuReport, ...]) -> None:
    if not reports:
        return
    rows = [_row(report) for report in reports]
    widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
    # The name gives way where the line would be too long.
    spare = console.terminal_width() - sum(widths) - 2 * (len(widths) - 1)
    widths[_NAME] = max(len(_HEADS[_NAME]), 12, widths[_NAME] + min(0, spare))
    click.secho(_line(_HEADS, widths), bold=True)
    for report, row in zip(reports, rows, strict=True):
        text = _line(row, widths)
        verdict = report.verdict.value
        head, _, tail = text.rpartition(verdict)
        click.echo(head + click.style(verdict, fg=COLOURS[report.verdict], bold=True) + tail)


def _row(report: GpuReport) -> tuple[str, ...]:
    gpu = report.gpu
    return (
        str(gpu.address),
        gpu.name or f"[{gpu.ids}]",
        "-" if gpu.iommu_group is None else str(gpu.iommu_group),
        gpu.driver or "-",
        report.verdict.value,
        "yes" if report.can_go else "no",
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    fitted = [_fit(cell, width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(fitted).rstrip()


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _print_gpu(report: GpuReport) -> None:
    gpu = report.gpu
    click.secho(f"{gpu.address}  {gpu.name or class_name(gpu.pci_class)} [{gpu.ids}]", bold=True)
    if gpu.upstream:
        _print_part("behind", " → ".join(map(str, gpu.upstream)))
    for function in report.functions:
        if function.address != gpu.address:
            _print_part("goes along", _described(function))
    order = list(Level)
    print_findings(tuple(sorted(report.findings, key=lambda found: order.index(found.level))))
    if report.can_go and all(found.level is Level.INFO for found in report.findings):
        click.echo("  nothing stands in its way")


def _print_part(label: str, text: str) -> None:
    for line in wrapped(text, f"  {label:<10}  ", " " * 14):
        click.echo(line)


def _described(device: PciDevice) -> str:
    words = [str(device.address), device.name or class_name(device.pci_class), f"[{device.ids}]"]
    if device.interfaces:
        words.append("interface " + ", ".join(device.interfaces))
    if device.driver:
        words.append(f"({device.driver})")
    return " ".join(words)


def _print_summary(
    reports: tuple[GpuReport, ...], general: tuple[Finding, ...], source: str, *, together: bool
) -> None:
    if not reports:
        click.echo("no GPU on this host: no display controller (PCI class 03xx)")
        click.echo("next: vfio-kit advise --name 'Tesla K80', to see what a card would take")
        return
    able = [report for report in reports if report.can_go]
    noun = "GPU" if len(reports) == 1 else "GPUs"
    click.echo(f"{len(able)} of {len(reports)} {noun} can go to a guest")
    if able and (len(able) == len(reports) or not together):
        going = able if together else able[:1]
        gpus = " ".join(f"--gpu {report.gpu.address}" for report in going)
        # A guest's driver is NVIDIA's, unless it is told to have none.
        driver = "" if any(r.gpu.vendor_id == NVIDIA for r in going) else " --driver none"
        click.echo(f"next: vfio-kit plan {gpus}{driver}{source}")
        return
    codes = dict.fromkeys(
        found.code
        for findings in (general, *(report.findings for report in reports))
        for found in findings
        if found.level is Level.BLOCK
    )
    if codes:
        click.echo(f"next: vfio-kit explain {' '.join(codes)}")
