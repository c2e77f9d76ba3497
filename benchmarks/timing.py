"""Ways of doing something, timed in turns; commands as an operator sees them, begin to end."""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

_PEAK = """
import atexit, sys
from pathlib import Path
file = Path(sys.argv.pop(1))
def note():
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    file.write_text(status.split()[0])
atexit.register(note)
sys.argv[0] = "vfio-kit"
from vfio_kit.cli import main
main()
"""


def in_turns(
    ways: Mapping[str, Callable[[], Found]], runs: int, *, warm: int = 1
) -> dict[str, tuple[Found, ...]]:
    """What each way gave in each of its runs, after `warm` rounds that are not counted.

    Each round takes every way once and begins with another one, so that what the machine does
    besides, and what a way leaves for the next (caches), meets all of them alike.
    """
    found: dict[str, list[Found]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(warm + runs):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            result = ways[name]()
            if number >= warm:
                found[name].append(result)
    return {name: tuple(results) for name, results in found.items()}


def commands_in_turns(commands: Mapping[str, list[str]], runs: int) -> dict[str, tuple[float, ...]]:
    """The seconds of each command's runs, by its name."""
    return in_turns({name: _runner(command) for name, command in commands.items()}, runs)


def _runner(command: list[str]) -> Callable[[], float]:
    return lambda: run(command)


def run(command: list[str]) -> float:
    """Seconds from its start to its end; its output is thrown away. SystemExit where it fails.

    Bytecode is kept between the runs, as that of an installed package is.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    child = os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        raise SystemExit(f"it failed, so it was not measured: {shlex.join(command)}")
    return round(seconds, 5)


def peak_mib(*arguments: str) -> float:
    """The most memory that `vfio-kit` with these arguments has, in a run of its own.

    By its own VmHWM (proc_pid_status(5)): ru_maxrss counts what this process had before the exec.
    """
    with folder() as place:
        file = place / "peak"
        run(python("-c", _PEAK, str(file), *arguments))
        return int(file.read_text()) / 1024


@contextmanager
def folder() -> Iterator[Path]:
    """One in memory where this machine has a place for it, as sysfs is; gone at the end."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vfio-kit-", dir=place) as name:
        yield Path(name)


def python(*arguments: str) -> list[str]:
    """The interpreter that runs this, with these arguments."""
    return [sys.executable, *arguments]
