"""How long a guest's hugepages take: by one thread and by several, here and in the virtual host."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.row import Bound, InLab, Local, NotMeasured, Row
from benchmarks.timing import python

if TYPE_CHECKING:
    from tests.lab.labhost import LabHost

INSIDE = Path(__file__).parent / "inside/prealloc.py"
_MIB, _LAB_MIB = 2048, 1024
_QEMU = "qemu-system-x86_64"
_SLOWER = 1.5
_MOST_THREADS = 4


def _here(runs: int) -> Iterator[Row]:
    if os.geteuid() != 0 or shutil.which(_QEMU) is None:
        raise NotMeasured(f"it needs root and {_QEMU}")
    threads = _threads(len(os.sched_getaffinity(0)))
    words = python(str(INSIDE), str(_MIB), str(runs), ",".join(map(str, threads)))
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode == 3:
        raise NotMeasured(done.stderr.strip())
    if done.returncode:
        raise SystemExit(f"{INSIDE.name} failed: {done.stderr}")
    yield from _judged(json.loads(done.stdout), _MIB)


def _there(host: "LabHost", runs: int) -> Iterator[Row]:
    host.put(INSIDE, "/root/prealloc.py")
    threads = ",".join(map(str, _threads(int(host.run("nproc").stdout))))
    command = f"python3 /root/prealloc.py {_LAB_MIB} {runs} {threads}; rm /root/prealloc.py"
    yield from _judged(json.loads(host.run(command, timeout=900).stdout), _LAB_MIB)


def _threads(cpus: int) -> tuple[int, ...]:
    """One, and one for each CPU up to four, where that is more."""
    return (1, min(cpus, _MOST_THREADS)) if cpus > 1 else (1,)


def _judged(document: dict[str, Any], mib: int) -> Iterator[Row]:
    found = {way: tuple(runs) for way, runs in document["seconds"].items()}
    gib = f"{mib / 1024:.0f} GiB"
    populate = Row(f"{gib} mapped and populated by the kernel", found["populate"])
    floor = populate.as_floor("populated")
    yield Row(f"{mib // 2} pages taken from the kernel", found["take"])
    yield populate
    yield Row("QEMU, nothing filled", found["off"], note=document["qemu"])
    one = Row("", found["1"]).median
    for count in (int(way) for way in found if way.isdecimal()):
        row = Row("", found[str(count)])
        bound = Bound("× one thread", row.median / one, _SLOWER)
        yield Row(
            f"QEMU, {gib} filled by {'1 thread' if count == 1 else f'{count} threads'}",
            row.seconds,
            floor,
            (bound,) if count > 1 else (),
        )


_METHOD = (
    "A guest of {mib} MiB in hugepages of 2 MiB, without its guest: QEMU is started with the "
    "memory of a domain that libvirt makes with `<allocation mode='immediate' threads='N'/>` "
    "(memory-backend-memfd, prealloc, prealloc-threads=N) and told to quit before its CPUs run; "
    "the figure is the whole process. N is 1, and the number of CPUs, 4 at most. Every round "
    "takes the pages from the kernel anew (the first row, without a floor) and then goes through "
    "all ways, beginning with another one each time; a first round does not count. The floor is a "
    "process that maps the same pages with MAP_POPULATE, which the kernel does in one thread. A "
    "QEMU that fills nothing shows what of it is QEMU's own start and end."
)
_MEANING = (
    "The kernel clears a page when it is first touched, so this is the speed of memory. On two "
    "CPUs the second thread can gain a half at most, and less where one thread alone fills the "
    "memory's bandwidth, or where other processes want a CPU: whether more threads pay is seen on "
    "machines with many cores, and the bound says only that they do no harm."
)

BENCHMARK = Local(
    name="prealloc",
    title="Hugepages: taken, and filled by one thread and by several",
    runs=5,
    method=_METHOD.format(mib=_MIB),
    meaning=_MEANING,
    rows=_here,
)
LAB_BENCHMARK = InLab(
    name="lab-prealloc",
    title="Hugepages in the virtual host",
    runs=3,
    method="As above, inside the virtual host: " + _METHOD.format(mib=_LAB_MIB),
    meaning=(
        "Both of the host's CPUs are threads of the emulator on this machine's cores: that two "
        "threads gain shows that they run at the same time, and not how fast memory is."
    ),
    rows=_there,
)
