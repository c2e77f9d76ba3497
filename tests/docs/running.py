"""The runners of `snapshot` and `shell`: a block in, what it printed and its exit status out."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
from click.testing import CliRunner

from tests.docs.pages import CHECKOUT, Block, Page
from tests.hosts.load import load
from tests.machines import write_machine
from vfio_kit.cli import _cli
from vfio_kit.host.machine import names_of
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree

_OPERATORS = frozenset("();<>|&")
_HARMLESS = ("explain", "completion", "--help", "-h", "--version")
"""What reads nothing of a host may stand in a `snapshot` block, too."""
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What was printed, stdout and stderr as they came, and the exit status."""

    output: str
    status: int


@cache
def snapshot_of(machine: str) -> bytes:
    """The snapshot of tests/hosts/MACHINE.toml, as `vfio-kit snapshot` packs it there."""
    path = CHECKOUT / f"tests/hosts/{machine}.toml"
    assert path.exists(), f"no machine {machine}: there is no {path.relative_to(CHECKOUT)}"
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        root = write_machine(Path(folder) / "root", load(path).machine)
        packed = Path(folder) / "snapshot.tar.gz"
        packed.write_bytes(take_snapshot(root, names_of(Tree(root))))
        return packed.read_bytes()


def commands_of(text: str) -> list[str]:
    """The lines of a script, those that a backslash continues as one; none that is a comment."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip()[:1] not in ("", "#")]


def words_of(line: str) -> list[str]:
    """The words of a command, without its comment; operators of the shell are words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if word.startswith("#"):
            break
        words.append(word)
    return words


def is_plain(block: Block) -> bool:
    """Whether all that the block does is to call vfio-kit, so that no shell is needed."""
    calls = [words_of(line) for line in commands_of(block.commands)]
    return all(
        words[: 1 + (words[0] == "sudo")][-1] == "vfio-kit"
        and not any(set(word) <= _OPERATORS for word in words)
        and not any("$" in word or "*" in word for word in words)
        for words in calls
    )


def run_snapshot(block: Block, folder: Path) -> Ran:
    """Runs the lines of a plain block in this process; AssertionError for an exit status."""
    assert block.marker is not None
    (machine,) = block.marker.words
    snapshot = _snapshot_file(machine, folder)
    snapshot.write_bytes(snapshot_of(machine))
    output = []
    with chdir(folder):
        for line in commands_of(block.commands):
            words = [word for word in words_of(line) if word != "sudo"][1:]
            ran = _invoke(_on(words, snapshot, line))
            _require(ran.status, block, line, ran.output)
            output.append(_as_there(ran.output, snapshot))
    return Ran("".join(output), block.marker.exits)


def _on(words: list[str], snapshot: Path, line: str) -> list[str]:
    if any(word in _HARMLESS for word in words):
        return words
    assert takes_snapshot(words), f"{line}: it reads no snapshot; mark the block otherwise"
    return [words[0], "--from", str(snapshot), *words[1:]]


def takes_snapshot(words: list[str]) -> bool:
    command = _cli.get_command(click.Context(_cli), words[0])
    assert command is not None, f"vfio-kit has no command {words[0]}"
    return any("--from" in parameter.opts for parameter in command.params)


def _invoke(words: list[str]) -> Ran:
    result = CliRunner().invoke(_cli, words, prog_name="vfio-kit", env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.output, result.exit_code)


def run_shell(block: Block, folder: Path, sources: Path = CHECKOUT) -> Ran:
    """Runs the block by bash: no network, nobody's rights, HOME and all else in `folder`.

    vfio-kit is that of `sources`. Where the marker names a machine it is a function that gives
    --from to the commands that take it.
    """
    assert block.marker is not None
    script = f"set -euo pipefail\n{_prelude(block, folder)}\n{block.commands}"
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "80",
        "PYTHONPATH": str(sources),
    }
    done = subprocess.run(
        [*alone(), "bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    _require(done.returncode, block, "the block", done.stdout)
    printed = done.stdout
    if block.marker.words:
        printed = _as_there(printed, _snapshot_file(block.marker.words[0], folder))
    return Ran(printed, done.returncode)


def _snapshot_file(machine: str, folder: Path) -> Path:
    return folder / f".{machine}.tar.gz"


def _as_there(printed: str, snapshot: Path) -> str:
    """What is printed on the machine itself: next commands name no snapshot there."""
    return printed.replace(f" --from {snapshot}", "")


def _prelude(block: Block, folder: Path) -> str:
    """vfio-kit of this checkout, whatever else is installed; sudo does nothing."""
    run = f"{shlex.quote(sys.executable)} -c 'from vfio_kit.cli import main; main()'"
    lines = ['sudo() { "$@"; }', "export -f sudo"]
    if block.marker is not None and block.marker.words:
        snapshot = _snapshot_file(block.marker.words[0], folder)
        snapshot.write_bytes(snapshot_of(block.marker.words[0]))
        lines.append(
            "vfio-kit() { local command=$1; shift; case $command in "
            f'scan|plan|render|advise|snapshot) {run} $command --from {snapshot} "$@";; '
            f'*) {run} "$command" "$@";; esac; }}'
        )
    else:
        lines.append(f'vfio-kit() {{ {run} "$@"; }}')
    return "\n".join([*lines, "export -f vfio-kit"])


@cache
def alone() -> tuple[str, ...]:
    """What takes network and privileges away, where the kernel lets us; else nothing does."""
    words = ("unshare", "--user", "--net")
    tried = subprocess.run([*words, "true"], check=False, capture_output=True)
    return words if tried.returncode == 0 else ()


def _require(status: int, block: Block, what: str, output: str) -> None:
    due = block.marker.exits if block.marker else 0
    assert status == due, f"{block.id}: {what}: exit status {status} instead of {due}\n{output}"


def files_before(page: Page, block: Block) -> Iterator[tuple[str, str]]:
    """Name and content of the files that blocks before this one on the page stand for."""
    for other in page.blocks:
        if other.line >= block.line:
            return
        if other.marker is not None and (name := other.marker.option("file")):
            yield name, other.text


def lay_out(page: Page, block: Block, folder: Path) -> None:
    """Writes the files that the block may name into the folder in which it runs."""
    for name, text in files_before(page, block):
        assert Path(name).name == name, f"{block.id}: file={name} is no plain name"
        (folder / name).write_text(text, encoding="utf-8")


def looks_like(printed: str, shown: str) -> bool:
    """Whether output is as a page shows it; a line of … alone stands for any lines or none."""
    lines = printed.rstrip().split("\n")
    groups = _groups(shown.rstrip().split("\n"))
    first, last = groups[0], groups[-1]
    if len(groups) == 1:
        return lines == first
    if lines[: len(first)] != first or lines[len(lines) - len(last) :] != last:
        return False
    at, end = len(first), len(lines) - len(last)
    for group in groups[1:-1]:  # each as early as it can be: what follows has the most room then
        places = range(at, end - len(group) + 1)
        found = next((n for n in places if lines[n : n + len(group)] == group), None)
        if found is None:
            return False
        at = found + len(group)
    return at <= end


def _groups(shown: list[str]) -> list[list[str]]:
    """The lines between those of … alone; one group more than there are of them."""
    groups: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == "…":
            groups.append([])
        else:
            groups[-1].append(line)
    return groups
