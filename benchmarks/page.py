"""docs/benchmarks.md, as it is written from the kept results."""

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.results import Measured
from benchmarks.row import Benchmark, InLab, Row
from benchmarks.setting import CHECKOUT, Setting
from benchmarks.table import duration, spread, times

FILE = CHECKOUT / "docs/benchmarks.md"

_TOP = """\
# Benchmarks

<!-- Written by python -m benchmarks --write, from benchmarks/results.json. -->

What vfio-kit costs, beside the least that the same work takes. From a checkout, with its
development packages installed:

- `python -m benchmarks` measures what a machine can without the virtual host, in about a minute
  (`scripts/test --all` does so, for the bounds);
- `python -m benchmarks --lab` also measures in the virtual host (tests/lab), in about half an hour;
  nothing else may run on the machine meanwhile;
- `--only NAME` takes one of them, `--runs N` another number of runs, `--json` prints the results as
  JSON, and `--write` keeps them and writes this page. What was not measured this time stays as it
  was, under the run that it is of.

Exit status 1: a bound does not hold.

How to read it:

- A figure is wall-clock time: the **median** of its runs, with the least and the most of them. The
  ways of doing something are taken in turns, each round beginning with another one, and a first
  round (in the virtual host: a run of each program without a guest) is not counted.
- The **floor** is the least that the same work takes without vfio-kit, measured in the same rounds;
  a row without one is a floor itself, or has none. "2.10 × its files read" is 2.10 times that
  floor.
- A **bound** is what a figure is held to; `python -m benchmarks` fails where one does not hold. A
  row without a bound is told, and held to nothing. Bounds leave room for a busy machine: they are
  there to show a regression.
"""


def page(benchmarks: Sequence[Benchmark], results: Sequence[Measured]) -> str:
    """The page: where it ran, one table, and each benchmark's method and meaning."""
    measured = {one.name: one for one in results}
    shown = [measured[each.name] for each in benchmarks if each.name in measured]
    runs = list(dict.fromkeys(one.setting for one in shown))
    parts = [_TOP, *_runs(runs), *_table(shown, runs)]
    for benchmark in benchmarks:
        parts += _section(benchmark, measured.get(benchmark.name))
    return "\n".join(parts).rstrip("\n") + "\n"


def _runs(runs: Sequence[Setting]) -> Iterator[str]:
    yield "## Runs"
    yield ""
    yield from ("| run | date (UTC) | commit | load before | machine |", "|---|---|---|---|---|")
    for number, run in enumerate(runs, 1):
        machine = str(run.machine)
        if run.host:
            machine += f"; on it the virtual host: {run.host}"
        yield f"| {number} | {run.date} | {run.commit} | {run.load:.2f} | {machine} |"
    yield ""
    yield from _wrapped(
        "Load is how many processes wanted a CPU in the minute before: where it is more than a few "
        "tenths, something else ran as well, and the figures are doubtful."
    )


def _table(shown: Sequence[Measured], runs: Sequence[Setting]) -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield "| | what | median | least to most | runs | times its floor | bounds | | run |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in shown:
        for row in one.rows:
            yield _line(one, row, runs.index(one.setting) + 1)
    yield ""


def _line(one: Measured, row: Row, run: int) -> str:
    cells = (
        one.name,
        row.what,
        duration(row.median),
        spread(row),
        len(row.seconds),
        times(row),
        "; ".join(map(str, row.bounds)) + (_VERDICTS[row.holds] if row.bounds else ""),
        row.note,
        run,
    )
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


_VERDICTS = {True: ": passed", False: ": **not passed**"}


def _section(benchmark: Benchmark, measured: Measured | None) -> Iterator[str]:
    yield f"## {benchmark.title}"
    yield ""
    where = " --lab" if isinstance(benchmark, InLab) else ""
    yield from _wrapped(
        f"`python -m benchmarks{where} --only {benchmark.name}`."
        + ("" if measured else " **Not measured yet.**")
    )
    for text in (benchmark.method, *benchmark.meaning.split("\n\n")):
        if text:
            yield from _wrapped(text)


def _wrapped(text: str) -> Iterator[str]:
    """A paragraph, or a list whose items begin with "- "."""
    for number, item in enumerate(text.split("\n- ")):
        is_item = number > 0 or item.startswith("- ")
        words = item.removeprefix("- ")
        yield from textwrap.wrap(
            words,
            100,
            initial_indent="- " if is_item else "",
            subsequent_indent="  " if is_item else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
    yield ""
