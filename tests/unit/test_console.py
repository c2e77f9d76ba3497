"""What is said on stderr: colours, characters, and the line that runs."""

import ast
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vfio_kit.cli import _cli, console
from vfio_kit.cli.first_boot_report import ConsoleTail
from vfio_kit.cli.live_line import LIVE, Bytes, LiveLine, Running, cells, line_of
from vfio_kit.cli.report import Report

RED = "\x1b[31m"


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Screen]]:
    """To be called in the test itself: before it pytest puts its own stderr there."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)

    def begin() -> Screen:
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    yield begin
    LIVE.end()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# Colours


@pytest.mark.parametrize(
    ("asked", "environ", "colors"),
    [
        (None, {}, None),
        (None, {"NO_COLOR": "1"}, False),
        (None, {"NO_COLOR": ""}, None),
        (None, {"NO_COLOR": "0"}, False),  # any value that is not empty: no-color.org
        (None, {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        (None, {"CLICOLOR_FORCE": "1"}, True),
        (None, {"CLICOLOR_FORCE": "0"}, None),
        (None, {"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True),
        (None, {"CLICOLOR": "0"}, False),
        (None, {"CLICOLOR": "1"}, None),
        (None, {"TERM": "dumb"}, False),
        (False, {"CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_who_has_a_say_in_colours(
    asked: bool | None, environ: Mapping[str, str], colors: bool | None
) -> None:
    assert console.colors_of(asked, environ) is colors


@pytest.mark.parametrize("words", [("explain", "VK000"), ("image", "rm", "x", "--dir", "/proc")])
@pytest.mark.parametrize("place", ["none", "first", "last"])
def test_no_color_stands_anywhere(
    words: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    option = ("--no-color",)
    said = [*(option if place == "first" else ()), *words, *(option if place == "last" else ())]
    result = CliRunner().invoke(_cli, said, prog_name="vfio-kit")
    assert (RED in result.stderr) is (place == "none"), result.stderr
    assert "error: " in result.stderr


def test_colours_of_a_result_obey_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed by click, as reports are: here as if stdout were a terminal."""

    def report(**environ: str) -> str:
        runner = CliRunner(env={"NO_COLOR": None, "CLICOLOR_FORCE": None, **environ})
        return runner.invoke(_cli, ["explain", "VK101"], color=True).stdout

    assert "\x1b[" in report(TERM="xterm")
    assert "\x1b[" not in report(TERM="xterm", NO_COLOR="1")
    assert "\x1b[" not in report(TERM="dumb")


# Characters


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "a … → ██ ├ ß 猫"),
        ("ascii", "a ... -> ## | ? ?"),
        ("latin-1", "a ... -> ## | ß ?"),
    ],
)
def test_what_a_locale_has_not_is_drawn_with_what_it_has(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    console.prepare_streams()
    console.say("a … → ██ ├ ß 猫")
    stream.seek(0)
    assert stream.read() == f"{shown}\n"
    assert console.fitting("a … → ██ ├ ß 猫") == shown


def test_a_strangers_words_do_not_move_the_cursor(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    console.step("the server says \x1b[2J\r\nmore", 1.5)
    console.error("\x1b[2J", "do\x07 this\nand\x1b[A that")
    assert screen.getvalue().splitlines() == [
        "   1.5 s  the server says ?[2J??more",
        f"{RED}error: ?[2J\x1b[0m",
        "  hint: do? this",
        "  hint: and?[A that",
    ]


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("stream", [Gone(), io.StringIO()], ids=["full", "closed"])
def test_a_stderr_that_takes_nothing_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    if not isinstance(stream, Gone):
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    report = Report()
    with report.timed("worked"):
        report.note("note")
    console.error("no", "hint")
    assert [step.what for step in report.steps] == ["worked"]


# The line that runs


def test_it_is_drawn_on_a_terminal_and_goes_away_for_what_is_said(
    terminal: Callable[[], Screen],
) -> None:
    screen = terminal()
    report = Report()
    report.begins("install the driver")
    until(lambda: "install" in screen.getvalue())
    assert re.fullmatch(r"\r\x1b\[K   \d\.\d s  install the driver …", screen.getvalue())
    report.note("a note")
    until(lambda: screen.getvalue().count("install") > 1)
    report.progress("installed", 2.5)
    time.sleep(0.5)
    first, _, rest = screen.getvalue().partition("\r\x1b[K          a note\n")
    assert first.count("install the driver …") >= 1
    assert rest.endswith("…\r\x1b[K   2.5 s  installed\n")


def test_what_is_done_at_once_does_not_flicker(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    report = Report()
    for number in range(3):
        with report.timed(f"step {number}"):
            report.note("…")
    assert "\x1b" not in screen.getvalue()


def test_an_error_is_its_end(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    Report().begins("work")
    until(lambda: "work" in screen.getvalue())
    console.error("no")
    said = screen.getvalue()
    time.sleep(0.4)
    assert screen.getvalue() == said
    assert said.endswith("\r\x1b[K\x1b[31merror: no\x1b[0m\n")


def test_how_much_there_is_of_how_much(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    report = Report()
    report.begins("make 4096 hugepages free", lambda: (1024, 4096))
    until(lambda: "pages" in screen.getvalue())
    report.idle()
    line = screen.getvalue().split("\r\x1b[K")[1]
    assert line[8:].startswith("  make 4096 hugepages free …  ━━━━━")
    assert line.endswith("──  1024 of 4096 pages")
    with report.timed("downloaded", "downloading"):
        report.meter(41 << 20, 612 << 20)
        until(lambda: "MiB" in screen.getvalue())
    assert "  41 of 612 MiB (6 %)" in screen.getvalue()


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    terminal: Callable[[], Screen], monkeypatch: pytest.MonkeyPatch, term: str | None
) -> None:
    screen = terminal()
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    line = LiveLine(redraw=0.02, plain_every=0.1)
    line.run(Running("waiting", time.monotonic()))
    until(lambda: screen.getvalue().count("\n") == 2)
    line.end()
    lines = screen.getvalue().splitlines()
    assert [line[8:] for line in lines] == ["  waiting …"] * 2


def test_without_a_terminal_what_takes_long_is_said_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    meter = Bytes()
    meter.set(1 << 20, 2 << 20)
    line = LiveLine(redraw=0.02, plain_every=0.2)
    line.run(Running("downloading", time.monotonic(), meter))
    time.sleep(0.5)
    line.end()
    time.sleep(0.25)
    said = capsys.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    lines = said.splitlines()
    assert 1 <= len(lines) <= 2
    assert lines[0].endswith(" s  downloading …  1 of 2 MiB (50 %)")


@given(
    st.text(max_size=60),
    st.text(max_size=60),
    st.integers(20, 200),
    st.none() | st.floats(0, 1),
)
def test_it_is_never_wider_than_the_terminal(
    what: str, detail: str, columns: int, part: float | None
) -> None:
    class Shown:
        def words(self) -> str:
            return detail

        def part(self) -> float | None:
            return part

    line = line_of(Running(what, time.monotonic(), Shown()), columns)
    assert cells(line) <= columns
    assert line.isprintable()


def test_the_numbers_stay_where_the_words_have_no_room() -> None:
    meter = Bytes()
    meter.set(41 << 20, 612 << 20)
    running = Running("download of a guest's image from a mirror", time.monotonic(), meter)
    assert line_of(running, 100).count("─") >= 8
    assert line_of(running, 56) == "   0.0 s  download of a guest's im…  41 of 612 MiB (6 %)"
    assert line_of(running, 40).startswith("   0.0 s  download of…  41 of 612")


def test_other_words_give_way_to_what_runs(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    tail = ConsoleTail(str(log))
    running = Running("waiting for the guest's SSH server", time.monotonic(), tail)
    assert line_of(running, 60) == "   0.0 s  waiting for the guest's SSH server …"
    log.write_bytes(b"boot\r\n[\x1b[0;32m  OK  \x1b[0m] Reached \x1b[2Jtarget\xff.\r\n\r\n")
    running = Running(running.what, running.since, ConsoleTail(str(log)))
    line = "   0.0 s  waiting for the guest's SSH server …  · [ OK ] Reached target\ufffd."
    assert line_of(running, 80) == line
    assert line_of(running, 60) == f"{line[:59]}…"


# The end


def test_nothing_else_writes_to_stderr() -> None:
    """Or it would break on a stderr that is gone, and be missing in the log."""
    folder = Path(console.__file__).parent
    calls = {
        f"{path.name}:{node.lineno}"
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("echo", "secho", "print")
        and any(word.arg in ("err", "file") for word in node.keywords)
    }
    assert calls == set()


def test_the_end_tells_how_long_it_took_and_what_took_longest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report()
    report.progress("quick", 0.01)
    report.progress("slow", 4.0)
    report.finish("done")
    said = capsys.readouterr().err.splitlines()
    assert said[-2].endswith(" s  done")
    assert said[-1].startswith("          longest: slow 4.0 s (")
