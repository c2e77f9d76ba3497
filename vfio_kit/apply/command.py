"""The one door to other programs: a failure says what was run, ready to be pasted into a shell."""

import shlex
import subprocess
from collections.abc import Sequence

from vfio_kit.errors import HypervisorError


def run(argv: Sequence[str], *, timeout: float = 120) -> str:
    """Runs a program and returns its standard output; raises HypervisorError where it fails."""
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
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise HypervisorError(
            f"{argv[0]} failed (exit {done.returncode}): {said}", f"it was: {shlex.join(argv)}"
        )
    return done.stdout
