"""Every command block of the manual says how it is tested, and is."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.docs.adding import sources_with
from tests.docs.linting import LINTERS
from tests.docs.pages import (
    Block,
    Page,
    PageError,
    manual,
    needs_marker,
    parse_page,
    read_marker,
)
from tests.docs.running import (
    alone,
    commands_of,
    is_plain,
    lay_out,
    looks_like,
    run_shell,
    run_snapshot,
    words_of,
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


# The reader.

PAGE = """\
# A page

<!-- run: shell exits=3 name=first -->
```bash
vfio-kit explain VK101 \\
    VK102   # two
```

- in a list:

    <!-- run: output same -->
    ```text
    VK101
    ```

```toml
name = "x"
```
"""


def test_a_marker_is_read_with_its_options() -> None:
    first, second, third = parse_page("page.md", PAGE).blocks
    assert first.marker is not None and first.marker.kind == "shell"
    assert (first.marker.exits, first.id) == (3, "page.md:4-first")
    assert second.marker is not None and second.marker.words == ("same",)
    assert second.before == first
    assert third.marker is None and needs_marker(third)


def test_a_prompt_makes_text_a_command() -> None:
    (block,) = parse_page("page.md", "```text\n$ vfio-kit scan\n```\n").blocks
    assert needs_marker(block)
    (block,) = parse_page("page.md", "```text\n01:00.0 isolated\n```\n").blocks
    assert not needs_marker(block)


def test_code_without_a_fence_is_found() -> None:
    assert parse_page("page.md", "words:\n\n    vfio-kit scan\n").indented == (3,)


@pytest.mark.parametrize(
    "comment",
    ["run: sometimes", "run: not", "run: snapshot", "run: shell exits=x", "run: shell colour=red"],
)
def test_a_marker_that_nobody_knows_is_an_error(comment: str) -> None:
    with pytest.raises(ValueError):
        read_marker(f"<!-- {comment} -->")
    with pytest.raises(PageError, match=r"page\.md:2"):
        parse_page("page.md", f"<!-- {comment} -->\n```bash\ntrue\n```\n")


def test_lines_that_are_continued_are_one_and_comments_are_none() -> None:
    (line,) = commands_of("# first\nvfio-kit explain VK101 \\\n    VK102   # two\n")
    assert words_of(line) == ["vfio-kit", "explain", "VK101", "VK102"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("vfio-kit scan\nsudo vfio-kit plan --gpu 01:00.0  # words; and more\n", True),
        ("vfio-kit scan --json | python3 -m json.tool\n", False),
        ("vfio-kit scan > scan.txt\n", False),
        ('vfio-kit explain "$CODE"\n', False),
        ("ls\n", False),
    ],
)
def test_a_block_that_only_calls_vfio_kit_needs_no_shell(text: str, plain: bool) -> None:
    (block,) = parse_page(
        "page.md", f"<!-- run: snapshot quadro-m4000 -->\n```bash\n{text}```\n"
    ).blocks
    assert is_plain(block) == plain


@pytest.mark.parametrize(
    ("marker", "text", "told"),
    [
        ("snapshot quadro-m4000", "vfio-kit scan --no-such-option", "exit status 2 instead of 0"),
        ("snapshot quadro-m4000", "vfio-kit plan --gpu 02:00.0", "exit status 3 instead of 0"),
        ("snapshot quadro-m4000", "vfio-kit list", "it reads no snapshot"),
        ("snapshot quadro-m4000 exits=3", "vfio-kit scan", "exit status 0 instead of 3"),
    ],
)
def test_a_block_that_does_something_else_fails(
    marker: str, text: str, told: str, tmp_path: Path
) -> None:
    (block,) = parse_page("page.md", f"<!-- run: {marker} -->\n```bash\n{text}\n```\n").blocks
    with pytest.raises(AssertionError, match=told):
        run_snapshot(block, tmp_path)


@pytest.mark.edge
def test_a_shell_has_no_network_and_fails_where_a_line_does(tmp_path: Path) -> None:
    text = "<!-- run: shell -->\n```bash\nfalse\ntrue\n```\n"
    (block,) = parse_page("page.md", text).blocks
    with pytest.raises(AssertionError, match="exit status 1 instead of 0"):
        run_shell(block, tmp_path)
    text = "<!-- run: shell -->\n```bash\ncat /proc/net/dev | grep -c : ; pwd\n```\n"
    (block,) = parse_page("page.md", text).blocks
    interfaces, folder = run_shell(block, tmp_path).output.splitlines()
    assert folder == str(tmp_path)
    assert interfaces == "1" or not alone(), "lo by itself, where the kernel lets us have that"


@pytest.mark.parametrize(
    ("shown", "alike"),
    [("one\ntwo\nthree", True), ("one\n…\nthree\n", True), ("…\nthree", True), ("one\n…", True),
     ("one\nthree", False), ("two\n…", False), ("one\n…\ntwo", False)],
)  # fmt: skip
def test_shown_output_may_leave_lines_out(shown: str, alike: bool) -> None:
    assert looks_like("one\ntwo\nthree\n", shown) == alike
