"""The lab's host as a test sees it: run, put, get, fault, reboot, cut_power."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import machine, ssh
from .machine import Say
from .paths import run_dir
from .topologies import Topology

COPY_LIMIT = 300.0
_TAIL = 4000


@dataclass(frozen=True, slots=True)
class LabHost:
    """The running host.  Where the emulator is to blame for a failure, LabFault is raised."""

    topology: Topology
    say: Say

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        timeout: float = 120.0,
        user: str = "root",
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host and return its output and exit status.

        AssertionError where it does not end in time or, with `check`, not with 0.
        """
        argv = ssh.command(machine.state().port, user, [command])
        shown = f"{user}@gpuhost: {command}"
        done = _carry_out(argv, shown, timeout, user, stdin)
        if check:
            _assert_success(done, shown)
        return done

    def put(self, source: Path, destination: str) -> None:
        """Copy a file or folder to the host; a folder replaces what is at `destination`."""
        if source.is_dir():
            self.run(f"rm -rf -- {destination}")
        self._copy([str(source)], f":{destination}")

    def get(self, source: str, destination: Path) -> None:
        """Copy a file or folder from the host."""
        self._copy([f":{source}"], str(destination))

    def fault(self, name: str, *, on: bool) -> None:
        """Let a function of a card fall off the bus, or come back."""
        machine.set_fault(name, on=on)

    def reboot(self) -> None:
        """Reboot the host and return once it has settled."""
        machine.reboot(self.say)

    def cut_power(self) -> None:
        """Cut the host's power, give it back, and return once it has settled."""
        machine.cut_power(self.say)

    def _copy(self, sources: Sequence[str], destination: str) -> None:
        argv = ssh.copy(machine.state().port, sources, destination)
        shown = f"copy {' '.join(sources)} to {destination}"
        _assert_success(_carry_out(argv, shown, COPY_LIMIT, "root", None), shown)


def _carry_out(
    argv: Sequence[str], shown: str, timeout: float, user: str, stdin: str | None
) -> subprocess.CompletedProcess[str]:
    try:
        ssh.open_master(machine.state().port, user)
        done = subprocess.run(
            argv,
            input=stdin or "",
            text=True,
            errors="replace",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        machine.check_health()
        output = "".join(_text(part) for part in (expired.stdout, expired.stderr))
        limit = f"{expired.timeout:.0f} s"
        raise AssertionError(f"{shown}\nhas not ended after {limit}:\n{output[-_TAIL:]}") from None
    except subprocess.CalledProcessError:
        machine.check_health()
        log = run_dir() / "ssh.log"
        raise AssertionError(f"{shown}\nno SSH connection, though QEMU runs: see {log}") from None
    if done.returncode == ssh.UNREACHABLE:
        machine.check_health()
    return done


def _assert_success(done: subprocess.CompletedProcess[str], shown: str) -> None:
    if done.returncode:
        machine.check_health()
        raise AssertionError(
            f"{shown}\nended with {done.returncode}\n"
            f"stdout: {done.stdout[-_TAIL:]}\nstderr: {done.stderr[-_TAIL:]}"
        )


def _text(part: str | bytes | None) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part or ""
