"""Programs that judge what we write; a missing one fails the test, for a skipped proof is none."""

import shutil
import subprocess
from pathlib import Path

_PACKAGES = {
    "crontab": "cron",
    "cvtsudoers": "sudo",
    "node": "nodejs",
    "visudo": "sudo",
    "virt-xml-validate": "libvirt-clients",
    "shellcheck": "shellcheck",
    "systemd-analyze": "systemd",
    "bash": "bash",
    "gcc": "gcc libc6-dev",
    "xorriso": "xorriso",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def run(program: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs one of the programs above; what it says is in the result."""
    assert shutil.which(program), f"{program} is missing: apt-get install {_PACKAGES[program]}"
    return subprocess.run(
        [program, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        timeout=60,
    )


def accepts(program: str, *arguments: str | Path, stdin: str = "") -> None:
    """Fails, with the program's own words, where it does not accept what it is given."""
    done = run(program, *arguments, stdin=stdin)
    assert done.returncode == 0, f"{program} refuses:\n{done.stdout}{done.stderr}"
