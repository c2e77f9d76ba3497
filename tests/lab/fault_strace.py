"""Runs on the lab's host: strace stops a program at a chosen system call, or lets the call fail.

strace holds the call (its `delay_enter`), and what is to happen meanwhile happens.  With
`--seccomp-bpf` all other calls cost nothing; without, `up` takes eight times as long here.  But a
signal that strace gives at a seccomp stop is lost (Linux 6.12), so signals are sent from here.  A
program that is killed at a held call has not made it.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import compile as pattern

CALLS = {"write": 1, "fsync": 74, "rename": 82, "mkdir": 83, "rmdir": 84, "unlink": 87}
CALLS |= {"symlink": 88, "chmod": 90}
"""Numbers of the x86-64 system calls with which vfio-kit changes something by itself."""
LIMIT = 900.0
_WATCHED = ("/var/lib/vfio-kit/", "/var/lib/libvirt/images/", "/sys/", "/etc/systemd/")
_LOG = Path("/root/faults/strace.log")
_LINE = pattern(r'(?P<pid>\d+) +(?P<call>\w+)\((?:\d+<(?P<open>[^>]*)>|"(?P<path>[^"]*)")')
_BASE = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-o", str(_LOG))


@dataclass(frozen=True, slots=True)
class Point:
    """The nth time that the program makes this system call on this file."""

    call: str
    path: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.call} {self.nth} of {self.path}"


class Ended(Exception):
    """The program came to its end without making the call."""


def recording(argv: Sequence[str]) -> list[str]:
    """The command that runs a program and records its calls for `points_in_record`."""
    return [*_BASE, "-y", "-s", "16", "-e", f"trace=execve,{','.join(CALLS)}", *argv]


def points_in_record(journal: Path, last: int) -> Iterator[Point]:
    """Where the program changed something, until the journal's line number `last` is synced.

    Killed at a change, it has made all that come before.  So an fsync is left out, but the last:
    who is killed there leaves what he leaves who is killed at the next change.
    """
    lines = _LOG.read_text(errors="replace").splitlines()
    main_pid = lines[0].split()[0]
    counted: Counter[tuple[str, str]] = Counter()
    for line in lines:
        found = _LINE.match(line)
        if not found or found["pid"] != main_pid:
            continue
        call, path = found["call"], found["open"] or found["path"]
        if call not in CALLS or not path.startswith(_WATCHED):
            continue
        counted[call, path] += 1
        if counted["fsync", str(journal)] >= last:
            yield Point(call, path, last)
            return
        if " = -1 E" not in line and call != "fsync":
            yield Point(call, path, counted[call, path])


@contextmanager
def held(
    argv: Sequence[str], point: Point, seconds: float, said: Path
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The program (its PID) and its tracer, so long before it makes this call; else Ended."""
    inject = f"inject={point.call}:delay_enter={seconds}s:when={point.nth}"
    with said.open("wb") as output:
        tracer = subprocess.Popen(
            [*_tracing(point), "-e", inject, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait_for_stop(tracer, CALLS[point.call]), tracer
    finally:
        tracer.wait(LIMIT)


def killed(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    """Waits until the program, which was sent SIGKILL, is gone; its tracer goes first.

    The tracer would have it wait at its exit until the delay is over.
    """
    tracer.kill()
    while text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"]):
        time.sleep(0.02)


def with_error(argv: Sequence[str], point: Point, error: str) -> list[str]:
    """The command that runs a program whose call fails with this error."""
    inject = f"inject={point.call}:error={error}:when={point.nth}"
    return [*_tracing(point), "-e", inject, *argv]


def was_injected() -> bool:
    """Whether the program that ran last met its error."""
    return "(INJECTED)" in text(_LOG)


def text(path: Path) -> str:
    """What a file holds; nothing where it is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _tracing(point: Point) -> list[str]:
    return [*_BASE, "-P", point.path, "-e", f"trace={point.call}"]


def _wait_for_stop(tracer: subprocess.Popen[bytes], call: int) -> int:
    """Waits until the program stands at this call for a tenth of a second; returns its PID."""
    children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children")
    seen, times = "", 0
    while tracer.poll() is None:
        for pid in text(children).split():
            state = text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            now = f"{pid} {text(Path(f'/proc/{pid}/syscall'))}"
            if state[:1] != ["t"] or now.split()[1:2] != [str(call)]:
                continue
            times = times + 1 if now == seen else 0
            seen = now
            if times >= 5:
                return int(pid)
        time.sleep(0.02)
    raise Ended(f"it ended with {tracer.returncode}")
