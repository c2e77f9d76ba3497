"""Measures vfio-kit beside its floors and prints one table.

Without --only: what this machine can without the virtual host, and with --lab what is measured
there, too. Exit status 1: a bound does not hold; 2: the virtual host could not be had, or used.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace

from benchmarks import BENCHMARKS, page, results, setting, table
from benchmarks.results import Measured
from benchmarks.row import Benchmark, InLab, Local, NotMeasured, Row
from benchmarks.setting import Computer
from tests.lab.faults import LabFault
from tests.lab.machine import LabError


def main() -> int:
    args = _arguments()
    wanted = [each for each in BENCHMARKS if _is_wanted(each, args.only, args.lab)]
    if not args.json:
        print(table.head(), flush=True)
    measured = []
    try:
        for one in _measured(wanted, args.runs):
            measured.append(one)
            if args.write:
                _keep(one)
            if not args.json:
                print("\n".join(table.lines(one)), flush=True)
    except (LabError, LabFault) as error:
        print(f"virtual host: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(results.document(measured), indent=1))
    return 0 if all(one.holds for one in measured) else 1


def _keep(measured: Measured) -> None:
    """At once: a later one may fail after many minutes."""
    kept = results.merged(results.read(), [measured])
    results.write(kept)
    page.FILE.write_text(page.page(BENCHMARKS, kept), "utf-8")


def _arguments() -> argparse.Namespace:
    names = [each.name for each in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--lab", action="store_true", help="also what the virtual host measures")
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--runs", type=_number, help="of each way  [default: each one's own]")
    parser.add_argument("--json", action="store_true", help="the results as JSON, and no table")
    parser.add_argument("--write", action="store_true", help="keep them; write docs/benchmarks.md")
    return parser.parse_args()


def _number(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _is_wanted(benchmark: Benchmark, only: list[str] | None, lab: bool) -> bool:
    if only:
        return benchmark.name in only
    return lab or not isinstance(benchmark, InLab)


def _measured(wanted: Iterable[Benchmark], runs: int | None) -> Iterator[Measured]:
    """One after the other; what this machine cannot measure is said on stderr."""
    now = setting.setting()
    with ExitStack() as stack:
        in_lab = _in_lab(stack)
        for benchmark in wanted:
            print(f"measuring {benchmark.name} …", file=sys.stderr, flush=True)
            count = runs or benchmark.runs
            try:
                if isinstance(benchmark, Local):
                    yield Measured(benchmark.name, now, tuple(benchmark.rows(count)))
                elif isinstance(benchmark, InLab):
                    rows, host = in_lab(benchmark, count)
                    yield Measured(benchmark.name, replace(now, host=host), rows)
            except NotMeasured as reason:
                print(f"{benchmark.name}: not measured: {reason}", file=sys.stderr, flush=True)


def _in_lab(stack: ExitStack) -> Callable[[InLab, int], tuple[tuple[Row, ...], Computer]]:
    """Measures in the virtual host, which is booted at the first call and kept until the end."""
    from benchmarks.lab.host import VirtualHost, virtual_host

    hosts: list[VirtualHost] = []

    def measure(benchmark: InLab, runs: int) -> tuple[tuple[Row, ...], Computer]:
        if not hosts:
            hosts.append(stack.enter_context(virtual_host()))
        return hosts[0].rows(benchmark, runs)

    return measure


if __name__ == "__main__":
    sys.exit(main())
