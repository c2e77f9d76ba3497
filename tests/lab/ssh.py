"""SSH to the lab's host over one connection that is kept open.

A handshake costs the emulated host seconds of CPU time, so `open_master` pays for it once and
every command after that goes through its socket (ControlMaster).
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .paths import key_file, run_dir

HANDSHAKE_LIMIT = 120
UNREACHABLE = 255  # ssh's exit status where ssh itself failed


def options(user: str) -> list[str]:
    """Return the options that ssh and scp have in common."""
    settings = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "60",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "8",
        "ControlPath": str(control_socket(user)),
    }
    words = ["-F", "none", "-i", str(key_file())]
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    return words


def control_socket(user: str) -> Path:
    """Return where the kept connection of `user` has its socket."""
    return run_dir() / f"ssh.{user}"


def open_master(port: int, user: str) -> None:
    """Open the connection that later commands share, unless it is open."""
    target = f"{user}@127.0.0.1"
    check = ["ssh", *options(user), "-O", "check", "-p", str(port), target]
    if control_socket(user).exists() and not _quiet(check):
        return
    control_socket(user).unlink(missing_ok=True)
    with (run_dir() / "ssh.log").open("a") as log:
        # -f comes back once the login is done; the rest stays and must not hold our output
        subprocess.run(
            ["ssh", *options(user), "-M", "-N", "-f", "-p", str(port), target],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=HANDSHAKE_LIMIT,
            check=True,
        )


def close_masters() -> None:
    """Close all kept connections."""
    for path in run_dir().glob("ssh.*"):
        if path.is_socket():
            _quiet(["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "lab"])
            path.unlink(missing_ok=True)


def command(port: int, user: str, words: Sequence[str]) -> list[str]:
    """Return the argv that runs `words` on the host, joined with spaces as ssh does."""
    return ["ssh", *options(user), "-p", str(port), f"{user}@127.0.0.1", *words]


def copy(port: int, sources: Sequence[str], destination: str) -> list[str]:
    """Return the argv of scp; a path on the host begins with a colon."""
    remote = "root@127.0.0.1"
    paths = [remote + p if p.startswith(":") else p for p in (*sources, destination)]
    return ["scp", "-q", "-r", "-p", *options("root"), "-P", str(port), *paths]


def _quiet(argv: Sequence[str]) -> int:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return done.returncode
