"""Processes that outlive the command which started them, known by a file with their id."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

_GRACE = 5.0


def start(argv: Sequence[str], pid_file: Path, output: Path, fds: Iterable[int] = ()) -> None:
    """Start a process in its own session, with `output` for stdout and stderr."""
    with output.open("w") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(fds),
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
    pid_file.write_text(f"{process.pid} {_started(process.pid)}")
    # It is to outlive this object, which else warns when it goes; `_reap` waits for the process.
    process.returncode = 0


def running(pid_file: Path) -> int | None:
    """Return the id of the process if it lives (and is the one that was started)."""
    try:
        pid, started = pid_file.read_text().split()
        _reap(int(pid))
        return int(pid) if _started(int(pid)) == started else None
    except (OSError, ValueError):
        return None


def stop(pid_file: Path, *, grace: float = _GRACE) -> None:
    """End the process: ask, wait `grace` seconds, insist."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        pid = running(pid_file)
        if pid is None:
            break
        os.kill(pid, sign)
        wait_gone(pid_file, grace)
    pid_file.unlink(missing_ok=True)


def wait_gone(pid_file: Path, limit: float) -> bool:
    """Wait up to `limit` seconds for the end of the process."""
    end = time.monotonic() + limit
    while running(pid_file) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def module_argv(module: str, *words: str) -> list[str]:
    """Return the argv that runs a module of this package with this Python."""
    return [sys.executable, "-m", f"tests.lab.{module}", *words]


def _started(pid: int) -> str:
    """Return the start time of a living process (proc(5): field 22), which tells ids reused."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # not our child: somebody else started it
        os.waitpid(pid, os.WNOHANG)
