"""Completing in the real shells: a line is typed, the tabulator pressed, and the line looked at."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines import m4000_isolated, write_machine
from vfio_kit.cli.shells import SCRIPTS, SHELLS

CHECKOUT = Path(__file__).parents[2]
SHOW = "\x14"
"""Ctrl-T, which is bound to show the line between two marks."""


# What prepares each shell, once the script is sourced. READY is said where no echo says it.
PREPARED = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        """bind -x '"\\C-t": printf "<<%s>>" "$READLINE_LINE"'; source {script}""",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; source {script}; "
        "show() {{ print -rn -- '<<'$BUFFER'>>' }}; zle -N show; bindkey '^T' show",
    ),
}


class Terminal:
    """An interactive shell, and who types into it."""

    def __init__(self, words: list[str], environment: dict[str, str], prepared: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 300))
        self._process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
        )
        os.close(theirs)
        self._type(f"{prepared}; echo REA''DY\r")
        self._read("READY")

    def complete(self, line: str) -> str:
        """What stands on the line once the tabulator was pressed behind it."""
        self._type(f"{line}\t{SHOW}")
        found = self._read(r"<<(.*?)>>")
        self._type("\x15")  # Ctrl-U: the line is removed
        return found

    def end(self) -> None:
        os.close(self._ours)
        self._process.kill()
        self._process.wait()

    def _type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def _read(self, pattern: str) -> str:
        text, deadline = "", time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([self._ours], [], [], 1)[0]:
                text += os.read(self._ours, 65536).decode("utf-8", "replace")
                if found := re.search(pattern, text, re.DOTALL):
                    return found[found.re.groups]
        raise AssertionError(f"no {pattern} within 30 s in {text!r}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a machine, the VM m4000, and a program vfio-kit, which sudo lends its name."""
    folder = tmp_path_factory.mktemp("shell")
    write_machine(folder / "tree", m4000_isolated())
    (folder / "state/m4000").mkdir(parents=True)
    (folder / "state/m4000/vm.json").touch()
    (folder / "bin").mkdir()
    program = folder / "bin/vfio-kit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vfio_kit "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    return {
        "PATH": f"{place}/bin:/usr/bin:/bin",
        "PYTHONPATH": str(CHECKOUT),
        "HOME": str(place),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "VFIO_KIT_ROOT": str(place / "tree"),
        "VFIO_KIT_STATE_DIR": str(place / "state"),
    }


@pytest.fixture(scope="module", params=PREPARED)
def complete(
    request: pytest.FixtureRequest, environment: dict[str, str]
) -> Iterator[Callable[[str], str]]:
    words, prepared = PREPARED[request.param]
    _need(words[0])
    source = CHECKOUT / "packaging/completions" / SCRIPTS[request.param]
    terminal = Terminal(words, environment, prepared.format(script=source))
    yield terminal.complete
    terminal.end()


def _need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: apt-get install {shell}")


# What is typed -> what stands there when the tabulator was pressed.
TYPED = {
    "vfio-kit pl": "vfio-kit plan ",
    "vfio-kit scan --gpu 01:0": "vfio-kit scan --gpu 01:00.0 ",
    "vfio-kit scan --gpu=01:0": "vfio-kit scan --gpu=01:00.0 ",
    "vfio-kit scan --gpu 0000:01:": "vfio-kit scan --gpu 0000:01:00.0 ",
    "vfio-kit advise --name Quadro\\ M40": "vfio-kit advise --name Quadro\\ M4000 ",
    "vfio-kit advise --name 'Quadro M40": "vfio-kit advise --name 'Quadro M4000' ",
    "vfio-kit down m4": "vfio-kit down m4000 ",
    "vfio-kit up x --guest deb": "vfio-kit up x --guest debian-12 ",
    "vfio-kit verify --expect gpu_c": "vfio-kit verify --expect gpu_count=",
    "vfio-kit plan --spec {place}/tr": "vfio-kit plan --spec {place}/tree/",
    "vfio-kit plan --spec={place}/tr": "vfio-kit plan --spec={place}/tree/",
    "vfio-kit down nothing-like-it": "vfio-kit down nothing-like-it",
    "vfio-kit scan --root /nowhere --fr": "vfio-kit scan --root /nowhere --from ",
    "true && vfio-kit explain VK10": "true && vfio-kit explain VK10",
}


@pytest.mark.parametrize("typed", TYPED)
def test_a_line_is_completed(complete: Callable[[str], str], place: Path, typed: str) -> None:
    assert complete(typed.format(place=place)) == TYPED[typed].format(place=place)


FISH = {
    "vfio-kit pl": ["plan\twhat `up` will do, step by step, and what undoes it"],
    "vfio-kit scan --gpu 01": ["01:00.0\tGM204GL [Quadro M4000]"],
    "vfio-kit scan --gpu=01:": ["--gpu=01:00.0\tGM204GL [Quadro M4000]"],
    "vfio-kit down ": ["m4000"],
    "vfio-kit up x --guest deb": ["debian-12\tDebian 12"],
    "vfio-kit plan --spec {place}/tr": ["{place}/tree/"],
    "vfio-kit plan --spec={place}/tr": ["--spec={place}/tree/"],
    "vfio-kit down nothing-like-it": [],
    "env vfio-kit image rm --di": ["--dir\tWhere the images are; QEMU's own user must come to it."],
}


def test_fish_completes_lines(place: Path, environment: dict[str, str]) -> None:
    _need("fish")
    source = CHECKOUT / "packaging/completions" / SCRIPTS["fish"]
    asked = "; echo END; ".join(f'complete -C "{line}"' for line in FISH).format(place=place)
    done = subprocess.run(
        ["fish", "-c", f"source {source}; {asked}"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    found = [answer.split("\n") for answer in f"\n{done.stdout}".split("END\n")]
    due = [[answer.format(place=place) for answer in answers] for answers in FISH.values()]
    assert [[line for line in answer if line] for answer in found] == due, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_finds_no_fault_with_its_script(shell: str) -> None:
    _need(shell)
    done = subprocess.run(
        [shell, "-n", CHECKOUT / "packaging/completions" / SCRIPTS[shell]],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


DEAR = {"pydantic", "jinja2", "paramiko", "libvirt", "pycdlib", "cryptography", "pyudev"}
LINES = (
    *("vfio-kit ", "vfio-kit up x --gpu ", "vfio-kit plan --driver ", "vfio-kit down "),
    *("vfio-kit render --output ", "vfio-kit explain VK", "vfio-kit image rm ", "vfio-kit bake x"),
    *("vfio-kit verify --expect ", "vfio-kit up x --image "),
)


def test_what_is_completed_waits_for_no_dear_library(environment: dict[str, str]) -> None:
    code = (
        "import os, sys\nfrom vfio_kit.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    os.environ['COMP_WORDS'] = line\n"
        "    try: main()\n"
        "    except SystemExit: print()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *LINES],
        check=False,
        capture_output=True,
        text=True,
        env={**environment, "_VFIO_KIT_COMPLETE": "bash_complete"},
        timeout=60,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert (done.stderr, loaded & DEAR, "click" in loaded) == ("", set(), True)
