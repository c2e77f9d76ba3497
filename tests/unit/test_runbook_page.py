"""docs/runbook.md: its tables of causes and findings, and the examples in it, are the real ones."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from vfio_kit import errors
from vfio_kit.analysis.guest import ladder
from vfio_kit.knowledge.findings import CHAPTERS, FINDING_KINDS
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.knowledge.signatures import SIGNATURES, XIDS
from vfio_kit.model import Level
from vfio_kit.model.health import CheckStatus

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "runbook.md"
_WRITTEN = re.compile(r"(<!-- written: (.+?) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def page(text: str) -> str:
    """The text with each part between `written` and `end` made anew."""
    return _WRITTEN.sub(lambda part: part[1] + "\n".join(_part(part[2])) + "\n" + part[3], text)


def _part(name: str) -> Iterator[str]:
    kind, *words = name.split()
    if kind == "findings":
        return _findings()
    if kind == "example":
        return _example(*words)
    return _causes(kind)


def _causes(rung: str) -> Iterator[str]:
    """The rows of a rung's table; causes with one remedy are one row."""
    rows: dict[str, tuple[CheckStatus, str]] = {}
    for row in SIGNATURES:
        if row.probe == rung:
            rows.setdefault(row.cause, (row.status, row.remedy))
    if rung == "kernel-log":
        rows |= {xid.cause: (xid.status, xid.remedy) for xid in XIDS}
    yield from ("| cause | status | do |", "|---|---|---|")
    together: dict[tuple[CheckStatus, str], list[str]] = {}
    for cause, what in rows.items():
        together.setdefault(what, []).append(f"`{cause}`")
    for (status, remedy), causes in together.items():
        yield f"| {', '.join(causes)} | {status.value} | {remedy.replace('|', chr(92) + '|')} |"


def _findings() -> Iterator[str]:
    """What blocks, each with what it means; the others by their codes."""
    yield from ("| code | it blocks: |", "|---|---|")
    for kind in FINDING_KINDS:
        if kind.level is Level.BLOCK:
            yield f"| [{kind.code}](findings.md#{kind.code.lower()}) | {kind.title} |"
    rest = [kind.code for kind in FINDING_KINDS if kind.level is not Level.BLOCK]
    yield ""
    yield f"Warnings and remarks, with which a GPU goes: {', '.join(rest)}."


def _example(language: str, lint: str, *files: str) -> Iterator[str]:
    """One fence; of several files each stands below its name."""
    yield f"<!-- run: lint {lint} -->"
    yield f"```{language}"
    for file in files:
        if len(files) > 1:
            yield f"# {file}"
        yield (DOCS / "examples" / file).read_text("utf-8").removeprefix("---\n").rstrip("\n")
    yield "```"


def test_what_is_written_from_the_tables_is_current(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text("utf-8")
    assert len(_WRITTEN.findall(text)) == text.count("<!-- written: ")
    if request.config.getoption("--update-goldens"):
        PAGE.write_text(page(text), encoding="utf-8")
    elif text != page(text):
        pytest.fail("pytest tests/unit --update-goldens writes it anew")


def section(rung: str) -> str:
    return PAGE.read_text("utf-8").partition(f"\n### {rung}\n")[2].partition("\n### ")[0]


def test_the_rungs_stand_in_the_order_of_the_ladder() -> None:
    headings = re.findall(r"^### (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert headings == [rung.code for rung in RUNGS]


def told_by_the_code(module: Path) -> Iterator[tuple[int, str]]:
    """The causes that a rung's code gives by itself: where a check is made, its last argument."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 2:
            if node.func.id in ("Check", "_failed", "add"):
                yield from _constants(node.lineno, [node.args[-1]])
        elif isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["cause"]:
            yield from _constants(node.lineno, [node.value])


def _constants(line: int, values: Iterable[ast.expr]) -> Iterator[tuple[int, str]]:
    for value in values:
        parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        yield from (
            (line, word)
            for word in words
            if isinstance(word, str) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word)
        )


RUNGS_OF = {
    "cloud_init": ("cloud-init",),
    "cuda": ("device-query", "burn"),
    "hardware": ("pci", "link", "bar1"),
    "log": ("kernel-log",),
    "module": ("module",),
    "tools": ("nvidia-smi", "gpu-state"),
}
"""Which rungs a module of the ladder judges."""


@pytest.mark.parametrize("name", sorted(RUNGS_OF))
def test_every_cause_has_a_row_that_says_what_to_do(name: str) -> None:
    found = {cause for _, cause in told_by_the_code(Path(ladder.__path__[0]) / f"{name}.py")}
    assert found
    told = "".join(section(rung) for rung in RUNGS_OF[name])
    rows = " ".join(re.findall(r"^\| (`.+?`) \|", told, re.MULTILINE))
    assert sorted(cause for cause in found if f"`{cause}`" not in rows) == []


def test_every_module_of_the_ladder_is_looked_at() -> None:
    modules = {path.stem for path in Path(ladder.__path__[0]).glob("*.py")} - {"__init__"}
    assert modules == set(RUNGS_OF)


def test_what_is_named_is_there() -> None:
    """Codes, causes and rungs that prose and hand-written tables name."""
    text = PAGE.read_text("utf-8")
    codes = {kind.code for kind in FINDING_KINDS}
    assert set(re.findall(r"\bVK\d{3}\b", text)) <= codes
    assert set(re.findall(r"\b(VK\d)xx\b", text)) == set(CHAPTERS)
    numbers = {xid.number for xid in XIDS}
    (listed,) = re.findall(r"Xid ([\d, ]+)", text.partition("## Escalate")[2])
    assert {int(number) for number in listed.strip(", ").split(",")} <= numbers
    known = {row.cause for row in SIGNATURES} | {rung.code for rung in RUNGS}
    for name in RUNGS_OF:
        known |= {cause for _, cause in told_by_the_code(Path(ladder.__path__[0]) / f"{name}.py")}
    escalated = text.partition("## Escalate")[2].partition("\n## ")[0]
    named = re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", escalated)
    assert named and set(named) - {"nvidia-smi"} <= known


def test_every_exit_status_of_verify_is_in_the_table() -> None:
    table = PAGE.read_text("utf-8").partition("## What the exit status says")[2]
    rows = set(map(int, re.findall(r"^\| (\d+) \|", table.partition("\n## ")[0], re.MULTILINE)))
    of_errors = {
        getattr(errors, name).exit_code
        for name in ("UsageError", "Refused", "HostError", "GuestError")
    }
    assert of_errors | {0, 1, 130} == rows
