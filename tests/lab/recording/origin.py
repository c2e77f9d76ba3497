"""Of which commit, and on what machine, something was made."""

import os
import subprocess
from pathlib import Path

from tests.lab.product import CHECKOUT


def commit(checkout: Path = CHECKOUT) -> str:
    """A checkout's commit, in short; with a mark where files were changed since."""
    argv = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def cpus() -> str:
    """The machine's CPUs and system, for people."""
    model = _value("/proc/cpuinfo", "model name", ":")
    return f"{os.cpu_count()} CPUs ({model}), {_value('/etc/os-release', 'PRETTY_NAME', '=')}"


def _value(path: str, key: str, separator: str) -> str:
    rows = (line.partition(separator) for line in Path(path).read_text().splitlines())
    return next(value.strip(' "') for name, _, value in rows if name.strip() == key)
