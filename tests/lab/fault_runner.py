"""Runs on the lab's host: breaks `vfio-kit up` and `down` off, mends, and compares the host.

    python3 -m tests.lab.fault_runner ORDERS.json     # one JSON line for each fault, on stdout

It has only fault_strace.py and hoststate.py beside it, and the standard library.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .fault_strace import (
    LIMIT,
    Ended,
    Point,
    held,
    killed,
    points_in_record,
    recording,
    text,
    was_injected,
    with_error,
)
from .hoststate import RECORDS, SNAPSHOT, differences

NAME = "x"
FOLDER = Path("/var/lib/vfio-kit") / NAME
JOURNAL = FOLDER / "journal.jsonl"
_SAID = Path("/root/faults/said")
_CALIBRATION = Path("/root/faults/calibration.json")


@dataclass
class Orders:
    """What to do.  kind: see `_KINDS`; up: the command; mends: how, in turn.

    what is a signal, several of them joined by `+`, an error (`ENOSPC`), or `-` for nothing.  A
    point is a call, a path and a number; the path `@STEP PHASE` is the journal where that line is
    written or synced, `~WORD` the first path with this word, as calibration has found them.  The
    shell commands run while the program is held, and before the mending.
    """

    kind: str
    up: list[str]
    what: str = "SIGKILL"
    mends: list[str] = field(default_factory=lambda: ["down"])
    points: list[tuple[str, str, int]] = field(default_factory=list)
    line: str = "start begin"
    waits: list[float] = field(default_factory=list)
    meanwhile: str = ""
    afterwards: str = ""
    hold: float = 60.0
    torn: bool = False
    first: int = 0
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a fault.

    where   the journal's last whole line when it struck
    status  of the program that met it; below zero: ended by this signal
    left    what differs from the host before, and what went wrong in mending
    """

    fault: str
    where: str
    status: int
    mended_by: tuple[str, ...]
    seconds: float
    left: tuple[str, ...]
    said: str = ""

    @property
    def survived(self) -> bool:
        """Whether the host is as it was."""
        return not self.left


def main() -> None:
    """Carry out the orders."""
    orders = Orders(**json.loads(Path(sys.argv[1]).read_text()))
    for result in _KINDS[orders.kind](orders, snapshot()):
        print(json.dumps({**asdict(result), "survived": result.survived}), flush=True)


def plain(orders: Orders, before: str) -> Iterator[Result]:
    """An `up` that cannot come to its end; `what` says why."""
    begin = time.monotonic()
    status = run(orders.up).returncode
    yield judged(orders, orders.what, journal_says(), status, 0, before, begin)


def calibrate(orders: Orders, before: str) -> Iterator[Result]:
    """Finds every call with which an undisturbed `up` changes something, as far as the start.

    Its guest never answers, which is a fault, too; the rolling back is `down`'s work.
    """
    begin = time.monotonic()
    status = run(recording(orders.up)).returncode
    lines = steps_in_journal()
    points = points_in_record(JOURNAL, lines.index("start done") + 1)
    found = [(point.call, point.path, point.nth) for point in points]
    _CALIBRATION.write_text(json.dumps({"lines": lines, "points": found}))
    title = f"a guest that never answers; {len(found)} points found"
    yield judged(orders, title, journal_says(), status, 0, before, begin)


def at_points(orders: Orders, before: str) -> Iterator[Result]:
    """`up` meets `what` at each of the points; where none are given, at every one there is."""
    points = [resolved(point) for point in orders.points]
    if not points:
        points = [Point(*point) for point in json.loads(text(_CALIBRATION))["points"]]
    for number, point in enumerate(points[orders.first : orders.first + orders.most]):
        begin = time.monotonic()
        title = f"{orders.what} of up at {point}"
        try:
            status, where = strike(orders, orders.up, point)
        except Ended as error:
            mend("down", orders, before)
            yield Result(title, "", 0, (), 0, (f"never came there: {error}",), text(_SAID)[-800:])
            continue
        yield judged(orders, title, where, status, number, before, begin)


def resolved(point: tuple[str, str, int]) -> Point:
    """A point given by words becomes one given by path and number."""
    call, path, nth = point
    if path[0] not in "@~":
        return Point(call, path, nth)
    known = json.loads(text(_CALIBRATION))
    if path[0] == "@":
        return Point(call, str(JOURNAL), known["lines"].index(path[1:]) + 1)
    return next(Point(*one) for one in known["points"] if one[0] == call and path[1:] in one[1])


def strike(orders: Orders, argv: list[str], point: Point) -> tuple[int, str]:
    """Runs the program until it would make the call; returns its status and where it was hit."""
    if orders.what.startswith("E"):
        status = run(with_error(argv, point, orders.what)).returncode
        if not was_injected():
            raise Ended(f"it ended with {status}")
        return status, journal_says()
    with held(argv, point, orders.hold, _SAID) as (pid, tracer):
        where = journal_says()
        shell(orders.meanwhile)
        send(pid, orders.what)
        if orders.what.endswith("SIGKILL"):
            killed(pid, tracer)
        status = tracer.wait(LIMIT)
    if orders.torn:
        with JOURNAL.open("a") as stream:
            stream.write('{"version": 3, "time": 17953')
    return status, where


def in_the_middle(orders: Orders, before: str) -> Iterator[Result]:
    """`up` meets `what` so many seconds after a line has come into the journal."""
    for number, wait in enumerate(orders.waits):
        begin = time.monotonic()
        program = begun(orders.up)
        wait_for_line(orders.line, program)
        time.sleep(wait)
        where = journal_says()
        shell(orders.meanwhile)
        send(program.pid, orders.what)
        status = program.wait(LIMIT)
        what = f"{orders.what} of up" if orders.what != "-" else orders.meanwhile
        title = f"{what} {wait:g} s after {orders.line!r}"
        yield judged(orders, title, where, status, number, before, begin)


def chain(orders: Orders, before: str) -> Iterator[Result]:
    """A VM is taken down by commands that are killed at every boundary, one after the other:

    once when a step is undone and that is not written down, and once when it is.
    """
    begin = time.monotonic()
    program = begun(orders.up)
    wait_for_line("start done", program)
    send(program.pid, "SIGKILL")
    program.wait(LIMIT)
    kills: list[Result] = []
    nth, undone = 1, -1
    while len(kills) < orders.most:
        point = Point("fsync" if len(kills) % 2 else "write", str(JOURNAL), nth)
        try:
            command = "down" if len(kills) < 2 else orders.mends[0]  # repair ends what is begun
            status, where = strike(orders, ["vfio-kit", command, NAME], point)
        except Ended:
            break
        seconds = round(time.monotonic() - begin, 1)
        title = f"SIGKILL of {command} at {point}, going on with the last one's work"
        kills.append(Result(title, where, status, (), seconds, ()))
        if len(kills) % 2 == 0:  # a line that every one writes first would be met for ever
            now = sum(line.endswith("undone") for line in steps_in_journal())
            nth, undone = (nth + 1 if now == undone else 1), now
        begin = time.monotonic()
    last = judged(orders, "", "", 0, 0, before, begin)
    yield from (replace(kill, mended_by=last.mended_by, left=last.left) for kill in kills)


def judged(
    orders: Orders, fault: str, where: str, status: int, number: int, before: str, begin: float
) -> Result:
    """Mends the host and compares it with what it was."""
    said = text(_SAID)[-1500:]
    shell(orders.afterwards)
    mended, wrong = mend(orders.mends[number % len(orders.mends)], orders, before)
    left = [*wrong, *differences(before, snapshot())]
    if "Traceback" in said:
        left.append("vfio-kit ended with a traceback")
    seconds = round(time.monotonic() - begin, 1)
    return Result(fault, where, status, mended, seconds, tuple(left), said)


def mend(how: str, orders: Orders, before: str) -> tuple[tuple[str, ...], list[str]]:
    """What was run, where there was something to mend; and what of it went wrong."""
    if not FOLDER.exists():
        return (), []
    purge = f"test ! -e {FOLDER} || vfio-kit down {NAME} --purge"
    # The guest does not answer this time, either.
    first = {"up": f"{shlex.join(orders.up)}; test $? = 6", "repair": f"vfio-kit repair {NAME}"}
    commands = [first[how], purge] if how in first else [purge]
    wrong: list[str] = []
    for command in commands:
        status = run(["sh", "-c", command]).returncode
        if command == first["repair"] and status == 0:
            kept = "# records"  # by itself it leaves what is kept to be read, and nothing else
            wrong += differences(before.split(kept)[0], snapshot().split(kept)[0])
        elif status and not (command == first["repair"] and status == 3 and _runs()):
            wrong.append(f"{command} ended with {status}: {text(_SAID)[-600:]}")
    return tuple(commands), wrong


def _runs() -> bool:
    """Whether the VM runs: then `repair` leaves it to the operator, with exit status 3."""
    return NAME in run(["virsh", "-q", "list", "--name"]).stdout.split()


def snapshot() -> str:
    """Return what must be equal."""
    return run(["sh", "-c", SNAPSHOT + RECORDS]).stdout


def begun(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a program."""
    with _SAID.open("wb") as said:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and keep what it said."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    print(f"{shlex.join(argv)[:100]!r}: {done.returncode}", file=sys.stderr, flush=True)
    _SAID.write_text(done.stdout[-4000:] + done.stderr[-4000:])
    return done


def shell(command: str) -> None:
    """Run a shell command, if there is one, that must succeed."""
    if command:
        subprocess.run(["sh", "-c", command], check=True, stdout=sys.stderr)


def send(pid: int, what: str) -> None:
    """Send signals, a second apart."""
    for number, name in enumerate(what.split("+")):
        time.sleep(min(number, 1))
        if name != "-":
            os.kill(pid, signal.Signals[name])


def wait_for_line(line: str, program: subprocess.Popen[bytes]) -> None:
    """Wait until the journal has it; else Ended."""
    while line not in steps_in_journal():
        if program.poll() is not None:
            raise Ended(f"it ended with {program.returncode} before {line!r}: {text(_SAID)[-800:]}")
        time.sleep(0.05)


def steps_in_journal() -> list[str]:
    """`step phase` of every whole line."""
    whole = text(JOURNAL).split("\n")[:-1]
    return [f"{e.get('step', '')} {e.get('phase', '')}".strip() for e in map(json.loads, whole)]


def journal_says() -> str:
    """Return its last whole line."""
    return (steps_in_journal() or ["nothing written"])[-1]


_KINDS = {
    "plain": plain,
    "calibrate": calibrate,
    "points": at_points,
    "middle": in_the_middle,
    "chain": chain,
}

if __name__ == "__main__":
    main()
