"""Every command block of the manual says how it is tested, and is."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.docs.adding import sources_with
from tests.docs.linting import LINTERS
from tests.docs.pages import (
    Block,
    Page,
    manual,
    needs_marker,
)
from tests.docs.running import (
    is_plain,
    lay_out,
    looks_like,
    run_shell,
    run_snapshot,
)
from tests.hosts.load import DESCRIPTIONS
from tests.lab.topologies import TOPOLOGIES

PAGES = manual()
BLOCKS = [(page, block) for page in PAGES for block in page.blocks]

MOST_UNTESTED = 15
"""Blocks of `run: not` that the manual may have. Lower it when one goes; do not raise it."""


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)


def marked(*kinds: str) -> list[tuple[Page, Block]]:
    return [(page, one) for page, one in BLOCKS if one.marker and one.marker.kind in kinds]


def each(rows: Iterable[tuple[Page, Block]]) -> pytest.MarkDecorator:
    rows = list(rows)
    return pytest.mark.parametrize(("page", "block"), rows, ids=[block.id for _, block in rows])


def by_shell() -> list[tuple[Page, Block]]:
    """Those whose output is compared below are run there."""
    shown = [block.before for _, block in marked("output") if is_compared(block)]
    compared = {block.id for block in shown if block}
    return [
        (page, one)
        for page, one in marked("shell", "snapshot")
        if one.marker
        and (one.marker.kind == "shell" or not is_plain(one))
        and one.id not in compared
    ]


def is_compared(block: Block) -> bool:
    """Whether it is held to what is printed: `same` is meant where nothing is said."""
    return block.marker is not None and block.marker.words != ("like",)


@each((page, block) for page, block in marked("snapshot") if is_plain(block))
def test_what_reads_a_host_does_so_from_its_snapshot(
    page: Page, block: Block, tmp_path: Path
) -> None:
    lay_out(page, block, tmp_path)
    run_snapshot(block, tmp_path)


@pytest.mark.edge
@each(by_shell())
def test_a_shell_runs_it_as_it_stands(page: Page, block: Block, tmp_path: Path) -> None:
    lay_out(page, block, tmp_path)
    run_shell(block, tmp_path)


@pytest.mark.edge
@each(marked("added"))
def test_what_is_added_as_told_is_taken_up(page: Page, block: Block, tmp_path: Path) -> None:
    """The instructions of docs/contributing: a row in a table, and the commands have it."""
    sources = sources_with(page, block, tmp_path / "sources")
    folder = tmp_path / "folder"
    folder.mkdir()
    ran = run_shell(block, folder, sources)
    shown = next((one for one in page.blocks if one.before == block), None)
    if shown and shown.marker and shown.marker.kind == "output":
        assert looks_like(ran.output, shown.text), f"{shown.id}: {_INSTEAD}:\n{ran.output}"


@pytest.mark.edge
@each(marked("added"))
def test_without_it_the_commands_have_nothing_of_it(
    page: Page, block: Block, tmp_path: Path
) -> None:
    shown = next((one for one in page.blocks if one.before == block), None)
    try:
        ran = run_shell(block, tmp_path)
    except AssertionError:
        return
    assert shown and not looks_like(ran.output, shown.text), f"{block.id} shows nothing new"


_INSTEAD = "this is printed instead (a line … stands for any lines)"


def _shown() -> list[tuple[Page, Block]]:
    return [
        (page, one) for page, one in marked("output") if is_compared(one) and not _of_added(one)
    ]


def _of_added(block: Block) -> bool:
    """Whether what is shown is compared where the sources are added to."""
    return bool(block.before and block.before.marker and block.before.marker.kind == "added")


def _compare(page: Page, block: Block, folder: Path) -> None:
    before = block.before
    assert before is not None and before.marker is not None
    lay_out(page, before, folder)
    in_process = before.marker.kind == "snapshot" and is_plain(before)
    printed = (run_snapshot if in_process else run_shell)(before, folder).output
    assert looks_like(printed, block.text), f"{block.id}: {_INSTEAD}:\n{printed}"


def _plain_before(block: Block) -> bool:
    before = block.before
    return bool(before and before.marker and before.marker.kind == "snapshot" and is_plain(before))


@each((page, block) for page, block in _shown() if _plain_before(block))
def test_output_is_shown_as_it_is(page: Page, block: Block, tmp_path: Path) -> None:
    _compare(page, block, tmp_path)


@pytest.mark.edge
@each((page, block) for page, block in _shown() if not _plain_before(block))
def test_output_of_a_shell_is_shown_as_it_is(page: Page, block: Block, tmp_path: Path) -> None:
    before = block.before
    assert before and before.marker and before.marker.kind in ("shell", "snapshot"), (
        f"{block.id}: output of what no test here runs cannot be compared: `run: output like`"
    )
    _compare(page, block, tmp_path)


@pytest.mark.edge
@each(marked("lint"))
def test_the_consumer_takes_it(page: Page, block: Block, tmp_path: Path) -> None:
    assert block.marker is not None
    kind, *words = block.marker.words
    assert kind in LINTERS, f"{block.id}: no linter {kind!r}; there are {', '.join(LINTERS)}"
    LINTERS[kind](block.text, tmp_path, *words)


# The rules.


@each_page
def test_every_block_says_how_it_is_tested(page: Page) -> None:
    silent = [block.id for block in page.blocks if needs_marker(block) and block.marker is None]
    assert not silent, f"no `<!-- run: … -->` before {', '.join(silent)}"


@each_page
def test_every_block_is_a_fence_with_a_language(page: Page) -> None:
    assert not page.indented, f"{page.path}: indented, in the place of a fence: {page.indented}"
    assert not [block.id for block in page.blocks if not block.language]


def test_what_no_test_runs_is_little(record_property: pytest.FixtureRequest) -> None:
    untested = [f"{block.id}: {block.marker.reason}" for _, block in marked("not") if block.marker]
    print(f"{len(untested)} blocks are not run:", *untested, sep="\n  ")
    assert len(untested) <= MOST_UNTESTED


def test_markers_name_what_there_is() -> None:
    machines = {path.stem for path in DESCRIPTIONS}
    for _, block in marked("snapshot", "lab"):
        assert block.marker is not None
        known = machines if block.marker.kind == "snapshot" else set(TOPOLOGIES)
        assert set(block.marker.words) <= known, f"{block.id}: {block.marker.words}"


def test_readme_blocks_are_in_the_readme_alone() -> None:
    assert {page.path for page, _ in marked("readme")} <= {"README.md"}
