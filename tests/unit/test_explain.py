"""The table of findings is whole, and `explain` and docs/findings.md tell all of it."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import jsonschema
import pytest

import vfio_kit
from tests.docs.written.findings import findings_page
from tests.unit.test_cli import document
from tests.unit.test_cli import vfio_kit as run
from vfio_kit.cli import _COMMANDS
from vfio_kit.knowledge import findings
from vfio_kit.knowledge.findings import CHAPTERS, FINDING_KINDS, FindingKind, finding
from vfio_kit.knowledge.findings.prose import Block, blocks
from vfio_kit.model import Level

PACKAGE = Path(vfio_kit.__file__).parent
SCHEMA = json.loads((PACKAGE / "schemas/explain-1.schema.json").read_text("utf-8"))
CODES = [kind.code for kind in FINDING_KINDS]
MODULES = dict(
    zip(
        CHAPTERS,
        ("isolation", "host", "device", "loss", "reading", "software", "placement"),
        strict=True,
    )
)

every_kind = pytest.mark.parametrize("kind", FINDING_KINDS, ids=CODES)


def texts(kind: FindingKind) -> tuple[str, ...]:
    return (kind.story, *kind.remedy)


def kept_lines(kind: FindingKind) -> list[str]:
    return [block.text for text in texts(kind) for block in blocks(text) if block.verbatim]


def prose(kind: FindingKind) -> str:
    return "\n".join(b.text for text in texts(kind) for b in blocks(text) if not b.verbatim)


# The table.


def test_codes_are_counted_in_hundreds_each_once() -> None:
    assert sorted(set(CODES)) == CODES
    assert {code[:3] for code in CODES} == set(CHAPTERS)
    rows = Counter(CODES)
    for prefix, name in MODULES.items():
        module = import_module(f"{findings.__name__}.{name}")
        own = [value.code for value in vars(module).values() if isinstance(value, FindingKind)]
        assert all(re.fullmatch(rf"{prefix}\d\d", code) for code in own), name
        rows.subtract(own)
    assert not any(rows.values()), "each row is in the module of its hundred"


def test_every_finding_is_given_somewhere_in_the_analysis_or_in_the_plan() -> None:
    used = set()
    for path in (*(PACKAGE / "analysis").rglob("*.py"), *(PACKAGE / "plan").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names = {name for name, value in vars(findings).items() if isinstance(value, FindingKind)}
    assert names - used == set()


def test_a_finding_takes_its_weight_from_the_table() -> None:
    for kind in FINDING_KINDS:
        found = finding(kind, None, "it is so", "do this")
        assert (found.code, found.level, found.acceptable) == (
            kind.code,
            kind.level,
            kind.acceptable,
        )


def test_only_what_blocks_can_be_accepted() -> None:
    assert {kind.level for kind in FINDING_KINDS if kind.acceptable} == {Level.BLOCK}


@every_kind
def test_a_row_is_whole(kind: FindingKind) -> None:
    assert 10 < len(kind.title) <= 66 and not kind.title.endswith(".")
    assert len(kind.story.split()) > 60, "a story, not a sentence"
    assert kind.remedy and all(step.strip() for step in kind.remedy)
    assert kind.sources and len(set(kind.sources)) == len(kind.sources)
    assert all(re.fullmatch(r"https://\S+", source) for source in kind.sources)


@every_kind
def test_what_can_be_accepted_says_how_and_nothing_else_does(kind: FindingKind) -> None:
    assert any("--accept-loss ADDR" in step for step in kind.remedy) == kind.acceptable


@every_kind
def test_paragraphs_end_as_sentences_do(kind: FindingKind) -> None:
    for text in texts(kind):
        found = list(blocks(text))
        assert not found[0].verbatim, "a command is introduced"
        for block, following in zip(found, [*found[1:], Block("")], strict=True):
            ends = ".:" if following.verbatim else "."
            assert block.verbatim or block.text[-1] in ends, block.text


@every_kind
def test_texts_survive_markdown(kind: FindingKind) -> None:
    for text in texts(kind):
        for block in blocks(text):
            assert block.verbatim or block.text.count("`") % 2 == 0, block.text
    bare = re.sub(r"`[^`]*`", "", prose(kind))
    assert not re.search(r"[*<>\[\]|]|(?<![A-Za-z0-9])_(?!PXM)", bare)


@every_kind
def test_other_codes_and_commands_that_are_named_exist(kind: FindingKind) -> None:
    everything = "\n".join((prose(kind), *kept_lines(kind)))
    assert set(re.findall(r"VK\d+", everything)) <= set(CODES) - {kind.code}
    assert set(re.findall(r"vfio-kit ([a-z]+)\b", " ".join(kept_lines(kind)))) <= set(_COMMANDS)
    assert set(re.findall(r"`vfio-kit ([a-z]+)\b", prose(kind))) <= set(_COMMANDS)


@every_kind
def test_nothing_of_anybody_is_in_the_texts(kind: FindingKind) -> None:
    everything = "\n".join((*texts(kind), *kind.sources))
    assert not re.search(r"/(home|Users|root|work)/|@(?!vger\.kernel\.org)\w", everything)


@every_kind
def test_commands_parse(kind: FindingKind) -> None:
    commands = [line for line in kept_lines(kind) if line[0] not in "<-"]
    done = subprocess.run(
        ["bash", "-n"], input="\n".join(commands), check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, commands), default=0) <= 88


# docs/findings.md


def test_the_page_lists_all_and_has_an_anchor_for_each() -> None:
    page = findings_page()
    assert re.findall(r"\]\(#(vk\d+)\)", page) == [code.lower() for code in CODES]
    assert re.findall(r"(?m)^## (VK\d+)$", page) == CODES


# The command.


@pytest.mark.parametrize("code", ["VK101", "vk101", "101", " Vk101 "])
def test_a_code_may_be_written_as_it_comes(code: str) -> None:
    result = run("explain", code)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("VK101  a foreign endpoint shares the IOMMU group\nblock: ")


def test_several_codes_are_told_in_the_order_given_each_once() -> None:
    lines = run("explain", "310", "VK101", "vk310").stdout.splitlines()
    assert [line[:5] for line in lines if re.match(r"VK\d{3}  ", line)] == ["VK310", "VK101"]
    assert lines[lines.index("VK101  a foreign endpoint shares the IOMMU group") - 1] == ""


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_every_story_wraps(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    kept = {line for kind in FINDING_KINDS for line in kept_lines(kind)}
    for line in run("explain", *CODES).stdout.splitlines():
        if line.strip() in kept or line.startswith("  https://"):
            continue
        longest_word = max(map(len, line.split()), default=0)
        assert len(line) <= max(min(width, 100), longest_word + 6), line


@every_kind
def test_the_whole_story_is_told(kind: FindingKind) -> None:
    told = " ".join(run("explain", kind.code).stdout.split())
    for text in texts(kind):
        for block in blocks(text):
            assert " ".join(block.text.split()) in told
    assert all(source in told for source in kind.sources)


def test_one_step_has_no_number() -> None:
    told = run("explain", "VK502").stdout
    assert (
        "what to do\n  Scan as root; it changes nothing on the host:\n      sudo vfio-kit" in told
    )


def test_without_a_code_all_are_listed_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("explain")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.findall(r"(?m)^  (VK\d+)  (?:block|warn |info )  \S", result.stdout) == CODES
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("codes", [(), ("VK101",), tuple(CODES)], ids=["all", "one", "each"])
def test_json_is_as_the_schema_says(codes: tuple[str, ...]) -> None:
    found = document(run("explain", "--json", *codes))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert [row["code"] for row in found["findings"]] == list(codes or CODES)
    for row in found["findings"]:
        assert set(row) == set(SCHEMA["$defs"]["finding"]["properties"])


def test_json_keeps_commands_apart() -> None:
    (row,) = document(run("explain", "--json", "VK502"))["findings"]
    assert row["remedy"] == [
        "Scan as root; it changes nothing on the host:\n    sudo vfio-kit scan"
    ]
    assert [line[:8] for line in row["story"].split("\n\n")] == ["The scan", "A scan t"]


def test_the_schema_is_one_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    row = SCHEMA["$defs"]["finding"]
    assert set(row["required"]) == set(row["properties"])
    assert all(value["description"] for value in row["properties"].values())


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("VK11", "did you mean VK110, VK111, VK112, VK113, VK114?"),
        ("swap", "did you mean VK402?"),
        ("VK999", None),
        ("", None),
    ],
)
def test_an_unknown_code_is_a_usage_error(code: str, hint: str | None) -> None:
    result = run("explain", "VK101", code)
    assert (result.exit_code, result.stdout) == (2, "")
    hints = ["  hint: vfio-kit explain lists all"]
    hints[:0] = [] if hint is None else [f"  hint: {hint}"]
    assert result.stderr.splitlines() == [f"error: no finding has the code {code!r}", *hints]


def test_it_needs_no_more_than_the_table() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from vfio_kit.cli import _cli\n"
        "assert CliRunner().invoke(_cli, ['explain', 'VK101']).exit_code == 0\n"
        "print(*(name.partition('.')[0] for name in sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(loaded) & {"pydantic", "jinja2", "paramiko", "libvirt", "pyudev"} == set()
