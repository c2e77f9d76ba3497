"""What reads pages and runs their blocks: that a marker means what it says, and that nothing passes
that does something else."""

from pathlib import Path

import pytest

from tests.docs.pages import PageError, needs_marker, parse_page, read_marker
from tests.docs.running import (
    alone,
    commands_of,
    is_plain,
    looks_like,
    run_shell,
    run_snapshot,
    words_of,
)

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
     ("one\nthree", False), ("two\n…", False), ("one\n…\ntwo", False),
     ("…\ntwo\n…", True), ("one\ntwo\n…\ntwo\nthree", False), ("…\nthree\n…\ntwo\n…", False)],
)  # fmt: skip
def test_shown_output_may_leave_lines_out(shown: str, alike: bool) -> None:
    assert looks_like("one\ntwo\nthree\n", shown) == alike
