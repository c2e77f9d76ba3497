"""`vfio-kit scan --root`: its start, its growth with the machine, its memory.

Bounds: a host of 40 functions in at most 3 times what `import click` takes; from there to 4,000
functions at most 0.5 ms a function, and no more per function than twice what it is at 400; at 4,000
a peak below 60 MiB.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machines import machine_of
from benchmarks.measure import Measured, measure, python
from benchmarks.table import Row
from tests.machines import write_machine

_SIZES = (40, 400, 1000, 4000)
_TIMES_CLICK = 3.0
_MS_A_FUNCTION = 0.5
_GROWTH = 2.0
_PEAK_MIB = 60.0


def rows(runs: int) -> Iterator[Row]:
    """The rows of the table; the floor is an interpreter that imports click and ends."""
    floor = measure(python("-c", "import click"), 3 * runs)
    yield Row('python -c "import click"', floor, "the floor")
    scans = {size: _scan(size, runs) for size in _SIZES}
    small = scans[_SIZES[0]]
    times = small.median / floor.median
    yield Row(
        f"scan, {_SIZES[0]} functions",
        small,
        f"{times:.1f} x the floor, at most {_TIMES_CLICK:.0f} x",
        holds=times <= _TIMES_CLICK,
    )
    first = _each(scans, _SIZES[1])
    for size in _SIZES[1:]:
        each = _each(scans, size)
        yield Row(
            f"scan, {size} functions",
            scans[size],
            f"{each:.2f} ms a function, at most {_MS_A_FUNCTION} ms; "
            f"peak at most {_PEAK_MIB:.0f} MiB",
            holds=each <= _MS_A_FUNCTION
            and each <= _GROWTH * first
            and scans[size].peak_mib <= _PEAK_MIB,
        )


def _each(scans: dict[int, Measured], size: int) -> float:
    """Milliseconds that each function beyond the smallest host costs."""
    least = _SIZES[0]
    return (scans[size].median - scans[least].median) * 1000 / (size - least)


def _scan(size: int, runs: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="vfio-kit-") as folder:
        root = write_machine(Path(folder), machine_of(size))
        return measure(python("-m", "vfio_kit", "scan", "--root", str(root)), runs)
