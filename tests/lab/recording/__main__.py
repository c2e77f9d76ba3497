"""`python -m tests.lab.recording`: records a session in the virtual host for README.

Writes docs/recording.cast, and from it docs/recording.svg and docs/recording.txt; `--redraw` only
the latter two.  Takes about five minutes.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import demo, images, machine, ssh
from tests.lab.faults import LabFault
from tests.lab.product import CHECKOUT

from . import cast
from .origin import commit, cpus
from .picture import picture
from .terminal import Recorder
from .transcript import transcript

WIDTH, HEIGHT = 96, 40
PROMPT = "\x1b[1;32mgpuhost\x1b[0m#"
STILL = "up"
SPEC = f"""\
gpus   = ["01:00.0"]
guest  = "debian-12"
driver = "none"    # the image has driver 470 in it: there is no network here
image  = "{demo.IMAGES}/driver.qcow2"
cpus   = 1
memory = 1024
[boot]
mode   = "direct"
kernel = "{demo.IMAGES}/driver-vmlinuz"
initrd = "{demo.IMAGES}/driver-initrd"
"""
DRIVERS = "lspci -nnks 01:00 | grep -v -e Subsystem -e modules"
VERIFY = 'vfio-kit verify m4000; echo "exit status $?"'
CHAPTERS: dict[str, tuple[tuple[str, int], ...]] = {
    "scan": (("vfio-kit scan", 0),),
    "up": (("cat m4000.toml", 0), ("vfio-kit up m4000 --spec m4000.toml", 0)),
    "verify": ((DRIVERS, 0), (VERIFY, 0)),
    "down": (("vfio-kit down m4000 --purge", 0), ("vfio-kit list", 0), (DRIVERS, 0)),
}
"""What is typed, and with what exit status it has to end."""


def main() -> int:
    """Record, or draw again; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.recording", description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="draw what was recorded again")
    docs = CHECKOUT / "docs"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the stop of the host
    if not parser.parse_args().redraw:
        cast.write(_recorded(), docs / "recording.cast")
    draw(docs)
    return 0


def draw(docs: Path) -> None:
    """Write picture and text of the cast in a folder."""
    recorded = cast.read(docs / "recording.cast")
    (docs / "recording.svg").write_text(picture(recorded, STILL), "utf-8")
    (docs / "recording.txt").write_text(transcript(recorded), "utf-8")


def _recorded() -> cast.Cast:
    """Record a session, once more after a fault of the emulator."""
    for last in (False, True):
        machine.stop()
        try:
            return _session()
        except LabFault as fault:
            if last:
                raise
            images.say_to_stderr(f"fault of the emulator: {fault}; once more")
        finally:
            machine.stop()
    raise AssertionError("unreachable")


def _session() -> cast.Cast:
    images.build(images.say_to_stderr)
    machine.start(demo.TOPOLOGY, images.say_to_stderr)
    demo.install()
    subprocess.run(
        ssh.command(machine.state().port, "root", ["cat > /root/m4000.toml"]),
        input=SPEC.encode(),
        check=True,
    )
    recorder = Recorder(WIDTH, HEIGHT)
    for title, commands in CHAPTERS.items():
        images.say_to_stderr(f"recording: {title}")
        recorder.chapter(title)
        for command, status in commands:
            recorder.type(PROMPT + " ", command)
            _require(recorder.run(_remote(command)), status, command)
    return cast.Cast(
        WIDTH,
        HEIGHT,
        int(time.time()),
        commit(),
        f"{cpus()}, emulated (TCG)",
        tuple(recorder.events),
    )


def _remote(command: str) -> list[str]:
    """The argv that runs a command on the host, in a terminal there."""
    words = ssh.command(machine.state().port, "root", [f"export LC_ALL=C.UTF-8; {command}"])
    return [words[0], "-tt", *words[1:]]


def _require(found: int, wanted: int, command: str) -> None:
    if found == ssh.UNREACHABLE:
        machine.check_health()
    if found != wanted:
        raise SystemExit(f"exit {found} instead of {wanted}: {command}")


if __name__ == "__main__":
    sys.exit(main())
