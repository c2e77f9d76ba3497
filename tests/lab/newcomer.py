"""README, tried as a new user would: run by scripts/try-readme.

A fresh Debian with nothing installed is made in a folder, a clone of the checkout is put there, and
every command of README's blocks that are marked `<!-- run: readme -->` is run in their order, as
written, in one shell.  docs/newcomer.md has what came of it.  All of that happens in namespaces of
mounts and processes, which the kernel ends with the first process in them: whatever breaks this
off, no mount and no process is left, and the folder is removed by the next run at the latest.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .disk import run
from .images import _mirror, say_to_stderr
from .paths import cache_dir
from .product import CHECKOUT
from .recording.origin import commit, cpus

SUITE, SYSTEM = "bookworm", "Debian 12"
PAGE = CHECKOUT / "docs" / "newcomer.md"
_HOME = "root/vfio-kit"
_STEPS = "steps"
_BUNDLE = "etc/certificates-of-the-machine.crt"
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
_NETWORK = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
_BLOCK = re.compile(
    r"^<!-- run: readme(?P<words>[^>]*)-->\n+^```(?:sh|bash|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

# Run as the first process of the namespaces; $1 is the folder of the system, the rest its command.
_ENTER = """set -eu
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
for node in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 0666 "$root/dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 0666 "$root/dev/tty" c 5 0
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
  ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done
hostname newcomer
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of README, and what came of it; status: None where it was not run."""

    command: str
    status: int | None = None
    seconds: float = 0.0


def commands(readme: str) -> Iterator[str]:
    """Yield the commands of README's blocks for newcomers; lines that a backslash joins are one."""
    for block in _BLOCK.finditer(readme):
        joined = re.sub(r"\\\n\s*", "", block["text"])
        for line in joined.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()


def main() -> int:
    """Make the system, try README there, write the page; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    folder = cache_dir().parent / "newcomer"
    _remove(folder)
    try:
        root = folder / "root"
        folder.mkdir(parents=True)
        begin = time.monotonic()
        _make_system(root)
        made = time.monotonic() - begin
        before = _gigabytes(root)
        wanted = list(commands((root / _HOME / "README.md").read_text()))
        tried = commit(root / _HOME)
        say_to_stderr(f"{SYSTEM} made in {made:.0f} s; {len(wanted)} commands to try")
        _try(root, wanted)
        steps = _outcome(wanted, (root / _STEPS).read_text())
        grown = _gigabytes(root) - before
    finally:
        _remove(folder)
    page = _page(steps, tried, made, grown)
    PAGE.write_text(page)
    print(page)
    return 0 if all(step.status == 0 for step in steps) else 1


def _make_system(root: Path) -> None:
    """A minimal Debian that reaches what this machine reaches, and a clone of the checkout."""
    argv = ["mmdebstrap", "--mode=root", "--quiet", "--variant=minbase"]
    argv += ["--aptopt=Acquire::Check-Valid-Until false"]
    run([*argv, SUITE, root, f"deb {_mirror()} {SUITE} main"])
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "etc/hosts").write_text("127.0.0.1 localhost newcomer\n")
    for name in _CERTIFICATES:
        if os.environ.get(name):
            shutil.copyfile(os.environ[name], root / _BUNDLE)
    run(["git", "clone", "-q", "--no-local", CHECKOUT, root / _HOME])


def _try(root: Path, wanted: list[str]) -> None:
    """Run the commands; what they print is shown as it comes."""
    (root / "try").write_text(_script(wanted))
    environment = {
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        **{name: os.environ[name] for name in _NETWORK if name in os.environ},
        **{name: f"/{_BUNDLE}" for name in _CERTIFICATES if name in os.environ},
    }
    inside = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    # Each dies with the one that started it: this process, unshare, the first in the namespaces.
    unshare = ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child"]
    unshare += ["--mount", "--pid", "--ipc", "--uts", "--propagation", "private"]
    subprocess.run(
        [*unshare, "bash", "-c", _ENTER, "enter", str(root), *inside, "bash", "/try"],
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _script(wanted: list[str]) -> str:
    """One shell for all, which the first failure ends; descriptor 9 says what ended, and when."""
    lines = [f"exec 9> /{_STEPS}", f"cd /{_HOME}"]
    for number, command in enumerate(wanted):
        lines += [
            f"printf '\\n%s\\n' {shlex.quote('newcomer# ' + command)}",
            "begin=$EPOCHREALTIME",
            command,
            f'echo "{number} $? $begin $EPOCHREALTIME" >&9',
            f'grep -q "^{number} 0 " /{_STEPS} || exit',
        ]
    return "\n".join(lines) + "\n"


def _outcome(wanted: list[str], noted: str) -> list[Step]:
    found = {}
    for line in noted.splitlines():
        number, status, begin, end = line.split()
        found[int(number)] = (int(status), float(end) - float(begin))
    return [Step(command, *found.get(i, (None, 0.0))) for i, command in enumerate(wanted)]


def _page(steps: list[Step], tried: str, made: float, grown: float) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    total = sum(step.seconds for step in steps)
    verdict = "Every step works as written." if all(s.status == 0 for s in steps) else "It FAILED."
    lines = [
        "# README, tried as a new user would",
        "",
        f"Written by `scripts/try-readme`. {now} UTC, commit {tried}, {cpus()}.",
        "",
        f"A fresh, minimal {SYSTEM} with nothing installed (made in {made:.0f} s, not counted): as "
        "root, in a clone of the checkout, the commands of README in their order, in one shell. "
        f"{verdict}",
        "",
        "| step | exit status | time |",
        "|---|---|---|",
        *(_line(step) for step in steps),
        f"| in all | | {total:.0f} s |",
        "",
        f"At the end {grown:.1f} GB more lay on the disk than before the first step.",
        "",
        "It is a chroot with processes and mounts of its own: kernel, network and clock are the "
        "machine's, and there is no systemd and no GPU. What needs either (libvirt's daemon, `up`) "
        "is run by `scripts/demo`, in the emulated host that it boots there, and by the tests of "
        "the virtual host. Emulation by TCG: a factor of five between machines is normal.",
        "",
    ]
    return "\n".join(lines)


def _line(step: Step) -> str:
    command = step.command.replace("|", "\\|")
    if step.status is None:
        return f"| `{command}` | not run | |"
    return f"| `{command}` | {step.status} | {step.seconds:.1f} s |"


def _gigabytes(root: Path) -> float:
    argv = ["du", "-sx", "--block-size=1M", str(root)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[0]) / 1000


def _remove(folder: Path) -> None:
    run(["rm", "-rf", "--one-file-system", folder])


if __name__ == "__main__":
    sys.exit(main())
