"""What the manual names is there: commands, options, findings, exit statuses, files, tests."""

import re

import pytest

from tests.docs.names import BETWEEN_OURSELVES, ENVIRONMENT, FOREIGN, wrong_call, wrong_names
from tests.docs.pages import CHECKOUT, Page, manual, parse_page
from tests.docs.written import manual_rows

PAGES = manual()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_name_of_the_page_is_one(page: Page) -> None:
    if page.path == "CHANGELOG.md":  # tells of what was, too
        return
    assert not list(wrong_names(page))


def test_options_of_other_programs_are_named_somewhere() -> None:
    codes = " ".join(place.text for page in PAGES for place in page.codes)
    blocks = " ".join(block.text for page in PAGES for block in page.blocks)
    assert not [option for option in FOREIGN if option not in codes + blocks]


def test_environment_variables_are_those_that_are_read() -> None:
    sources = [*(CHECKOUT / "vfio_kit").rglob("*.py"), CHECKOUT / "scripts/lib.sh"]
    read = {
        name
        for path in sources
        for name in re.findall(r"\bVFIO_KIT_[A-Z_]+\b", path.read_text("utf-8"))
    }
    assert read == ENVIRONMENT | BETWEEN_OURSELVES


def test_the_reference_has_every_variable() -> None:
    page = (CHECKOUT / "docs/reference/files.md").read_text("utf-8")
    due = ENVIRONMENT | set(manual_rows.ENVIRONMENT)
    assert not [name for name in due if f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("`vfio-kit up --autostart`", []),
        ("`vfio-kit up --autostrat`", ["vfio-kit up has no option --autostrat"]),
        ("`vfio-kit image fetch --serial 1`", []),
        ("`vfio-kit image fetch --gpu`", ["vfio-kit image fetch has no option --gpu"]),
        ("`vfio-kit raise`", ["vfio-kit has no command raise"]),
        ("`vfio-kit COMMAND --help`", []),
        ("`scan --tree`, `--accept-loss`", []),
        ("`scan --forest`, `--accept-gain`", [
            "vfio-kit scan has no option --forest",
            "no command has the option --accept-gain",
        ]),
        ("VK101 and VK999", ["no finding VK999"]),
        ("exit status 3, exit code 9", ["no exit status 9"]),
        ("tests/docs/names.py, `vfio_kit/plan/`, tests/hosts/*.toml", []),
        ("tests/docs/nemes.py, `vfio_kit/plane/`", [
            "no file tests/docs/nemes.py", "no file vfio_kit/plane/",
        ]),
        ("tests/docs/test_names.py::test_no", ["no test test_no in tests/docs/test_names.py"]),
        ("`VFIO_KIT_COLOUR`", ["no environment variable VFIO_KIT_COLOUR"]),
        ("```text\nsudo vfio-kit scan --forest | head\n```", [
            "vfio-kit scan has no option --forest",
        ]),
    ],
)  # fmt: skip
def test_a_name_of_nothing_is_told(text: str, why: list[str]) -> None:
    assert [line.partition(": ")[2] for line in wrong_names(parse_page("x.md", text))] == why


@pytest.mark.parametrize("call", ["-o. x", "scan -h", "render --output libvirt -o DIR"])
def test_words_that_are_taken(call: str) -> None:
    assert wrong_call(call.split()) is None or call.startswith("-o")
