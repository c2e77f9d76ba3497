"""Pages of the manual, read: their command blocks with the marker of each, links, headings, code.

A block is a fence. Where a test has to run it, a comment before it says how:

    <!-- run: snapshot MACHINE -->   its `vfio-kit` lines, of a snapshot of tests/hosts/MACHINE.toml
    <!-- run: shell -->              by bash, unprivileged, without network, in a folder of its own
    <!-- run: lab TOPOLOGY -->       in the virtual host (tests/lab/test_docs.py), in order
    <!-- run: lint KIND -->          by its consumer: a row of LINTERS in tests/docs/linting.py
    <!-- run: readme -->             README alone: by scripts/try-readme, in a fresh system
    <!-- run: add FILE -->           added to a copy of the sources, as a reader is told to: below
                                     `below="LINE"`, or at the file's end, or as a new file
    <!-- run: added [MACHINE] -->    by bash, with these sources; with a machine as `snapshot`
    <!-- run: not, REASON -->        nowhere, and why
    <!-- run: output same -->        what the block before it prints; a line … stands for any number
    <!-- run: output like -->        the same, for the eye alone

`exits=N` behind it is the exit status that is due, else 0; `name=WORD` names the test; `file=NAME`
of a `lint` block is a file of that name for the blocks below it on the page.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

CHECKOUT = Path(__file__).parents[2]
_WORDS = {
    "snapshot": (1, 1),
    "shell": (0, 0),
    "lab": (1, 1),
    "lint": (1, 2),
    "readme": (0, 0),
    "add": (1, 1),
    "added": (0, 1),
    "output": (0, 1),
}
"""Kind -> how many words stand behind it; `not` has a reason in their place."""
KINDS = frozenset({*_WORDS, "not"})
RUN_LANGUAGES = frozenset({"bash", "sh", "console", "yaml", "ini", "toml", "json"})
"""Fences of these are for a reader to type or to copy, so that a test has to say how they fare."""

_OPTIONS = ("exits", "name", "file", "below")
_PROMPT = re.compile(r"(?m)^\s*[$#] \S")


class PageError(AssertionError):
    """A page is not written as the tests can read it; names page and line."""


@dataclass(frozen=True, slots=True)
class Marker:
    """How a test runs a block. words: what stands behind the kind; reason: of `not` alone."""

    kind: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] | None = None
    reason: str = ""

    def option(self, name: str) -> str | None:
        return (self.options or {}).get(name)

    @property
    def exits(self) -> int:
        return int(self.option("exits") or 0)


@dataclass(frozen=True, slots=True)
class Block:
    """A fence; `line` is that of its opening, from 1, `before` the fence that stands before it."""

    page: str
    line: int
    language: str
    text: str
    marker: Marker | None
    before: "Block | None" = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        """As a test is named: page, line, and the block's own name where it has one."""
        name = self.marker.option("name") if self.marker else None
        return f"{self.page}:{self.line}{f'-{name}' if name else ''}"

    @property
    def commands(self) -> str:
        """What is typed: all of it, or the lines behind a prompt where there are prompts."""
        if self.language != "console":
            return self.text
        typed = [line[2:] for line in self.text.splitlines() if line[:2] in ("$ ", "> ")]
        return "".join(f"{line}\n" for line in typed)


@dataclass(frozen=True, slots=True)
class Place:
    """A word of a page and the line, from 1, of the paragraph that it stands in."""

    page: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """path: from the checkout, as in docs/guest.md. words: the text of its paragraphs."""

    path: str
    blocks: tuple[Block, ...]
    links: tuple[Place, ...]
    codes: tuple[Place, ...]
    words: tuple[Place, ...]
    anchors: frozenset[str]
    indented: tuple[int, ...]
    """Lines of code blocks without a fence."""


def manual() -> tuple[Page, ...]:
    """README, what stands beside it, and all below docs/."""
    beside = (CHECKOUT / name for name in TOP)
    return tuple(map(read_page, (*beside, *sorted((CHECKOUT / "docs").rglob("*.md")))))


TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


@cache
def read_page(path: Path) -> Page:
    return parse_page(path.relative_to(CHECKOUT).as_posix(), path.read_text("utf-8"))


def parse_page(path: str, text: str) -> Page:
    """The page of a text; `path` names it. Raises PageError where a marker cannot be read."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    blocks: list[Block] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            blocks.append(_block(path, token, before, blocks[-1] if blocks else None))
    inline = [(token, _line(token)) for token in _with_lines(tokens) if token.type == "inline"]
    return Page(
        path,
        tuple(blocks),
        links=tuple(
            Place(path, line, str(child.attrs["href"]))
            for token, line in inline
            for child in token.children or ()
            if child.type == "link_open"
        ),
        codes=tuple(
            Place(path, line, child.content)
            for token, line in inline
            for child in token.children or ()
            if child.type == "code_inline"
        ),
        words=tuple(Place(path, line, token.content) for token, line in inline),
        anchors=frozenset(_anchors(tokens)),
        indented=tuple(_line(token) for token in tokens if token.type == "code_block"),
    )


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0


def _with_lines(tokens: list[Token]) -> Iterator[Token]:
    """Cells of a table have no line of their own; that of their row serves."""
    last = None
    for token in tokens:
        last = token.map or last
        token.map = last
        yield token


def _block(path: str, token: Token, before: Token | None, earlier: Block | None) -> Block:
    language = token.info.split()[0] if token.info.split() else ""
    comment = before.content.strip() if before and before.type == "html_block" else ""
    try:
        marker = read_marker(comment)
    except ValueError as error:
        raise PageError(f"{path}:{_line(token)}: {error}") from None
    return Block(path, _line(token), language, token.content, marker, earlier)


def read_marker(comment: str) -> Marker | None:
    """The marker in an HTML comment; None where it is none. Raises ValueError."""
    match = re.fullmatch(r"<!--\s*run:\s*(.*?)\s*-->", comment, re.DOTALL)
    if match is None:
        return None
    kind, _, rest = match[1].partition(" ")
    if kind.rstrip(",") == "not":
        if not rest.strip():
            raise ValueError("`run: not` needs a reason: <!-- run: not, needs a real GPU -->")
        return Marker("not", reason=rest.strip())
    if kind not in KINDS:
        raise ValueError(f"unknown marker {kind!r}; there are {', '.join(sorted(KINDS))}")
    words: list[str] = []
    options: dict[str, str] = {}
    for word in shlex.split(rest):
        name, equals, value = word.partition("=")
        if not equals:
            words.append(word)
        elif name in _OPTIONS and (name != "exits" or value.isdigit()):
            options[name] = value
        else:
            raise ValueError(f"unknown option {word!r}; there are {', '.join(_OPTIONS)}")
    least, most = _WORDS[kind]
    if not least <= len(words) <= most:
        raise ValueError(f"`run: {kind}` takes {least} to {most} words, not {words}")
    return Marker(kind, tuple(words), options)


def needs_marker(block: Block) -> bool:
    """Whether a reader would type or copy the block."""
    return block.language in RUN_LANGUAGES or (
        block.language in ("", "text") and _PROMPT.search(block.text) is not None
    )


def _anchors(tokens: list[Token]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            slug = slugify("".join(c.content for c in content.children or ()))
            number = seen.get(slug, 0)
            seen[slug] = number + 1
            yield f"{slug}-{number}" if number else slug


def slugify(heading: str) -> str:
    """The anchor that GitHub gives a heading: mkdocs.yml has the site give the same."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
