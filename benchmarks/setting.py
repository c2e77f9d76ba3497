"""Where and when something was measured: date, commit, machine."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
_VIRTUAL = {
    "none": "no virtual machine",
    "qemu": "a virtual machine (QEMU, its CPU emulated: TCG)",
    "kvm": "a virtual machine (KVM)",
}


@dataclass(frozen=True, slots=True)
class Computer:
    """A machine in words and numbers; virtual: whether it is a virtual machine, and which."""

    cpu: str
    cores: int
    memory_mib: int
    system: str
    kernel: str
    python: str
    virtual: str

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} CPUs, {self.memory_mib / 1024:.0f} GiB of memory, "
            f"{self.virtual}; {self.system}, Linux {self.kernel}, Python {self.python}"
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """A run of benchmarks.

    date   of its begin, UTC, as 2026-03-01 02:59.
    load   how many processes wanted a CPU in the minute before (proc_loadavg(5)): more than a few
           tenths make every figure doubtful.
    host   the virtual host on the machine; None where nothing ran there.
    """

    date: str
    commit: str
    load: float
    machine: Computer
    host: Computer | None = None


def setting() -> Setting:
    """That of a run which begins now."""
    now = datetime.now(UTC).strftime("%F %R")
    return Setting(now, commit(), round(os.getloadavg()[0], 2), this_machine())


def commit() -> str:
    """The checkout's, short; "and changes" where files differ from it."""
    head = _said("git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD")
    changed = _said("git", "-C", str(CHECKOUT), "status", "--porcelain", "-uno")
    return f"{head} and changes" if changed else head or "unknown"


def this_machine() -> Computer:
    return computer(
        Path("/proc/cpuinfo").read_text(),
        Path("/proc/meminfo").read_text(),
        Path("/etc/os-release").read_text(),
        len(os.sched_getaffinity(0)),
        platform.release(),
        platform.python_version(),
        _said("systemd-detect-virt", "--vm"),
    )


def computer(
    cpuinfo: str, meminfo: str, release: str, cores: int, kernel: str, python: str, virtual: str
) -> Computer:
    """From the texts of /proc and /etc/os-release, and what systemd-detect-virt says."""
    name = _value(cpuinfo, "model name", ":") or platform.machine()
    return Computer(
        cpu=name,
        cores=cores,
        memory_mib=int((_value(meminfo, "MemTotal", ":") or "0").split()[0]) >> 10,
        system=_value(release, "PRETTY_NAME", "=").strip('"') or "an unknown system",
        kernel=kernel,
        python=python,
        virtual=_VIRTUAL.get(virtual, f"a virtual machine ({virtual or 'of an unknown kind'})"),
    )


def _value(text: str, key: str, sign: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(sign)
        if name.strip() == key:
            return value.strip()
    return ""


def _said(*command: str) -> str:
    """Its output; "" where it is missing or fails (systemd-detect-virt: "none" is status 1)."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()
