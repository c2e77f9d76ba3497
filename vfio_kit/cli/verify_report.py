"""How `verify` tells people what it found: the ladder of one guest, a line for each of several."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import click

from vfio_kit.cli.common import wrapped
from vfio_kit.model.health import Check, CheckStatus, Fitness, GpuHealth, VerifyReport

_COLOURS = {
    CheckStatus.OK: "green",
    CheckStatus.WARN: "yellow",
    CheckStatus.FAILED: "red",
    CheckStatus.SKIPPED: None,
    CheckStatus.NOT_RUN: "yellow",
}
_VERDICTS = {Fitness.FIT: "green", Fitness.UNFIT: "red", Fitness.NOT_CHECKED: "yellow"}

_STATUS, _CODE = 8, 13
_INDENT = " " * (_STATUS + _CODE + 2)


def print_ladder(report: VerifyReport) -> None:
    """Every rung, the GPUs, and the verdict last."""
    for check in report.checks:
        _print_check(check)
    for gpu in report.gpus:
        _print_gpu(gpu)
    click.echo(f"{report.host}: {_verdict(report)}{_reason(report)}, {_took(report)}")


def print_line(report: VerifyReport, width: int) -> None:
    """One guest among several; `width` is the longest label's."""
    told = _names(report) if report.fitness is Fitness.FIT else _reason(report)
    click.echo(f"{report.host:<{width}}  {_verdict(report)}{told}, {_took(report)}")


def print_details(report: VerifyReport) -> None:
    """What stands in the way: the rungs that do not hold, under the guest's name."""
    click.echo(f"\n{click.style(report.host, bold=True)}:")
    reached = report.fitness is not Fitness.NOT_CHECKED
    for check in report.checks:
        not_run = check.status is CheckStatus.NOT_RUN
        if check.status in (CheckStatus.FAILED, CheckStatus.WARN) or (not_run and reached):
            _print_check(check)
    for gpu in report.gpus:
        _print_gpu(gpu)


def print_sum(reports: Sequence[VerifyReport], seconds: float) -> None:
    """How many of which verdict."""
    count = Counter(report.fitness for report in reports)
    words = [
        click.style(f"{count[fitness]} {fitness.value}", fg=colour)
        for fitness, colour in _VERDICTS.items()
        if count[fitness]
    ]
    click.echo(f"{len(reports)} guests: {', '.join(words)}; {seconds:.1f} s")


def print_changes(before: VerifyReport, after: VerifyReport, when: datetime) -> None:
    """Each rung whose outcome is another one than before, and the verdict if it changed."""
    start = f"{when:%H:%M:%S}  {after.host}  "
    known = {check.code: check for check in before.checks}
    for check in after.checks:
        old = known.get(check.code)
        if old is None or (old.status, old.cause) == (check.status, check.cause):
            continue
        now = click.style(check.status.value, fg=_COLOURS[check.status])
        lines = wrapped(_words(check), " " * 10, " " * 10)
        click.echo(f"{start}{check.code}: {old.status.value} → {now}")
        for line in lines:
            click.echo(line)
        _print_remedy(check, " " * 10)
    if before.fitness is not after.fitness:
        click.echo(f"{start}{before.fitness.value} → {_verdict(after)}{_reason(after)}")


def _print_check(check: Check) -> None:
    mark = click.style(f"{check.status.value:<{_STATUS}}", fg=_COLOURS[check.status])
    # Wrapped with as much room in front as mark and code take; the mark may hold colours.
    first, *more = wrapped(_words(check), _INDENT, _INDENT)
    click.echo(f"{mark} {check.code:<{_CODE}} {first.lstrip()}")
    for line in more:
        click.echo(line)
    _print_remedy(check, _INDENT)


def _print_remedy(check: Check, indent: str) -> None:
    """The remedy of what explains itself: that of a rung above is the one below it."""
    if check.status not in (CheckStatus.FAILED, CheckStatus.WARN) or check.explained_by:
        return
    for hint in check.remedy.splitlines():
        for line in wrapped(hint, f"{indent}→ ", f"{indent}  "):
            click.echo(line)


def _words(check: Check) -> str:
    because = f"because of {check.explained_by}" if check.explained_by else ""
    if check.status is CheckStatus.NOT_RUN and because:
        return because
    told = check.status in (CheckStatus.FAILED, CheckStatus.WARN) and not because
    cause = check.cause if told else None
    return ": ".join(words for words in (because, cause, check.evidence) if words)


def _verdict(report: VerifyReport) -> str:
    return click.style(report.fitness.value, fg=_VERDICTS[report.fitness], bold=True)


def _reason(report: VerifyReport) -> str:
    """The first rung that fails for a reason of its own; of a healthy guest, its warnings."""
    if report.fitness is Fitness.FIT:
        warned = [check.code for check in report.checks if check.status is CheckStatus.WARN]
        return f", with a warning: {', '.join(warned)}" if warned else ""
    bad = (CheckStatus.FAILED, CheckStatus.NOT_RUN)
    first = [check for check in report.checks if check.status in bad and not check.explained_by]
    if not first:
        return ": no GPU"
    if report.fitness is Fitness.NOT_CHECKED:
        return f": {first[0].evidence}"
    why = f" ({first[0].cause})" if first[0].cause else ""
    more = [check.code for check in first[1:] if check.status is CheckStatus.FAILED]
    return f": {first[0].code}{why}" + (f"; also {', '.join(more)}" if more else "")


def _names(report: VerifyReport) -> str:
    count = Counter(gpu.name or "a GPU" for gpu in report.gpus)
    names = [name if n == 1 else f"{n} x {name}" for name, n in count.items()]
    return f": {', '.join(names)}{_reason(report)}"


def _took(report: VerifyReport) -> str:
    return f"{report.seconds:.1f} s"


def _print_gpu(gpu: GpuHealth) -> None:
    link = gpu.link
    parts = [
        gpu.driver and f"driver {gpu.driver}",
        gpu.cuda and f"CUDA {gpu.cuda}",
        gpu.compute_capability and f"compute capability {gpu.compute_capability}",
        gpu.memory_mib is not None and f"{gpu.memory_mib} MiB",
        gpu.bar1_mib is not None and f"BAR 1 {gpu.bar1_mib} MiB",
        link and link.width and f"PCIe x{link.width}",
        gpu.temperature_c is not None and f"{gpu.temperature_c} °C",
        gpu.ecc and f"ECC {gpu.ecc.lower()}",
        gpu.device_query and f"deviceQuery {gpu.device_query}",
    ]
    where = f" at {_short(gpu.bus_id)}" if gpu.bus_id else ""
    what = ", ".join(part for part in parts if part)
    for line in wrapped(f"GPU {gpu.name or 'without a name'}{where}: {what}", "", "    "):
        click.echo(line)


def _short(bus_id: str) -> str:
    """nvidia-smi writes domains with eight digits, the kernel with four."""
    return bus_id[4:].lower() if len(bus_id) == 16 and bus_id.startswith("0000") else bus_id.lower()
