"""The one door to other programs: a failure says what was run, ready to be pasted into a shell."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from vfio_kit.errors import HypervisorError


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; `status` is below zero where a signal ended it."""

    status: int
    stdout: str
    stderr: str


def ask(argv: Sequence[str], *, timeout: float = 120) -> Done:
    """Runs a program whose exit status is an answer; HypervisorError where it did not end."""
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
    return Done(done.returncode, done.stdout, done.stderr)


def run(argv: Sequence[str], *, timeout: float = 120) -> str:
    """Runs a program and returns its standard output; raises HypervisorError where it fails."""
    done = ask(argv, timeout=timeout)
    if done.status:
        said = (done.stderr or done.stdout).strip()
        raise HypervisorError(
            f"{argv[0]} failed (exit {done.status}): {said}", f"it was: {shlex.join(argv)}"
        )
    return done.stdout
