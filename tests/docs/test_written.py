"""Pages that are made from tables, schemas and commands are as these are now."""

import json
import re

import click
import pytest

from tests.docs.names import options_of
from tests.docs.pages import CHECKOUT
from tests.docs.written import WRITTEN, Written, write_all
from tests.docs.written.exits import EXITS_OF, MEANINGS
from vfio_kit.cli import _cli

SCHEMAS = sorted((CHECKOUT / "vfio_kit/schemas").glob("*.schema.json"))


@pytest.mark.parametrize("one", WRITTEN, ids=lambda one: one.path)
def test_it_is_current(one: Written, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-goldens"):
        write_all(CHECKOUT)
    file = CHECKOUT / one.path
    assert file.exists() and file.read_text("utf-8") == one.due(CHECKOUT), (
        "scripts/docs --write writes it anew"
    )


@pytest.mark.parametrize("path", EXITS_OF, ids=" ".join)
def test_the_statuses_that_a_command_speaks_of_are_in_its_table(path: tuple[str, ...]) -> None:
    command: click.Command = _cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    said = re.findall(r"[Ee]xit\s+status:?\s+(\d+)|\((\d)\)|[,;] (\d) ", command.help or "")
    assert {int("".join(one)) for one in said} <= set(EXITS_OF[path]) <= set(MEANINGS)


def test_the_page_on_json_has_every_document() -> None:
    page = (CHECKOUT / "docs/json.md").read_text("utf-8")
    with_json = [path for path in EXITS_OF if "--json" in options_of(path)]
    assert len(with_json) > 8
    assert not [path for path in with_json if f"`{' '.join(path)} --json`" not in page]
    schemas = [json.loads(p.read_text("utf-8"))["title"] for p in SCHEMAS]
    assert not [title for title in schemas if f"`{title}`" not in page]
