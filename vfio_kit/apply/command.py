"""The one door to other programs: a failure says what was run, ready to be pasted into a shell."""

import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_kit.errors import HypervisorError

_DETAILS = logging.getLogger(__name__)
_WRITE = """
import sys
try:
    with open(sys.argv[1], "w") as file:
        file.write(sys.argv[2])
except OSError as error:
    sys.exit(error.errno)
"""
_left: "list[subprocess.Popen[bytes]]" = []
"""Writers that hang in the kernel."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; `status` is below zero where a signal ended it."""

    status: int
    stdout: str
    stderr: str


def ask(argv: Sequence[str], *, timeout: float = 120) -> Done:
    """Runs a program whose exit status is an answer; HypervisorError where it did not end."""
    begin = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise HypervisorError(
            f"the program {argv[0]} is missing",
            "on Debian and Ubuntu: apt-get install qemu-utils",
        ) from None
    except subprocess.TimeoutExpired:
        raise HypervisorError(
            f"{argv[0]} did not end within {timeout:.0f} s", f"it was: {shlex.join(argv)}"
        ) from None
    took = time.monotonic() - begin
    _DETAILS.debug("ran %s: exit status %d, %.1f s", shlex.join(argv), done.returncode, took)
    return Done(done.returncode, done.stdout, done.stderr)


def write_elsewhere(path: Path, text: str, seconds: float) -> str | None:
    """Writes into a file of sysfs by another process; what went wrong, or None.

    A driver that does not let go of its device holds whoever asks for that in the kernel, where no
    signal reaches them: this process goes on after so many seconds, and that one when it can.
    """
    argv = [sys.executable, "-I", "-S", "-c", _WRITE, str(path), text]
    _DETAILS.debug("writing %r to %s", text, path)
    writer = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        status = writer.wait(seconds)
    except subprocess.TimeoutExpired:
        _left[:] = [*(other for other in _left if other.poll() is None), writer]
        return f"it has not ended within {seconds:.0f} s (process {writer.pid} hangs in the kernel)"
    return os.strerror(status) if status > 0 else None if status == 0 else "its writer was killed"


def run(argv: Sequence[str], *, timeout: float = 120) -> str:
    """Runs a program and returns its standard output; raises HypervisorError where it fails."""
    done = ask(argv, timeout=timeout)
    if done.status:
        said = (done.stderr or done.stdout).strip()
        raise HypervisorError(
            f"{argv[0]} failed (exit {done.status}): {said}", f"it was: {shlex.join(argv)}"
        )
    return done.stdout
