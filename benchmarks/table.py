"""The one table that the benchmarks print."""

from dataclasses import dataclass

from benchmarks.measure import Measured

_FORM = "{:<28} {:>8} {:>12} {:>7}  {}"


@dataclass(frozen=True)
class Row:
    """What was measured, what it is compared with, and whether its bound holds."""

    what: str
    measured: Measured
    remark: str
    holds: bool = True


def head() -> str:
    return _FORM.format("what", "median", "min-max ms", "peak", "")


def line(row: Row) -> str:
    measured = row.measured
    return _FORM.format(
        row.what,
        f"{measured.median * 1000:.0f} ms",
        measured.spread,
        f"{measured.peak_mib:.0f} MiB",
        row.remark + ("" if row.holds else "  TOO MUCH"),
    )
