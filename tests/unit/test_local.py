"""Commands on this machine: like those over SSH, and nothing is left of one whose time is up."""

import time
from pathlib import Path

import pytest

from tests.unit.values import said
from vfio_kit.errors import GuestError
from vfio_kit.guest.local import LocalRunner
from vfio_kit.guest.runner import MOST_OUTPUT, CommandTimeout, Runner

HERE: Runner = LocalRunner()


def test_a_command_gives_both_streams_and_its_status() -> None:
    assert HERE.run("echo é; echo err >&2; exit 3") == said("é\n", 3, "err\n")


def test_commands_speak_c_and_run_in_sh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert HERE.run('x=1; echo "$LC_ALL" "$0"').stdout == "C /bin/sh\n"


def test_a_program_on_stdin_is_run() -> None:
    program = "x" * 1_000_000
    assert HERE.run("cat", stdin=program).stdout == program
    assert HERE.run("true", stdin=program).exit_status == 0
    assert HERE.run("cat").stdout == ""


def test_output_that_is_no_text_is_no_obstacle() -> None:
    assert HERE.run(r"printf '\377x'").stdout == "\ufffdx"


def test_a_signal_is_a_status() -> None:
    assert HERE.run("kill -KILL $$").exit_status == 137


def test_a_command_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(CommandTimeout) as caught:
        HERE.run(f"sleep 300 & echo $! > {tmp_path}/pid; sleep 301", timeout=0.3)
    assert time.monotonic() - begin < 10
    assert caught.value.message.startswith("this machine: no end within 0 s: sleep 300 &")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(pid)


def test_a_command_that_ignores_sigterm_ends() -> None:
    begin = time.monotonic()
    with pytest.raises(CommandTimeout):
        HERE.run("trap '' TERM; while :; do sleep 0.1; done", timeout=0.2)
    assert time.monotonic() - begin < 10


def test_a_command_whose_child_keeps_speaking_is_not_waited_for() -> None:
    with pytest.raises(CommandTimeout):
        HERE.run("sleep 300 & exit 0", timeout=0.2)


def test_more_output_than_anybody_asked_for_is_an_error() -> None:
    with pytest.raises(GuestError, match=f"more than {MOST_OUTPUT} bytes"):
        HERE.run("yes")


def test_no_file_stays_open() -> None:
    HERE.run("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        HERE.run("cat", stdin="x")
        with pytest.raises(CommandTimeout):
            HERE.run("sleep 300", timeout=0.01)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def runs(pid: int) -> bool:
    """Alive, and no zombie that only waits for its parent to look."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
