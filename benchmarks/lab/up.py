"""`up` beside what it stands on: QEMU by hand with the same arguments, and virt-install."""

import json
import re
import shlex
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.row import Bound, InLab, Row
from benchmarks.timing import in_turns
from tests.lab import product

if TYPE_CHECKING:
    from tests.lab.labhost import LabHost

Marks = dict[str, float]
"""What was done when, in seconds since the begin; a step of `up` by its name: its own seconds."""

MOST_OF_BARE = 1.9
"""So that a regression is seen; 1.2 to 1.6 was measured."""
AIM = 1.1
FOLDER = "/root/speed"
_IMAGES = "/var/lib/libvirt/images"
_GPU, _AUDIO = "0000:01:00.0", "0000:01:00.1"
_OPTIONS = (
    f"--gpu {_GPU} --guest debian-12 --image {_IMAGES}/guest.qcow2 --driver none "
    f"--kernel {_IMAGES}/guest-vmlinuz --initrd {_IMAGES}/guest-initrd --cpus 1 --memory 1024"
)
_NO_GUEST = "--import --name x --memory 64 --osinfo debian12 --disk none --graphics none"
_PAGES = 512
_INSIDE = Path(__file__).parents[1] / "inside"
_LIMIT = 900.0
_WAYS = ("bare", "up", "virt-install")
_NAMES = {"bare": "QEMU by hand", "up": "vfio-kit up", "virt-install": "virt-install"}
_PHASES = (
    ("SSH greets", "", "greeting"),
    ("the guest's CPU runs", "", "running"),
    ("from there to SSH's greeting", "running", "greeting"),
    ("logged in", "", "login"),
)
"""A phase in words, the marks of its begin ("": of all) and of its end."""


@contextmanager
def prepared(host: "LabHost") -> Iterator[None]:
    """The host has the files that all ways start from, hugepages for a guest, and warm caches."""
    product.compiled_on(host)
    outputs = "--output qemu --output microvm --output cloud-init"
    host.run(f"rm -rf {FOLDER}; vfio-kit render --name speed {_OPTIONS} {outputs} -o {FOLDER}")
    for script in ("start.py", "clock.py"):
        host.put(_INSIDE / script, f"/root/{script}")
    pages = "/proc/sys/vm/nr_hugepages"
    host.run(f"echo {_PAGES} > {pages}; grep -qx {_PAGES} {pages}")
    host.run(f"cat {_IMAGES}/guest* > /dev/null; qemu-system-x86_64 --version")
    host.run(f"vfio-kit up speed {_OPTIONS} --dry-run")
    host.run(f"virt-install {_NO_GUEST} --print-xml > /dev/null")
    yield
    host.run(f"rm -r {FOLDER} /root/start.py /root/clock.py; echo 0 > {pages}")


def started(host: "LabHost", way: str) -> Marks:
    """One guest to SSH and away again, on a host that is `prepared`; way: also "microvm"."""
    words = _OPTIONS if way == "up" else f"{FOLDER} {_GPU} {_AUDIO}"
    done = host.run(f"python3 /root/start.py {way} {words}", timeout=_LIMIT)
    marks = dict(json.loads(done.stdout))
    host.say(f"{way}: CPU after {marks['running']} s, SSH after {marks['greeting']} s")
    return marks


def rows(host: "LabHost", runs: int) -> Iterator[Row]:
    """What each way took, phase by phase; what `up` did meanwhile; what of it is Python."""
    with prepared(host):
        found = in_turns({way: _way(host, way) for way in _WAYS}, runs, warm=0)
        own = [(what, _clock(host, words, 3 * runs)) for what, words in _OWN]
    for phase in _PHASES:
        yield from _phase(phase, found)
    yield from _steps(found["up"])
    python = Row(own[0][0], own[0][1])
    yield python
    for what, seconds in own[1:]:
        yield Row(what, seconds, python.as_floor("import click"))


_OWN = (
    ('python -c "import click", there', "/opt/vfio-kit/bin/python -c 'import click'"),
    ("vfio-kit --version, there", "vfio-kit --version"),
    ("vfio-kit up --dry-run, there", f"vfio-kit up speed {_OPTIONS} --dry-run"),
)


def _way(host: "LabHost", way: str) -> Callable[[], Marks]:
    return lambda: started(host, way)


def _clock(host: "LabHost", words: str, runs: int) -> tuple[float, ...]:
    command = shlex.join(["python3", "/root/clock.py", str(runs), *shlex.split(words)])
    return tuple(json.loads(host.run(command, timeout=_LIMIT).stdout))


def _phase(phase: tuple[str, str, str], found: dict[str, tuple[Marks, ...]]) -> Iterator[Row]:
    words, begin, end = phase
    seconds = {
        way: tuple(round(marks[end] - marks.get(begin, 0.0), 2) for marks in runs)
        for way, runs in found.items()
    }
    bare = Row(f"{_NAMES['bare']}: {words}", seconds["bare"])
    yield bare
    for way in _WAYS[1:]:
        row = Row(f"{_NAMES[way]}: {words}", seconds[way], bare.as_floor(_NAMES["bare"]))
        yield _judged(row, seconds) if (way, words) == ("up", _PHASES[0][0]) else row


def _judged(row: Row, seconds: dict[str, tuple[float, ...]]) -> Row:
    """The row that the bounds and the aim are about."""
    assert row.ratio is not None
    against = row.median / statistics.median(seconds["virt-install"])
    bounds = (
        Bound("× QEMU by hand", row.ratio, MOST_OF_BARE),
        Bound("× virt-install", against, 1.0),
    )
    aim = f"the aim of {AIM:.2f} is {'reached' if row.ratio <= AIM else 'not reached'}"
    return replace(row, bounds=bounds, note=aim)


def _steps(runs: Sequence[Marks]) -> Iterator[Row]:
    """What `up` says of its own steps until the guest's CPU runs: those of a tenth of a second."""
    for name in (name for name in runs[0] if name.startswith("step: ")):
        if name.startswith(f"step: {_WAITING}"):
            return
        seconds = tuple(marks[name] for marks in runs if name in marks)
        if max(seconds) >= 0.1:
            yield Row(f"up's {_DETAIL.split(name)[0]}", seconds)


_WAITING = "SSH server greets"
"""The first step of those that go on in the guest."""
_DETAIL = re.compile(r" in /| on /| /|;|,| and ")
"""Where the name of a step begins to tell paths and devices."""


_METHOD = (
    "In the virtual host, which runs nothing else, the same guest (Debian 12, one CPU, 1 GiB in "
    "hugepages, kernel and initrd given, an M4000 and its audio function) is started in three ways "
    "in turns, and each way does all that it takes by itself: overlay, seed, drivers to vfio-pci, "
    "and afterwards back. *QEMU by hand* is the script of `vfio-kit render --output qemu` with a "
    "tap in libvirt's network; it is the floor. *virt-install* makes a domain of the same disk, "
    "seed, kernel and functions. The clock begins with the command. The guest's CPU runs when QEMU "
    "answers over QMP, or libvirt says so in an event; SSH greets when sshd has sent its first "
    "line; logged in is when a command has run. Before the first round hugepages are there, the "
    "image is in the page cache, bytecode is compiled, and each program has run once, without a "
    "guest. `up`'s steps are what it says of itself (`up --json`), and its interpreter is what the "
    "process took before the first and after the last of them."
)
_MEANING = f"""\
**The aim is {AIM:.2f} × QEMU by hand until SSH greets. In the virtual host it was not reached so \
far**; the row says whether it was in this run. The bound of {MOST_OF_BARE} is there to show a \
regression, and is no promise.

Read the rows *the guest's CPU runs* and *from there to SSH's greeting* together: they split each \
figure in two. What `up` adds lies in the first; in the second all three boot the same guest, of \
the same disk, seed, kernel and devices, and a difference there is chance, or the machine that \
libvirt builds beside ours. The host's CPU is emulated: what runs in user space takes 10 to 20 \
times what it takes on a real one, and Python and libvirt's helpers are such things, while the \
guest's own boot is slowed down otherwise. So the shares are what is to be read here, and neither \
seconds nor ratios are those of a real host, where it was not measured.

What libvirt does when it starts a domain with a card, once read from its debug log in the \
virtual host (22 November 2026, its START step between 13 and 22 s):

- about 5 s are AppArmor: virt-aa-helper and apparmor_parser run seven times, 0.7 s each, once \
for the domain's profile and once more for each thing that QEMU is then let have (the domain's \
folder, that of its channels, the hugepages, the master key, /dev/net/tun, /dev/userfaultfd);
- 3 to 12 s are QEMU itself, which fills the guest's memory and makes its devices: QEMU by hand \
has that as well;
- 2 to 3 s are about 450 `qom-get`, by which libvirt compares the CPU that the guest has got \
with the one that it asked for.

virt-install has all of it too. vfio-kit's own are the steps before that one, and its interpreter; \
the last rows show how much of that is the start of Python and the reading of the host."""


BENCHMARK = InLab(
    name="up",
    title="up against QEMU by hand and against virt-install",
    runs=3,
    method=_METHOD,
    meaning=_MEANING,
    rows=rows,
)
