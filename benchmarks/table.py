"""The one table that the benchmarks print, for a terminal."""

from collections.abc import Iterator

from benchmarks.results import Measured
from benchmarks.row import Row

_FORM = "{:<12} {:<46} {:>8}  {:<16} {:>4}  {:<24} {}"


def head() -> str:
    return _FORM.format("", "what", "median", "min to max", "runs", "times its floor", "bounds")


def lines(measured: Measured) -> Iterator[str]:
    for row in measured.rows:
        bounds = "; ".join(map(str, row.bounds))
        verdict = "" if row.holds else "  TOO MUCH"
        rest = "; ".join(word for word in (bounds + verdict, row.note) if word)
        yield _FORM.format(
            measured.name,
            row.what,
            duration(row.median),
            spread(row),
            len(row.seconds),
            times(row),
            rest,
        ).rstrip()


def duration(seconds: float) -> str:
    """In milliseconds up to two seconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"


def spread(row: Row) -> str:
    """The least and the most of all runs; nothing where there is one alone."""
    if len(row.seconds) == 1:
        return ""
    least, most = min(row.seconds), max(row.seconds)
    if most < 2:
        return f"{least * 1000:.0f} to {most * 1000:.0f} ms"
    return f"{least:.1f} to {most:.1f} s"


def times(row: Row) -> str:
    if row.floor is None or row.ratio is None:
        return ""
    return f"{row.ratio:.2f} × {row.floor.what}"
