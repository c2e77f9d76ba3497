"""Commands timed as an operator would see them: a process from its start to its end."""

import os
import shlex
import statistics
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A command run several times: seconds of wall clock, and the most memory of any run."""

    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        return f"{min(self.seconds) * 1000:.0f}-{max(self.seconds) * 1000:.0f}"


def python(*arguments: str) -> list[str]:
    """The interpreter that runs this, with these arguments."""
    return [sys.executable, *arguments]


def measure(command: list[str], runs: int, *, warm: int = 1) -> Measured:
    """Runs it `warm` times unseen, then `runs` times; its output is thrown away.

    Bytecode is kept between the runs, as that of an installed package is.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds, peak = [], 0
    for number in range(warm + runs):
        begin = time.perf_counter()
        child = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        _, status, usage = os.wait4(child, 0)
        if status != 0:
            raise SystemExit(f"it failed, so it was not measured: {shlex.join(command)}")
        if number >= warm:
            seconds.append(time.perf_counter() - begin)
            peak = max(peak, usage.ru_maxrss)  # KiB
    return Measured(tuple(seconds), peak / 1024)
