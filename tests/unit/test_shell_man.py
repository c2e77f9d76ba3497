"""The manual pages: written from the commands, complete, and read without a warning."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from tests.docs.written.manual_rows import ENVIRONMENT, MANUALS
from tests.docs.written.manuals import man_pages
from vfio_kit.cli import _COMMANDS, _cli

FOLDER = Path(__file__).parents[2] / "packaging/man"
PAGES = man_pages()
EXAMPLES = [line for manual in MANUALS.values() for _, line in manual.examples]


def test_there_is_no_page_of_a_command_that_is_gone() -> None:
    """That each is current: tests/docs/test_written.py."""
    assert {file.name for file in FOLDER.iterdir()} == set(PAGES)


def test_there_is_a_page_of_each_command_with_every_section() -> None:
    assert list(MANUALS) == list(_COMMANDS)
    assert list(PAGES) == ["vfio-kit.1", *(f"vfio-kit-{name}.1" for name in _COMMANDS)]
    for name, page in PAGES.items():
        sections = re.findall(r"(?m)^\.SH (.+)$", page)
        assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"], name
        assert sections[-2:] == ["EXAMPLES", "SEE ALSO"], name
        assert "EXIT STATUS" in sections, name


def test_every_option_has_its_paragraph() -> None:
    for name in _COMMANDS:
        command = _cli.get_command(click.Context(_cli), name)
        assert command is not None
        for parameter in command.params:
            shown_at_all = isinstance(parameter, click.Option) and not parameter.hidden
            for option in parameter.opts if shown_at_all else ():
                shown = option.replace("-", r"\-")
                assert rf"\fB{shown}\fR" in PAGES[f"vfio-kit-{name}.1"]


def test_pages_that_are_referred_to_are_there() -> None:
    for page in PAGES.values():
        for name in re.findall(r"\\fB(vfio\\-kit[a-z\\-]*)\\fR\(1\)", page):
            assert name.replace("\\", "") + ".1" in PAGES


def test_every_variable_is_told_and_is_one() -> None:
    told = set(re.findall(r"VFIO_KIT_[A-Z_]+|NO_COLOR", "".join(PAGES.values())))
    assert told == set(ENVIRONMENT)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_is_understood(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0].removeprefix("sudo ").removeprefix("source <("))
    if words[-1].endswith(")"):
        words[-1] = words[-1].removesuffix(")")
    program, name, *arguments = words
    command = _cli.get_command(click.Context(_cli), name)
    assert program == "vfio-kit" and command is not None
    # With its settings: click keeps what the first context says of --help for all later ones.
    root = click.Context(_cli, info_name=program, **_cli.context_settings)
    with command.make_context(name, arguments, parent=root) as context:
        assert isinstance(command, click.Group) or not context.args


# The readers themselves


def need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here: apt-get install {package}")


@pytest.mark.edge
def test_mandoc_finds_no_fault() -> None:
    need("mandoc", "mandoc")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *sorted(FOLDER.iterdir())],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.edge
@pytest.mark.parametrize("page", ["vfio-kit.1", "vfio-kit-up.1", "vfio-kit-image.1"])
def test_man_shows_a_page_without_a_warning(page: str) -> None:
    need("man", "man-db")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", FOLDER / page],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "NAME\n" in done.stdout and "EXIT STATUS\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
