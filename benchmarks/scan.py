"""`vfio-kit scan --root`: its start, its growth with the machine, its memory."""

from collections.abc import Iterator

from benchmarks.machines import machine_of
from benchmarks.row import Bound, Local, Row
from benchmarks.timing import commands_in_turns, folder, peak_mib, python, run
from tests.machines import write_machine

_SIZES = (40, 400, 1000, 4000)
_TIMES_CLICK = 3.0
_MS_A_FUNCTION = 0.5
_GROWTH = 2.0
_PEAK_MIB = 60.0

_LIST_FILES = """
import os, sys
root, listing = sys.argv[1:]
opened = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(root):
        opened.append(str(arguments[0]))
sys.addaudithook(hook)
from vfio_kit.cli import main
sys.argv = ["vfio-kit", "scan", "--root", root]
try:
    main()
finally:
    with open(listing, "w") as file:
        file.write("\\n".join(path for path in opened if os.path.isfile(path)))
"""
_READ_FILES = """
import os, sys
for path in open(sys.argv[1]).read().split("\\n"):
    handle = os.open(path, os.O_RDONLY)
    while os.read(handle, 65536): pass
    os.close(handle)
"""


def _rows(runs: int) -> Iterator[Row]:
    with folder() as place:
        commands = {"click": python("-c", "import click")}
        for size in _SIZES:
            root, listing = place / str(size), place / f"{size}.files"
            write_machine(root, machine_of(size))
            run(python("-c", _LIST_FILES, str(root), str(listing)))
            commands[f"read {size}"] = python("-c", _READ_FILES, str(listing))
            commands[f"scan {size}"] = python("-m", "vfio_kit", "scan", "--root", str(root))
        peaks = {size: peak_mib("scan", "--root", str(place / str(size))) for size in _SIZES}
        yield from _judged(commands_in_turns(commands, runs), peaks)


def _judged(found: dict[str, tuple[float, ...]], peaks: dict[int, float]) -> Iterator[Row]:
    click = Row('python -c "import click"', found["click"])
    least = _SIZES[0]
    start = Row("", found[f"scan {least}"]).median / click.median
    yield click
    yield Row(
        f"scan, {least} functions",
        found[f"scan {least}"],
        click.as_floor("import click"),
        (Bound("× import click", start, _TIMES_CLICK),),
        f"{peaks[least]:.0f} MiB",
    )
    quickest = {size: min(found[f"scan {size}"]) for size in _SIZES}
    each = {size: (quickest[size] - quickest[least]) * 1000 / (size - least) for size in _SIZES[1:]}
    for size in _SIZES[1:]:
        files = Row(f"the files of {size} functions, read", found[f"read {size}"])
        yield files
        yield Row(
            f"scan, {size} functions",
            found[f"scan {size}"],
            files.as_floor("its files read"),
            (
                Bound("ms a function", each[size], _MS_A_FUNCTION),
                Bound(f"× that at {_SIZES[1]}", each[size] / each[_SIZES[1]], _GROWTH),
                Bound("MiB", peaks[size], _PEAK_MIB),
            ),
        )


BENCHMARK = Local(
    name="scan",
    title="scan: its start, and its growth with the machine",
    runs=5,
    method=(
        "Whole processes, from their start to their end: `python -m vfio_kit scan --root TREE` of "
        "made-up hosts, trees of files with the sysfs and procfs of 40 to 4,000 PCI functions, "
        "every tenth of them a GPU behind a root port of its own, in memory as sysfs is. Two "
        "floors: of the start an interpreter that imports click (the library below the command "
        "line) and ends; of the growth an interpreter that opens and reads the same files, and "
        "does nothing with them. The milliseconds a function are those beyond the smallest host, "
        "by the quickest run of each, which what else the machine does disturbs least. Memory is "
        "the most that the process had (VmHWM), in a run of its own."
    ),
    meaning=(
        "What `scan` costs on a real host is the first figure: a workstation has 20 to 100 "
        "functions. The others say that it stays linear; what it does beside reading files "
        "(following links, judging groups, printing) is the distance to the second floor."
    ),
    rows=_rows,
)
