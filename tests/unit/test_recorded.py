"""The recording in docs/ is not out of date, and can be shown anywhere."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.lab.recording.cast import read
from tests.lab.recording.picture import picture
from tests.lab.recording.transcript import transcript
from vfio_kit.cli import _cli

DOCS = Path(__file__).parents[2] / "docs"
PROMPT = "gpuhost# "


class TestTheOneInDocs:
    def test_picture_and_text_are_drawn_from_the_cast(self) -> None:
        """After a change of the drawing: python -m tests.lab.recording --redraw."""
        cast = read(DOCS / "recording.cast")
        assert (DOCS / "recording.svg").read_text("utf-8") == picture(cast, "up")
        assert (DOCS / "recording.txt").read_text("utf-8") == transcript(cast)

    def test_the_picture_needs_nothing_else_and_is_small(self) -> None:
        drawn = (DOCS / "recording.svg").read_text("utf-8")
        assert len(drawn.encode()) < 200_000
        assert not re.findall(r"<(script|image|foreignObject|link)|url\(|@import|@font-face", drawn)
        assert re.findall(r"https?://[^\"' ]+", drawn) == ["http://www.w3.org/2000/svg"]

    def test_it_says_of_which_commit_and_where_it_was_made(self) -> None:
        drawn = (DOCS / "recording.svg").read_text("utf-8")
        assert re.search(r"Recorded \d{4}-\d\d-\d\d, commit [0-9a-f]{7,}, \d+ CPUs", drawn)

    def test_its_commands_are_those_of_today(self) -> None:
        lines = (DOCS / "recording.txt").read_text("utf-8").splitlines()
        typed = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
        parsed = [parse(words) for line in typed for words in commands(line)]
        assert parsed == ["scan", "up", "verify", "down", "list"]


def commands(line: str) -> list[list[str]]:
    """The words of each vfio-kit of a shell's line."""
    parts = [shlex.split(part) for part in re.split(r"[;|]", line)]
    return [part[1:] for part in parts if part[0] == "vfio-kit"]


def parse(words: list[str]) -> str:
    """The name of the command; click.UsageError where it, or an option, does not exist."""
    context = click.Context(_cli, info_name="vfio-kit")
    name, command, rest = _cli.resolve_command(context, list(words))
    assert command is not None
    own = click.Context(command, info_name=name, parent=context)
    command.make_parser(own).parse_args(rest)
    return str(name)


def test_an_option_that_is_gone_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(["scan", "--no-such-option"])
