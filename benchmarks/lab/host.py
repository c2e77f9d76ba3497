"""The virtual host for benchmarks: booted once, and afresh after a fault of the emulator."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

from benchmarks.row import InLab, Row
from benchmarks.setting import Computer, computer
from tests.lab import images, machine, product
from tests.lab.faults import LabFault
from tests.lab.labhost import LabHost
from tests.lab.paths import cache_dir
from tests.lab.session import MOST_REPETITIONS, Lab
from tests.lab.topologies import TOPOLOGIES

TOPOLOGY = "m4000-isolated"
Say = Callable[[str], None]


def say(line: str) -> None:
    print(f"{time.strftime('%T')} {line}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class VirtualHost:
    """Boots when the first benchmark asks for it."""

    lab: Lab

    def rows(self, benchmark: InLab, runs: int) -> tuple[tuple[Row, ...], Computer]:
        """Measures, again from the beginning where the emulator is at fault; and the host itself.

        Raises LabFault where it is at fault each time, LabError where another session has the lab.
        """
        for attempt in range(1 + MOST_REPETITIONS):
            try:
                with redirect_stdout(sys.stderr):  # what is printed there is no result
                    host = self._host()
                    return tuple(benchmark.rows(host, runs)), _computer(host)
            except LabFault as fault:
                self.lab.stop()
                if attempt == MOST_REPETITIONS:
                    raise
                say(f"lab fault, {benchmark.name} is measured again: {fault}")
        raise AssertionError

    def _host(self) -> LabHost:
        self.lab.bring_up(TOPOLOGY)
        host = LabHost(TOPOLOGIES[TOPOLOGY], say)
        product.installed_on(host)
        product.compiled_on(host)
        return host


@contextmanager
def virtual_host() -> Iterator[VirtualHost]:
    """Leaves nothing running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the host would be left behind
    lab = Lab(machine, images.build, say, cache_dir() / "session.lock")
    try:
        yield VirtualHost(lab)
    finally:
        lab.close()


def _computer(host: LabHost) -> Computer:
    def read(command: str) -> str:
        return host.run(command).stdout.strip()

    return computer(
        read("cat /proc/cpuinfo"),
        read("cat /proc/meminfo"),
        read("cat /etc/os-release"),
        int(read("nproc")),
        read("uname -r"),
        read("python3 --version").removeprefix("Python "),
        read("systemd-detect-virt --vm || true"),
    )
