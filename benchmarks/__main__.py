"""`python -m benchmarks [--runs N]`: one table; exit status 1 where a bound does not hold."""

import argparse
import sys
from itertools import chain

from benchmarks import prealloc, scan
from benchmarks.table import head, line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (default: 5)")
    runs = parser.parse_args().runs
    print(head())
    rows = []
    for row in chain(scan.rows(runs), prealloc.rows(runs)):
        rows.append(row)
        print(line(row), flush=True)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
