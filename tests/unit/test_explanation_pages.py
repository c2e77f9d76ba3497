"""docs/explanation: the tables in prose are those of the code."""

import re
from pathlib import Path

import pytest

from vfio_kit.knowledge.branches import BRANCHES
from vfio_kit.knowledge.gpus import FAMILIES
from vfio_kit.model import Verdict

PAGES = Path(__file__).parents[2] / "docs/explanation"


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the table whose head begins with `first`."""
    lines = (PAGES / page).read_text("utf-8").splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    table = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


@pytest.mark.parametrize("row", rows("driver-470.md", "generation"), ids=lambda row: row[0])
def test_what_a_generation_takes(row: list[str]) -> None:
    generations, _, capabilities, branch, cuda = row
    families = [family for family in FAMILIES if family.architecture in generations]
    assert families
    if branch == "none yet":
        assert {family.last_branch for family in families} == {None}
        return
    (number,) = {family.last_branch for family in families}
    assert branch == f"**{number}**"
    (spoken,) = [str(row.cuda) for row in BRANCHES if row.number == number]
    assert cuda.startswith(spoken)
    told = re.findall(r"\d\.\d", capabilities)
    found = sorted(str(family.compute_capability) for family in families)
    assert {told[0], told[-1]} == {found[0], found[-1]}


def test_every_verdict_has_its_row() -> None:
    told = {row[0].strip("`") for row in rows("iommu-groups.md", "verdict")}
    assert told == {verdict.value for verdict in Verdict}


def test_the_default_of_a_spec_is_the_page_s() -> None:
    from vfio_kit.knowledge.provisioning.drivers import DEFAULT_DRIVER, DRIVER_ROWS

    text = (PAGES / "driver-470.md").read_text("utf-8")
    assert f"{DEFAULT_DRIVER} is vfio-kit's default" in text
    assert {guest for guest, name in DRIVER_ROWS if name == DEFAULT_DRIVER} == {
        "ubuntu-22.04",
        "debian-12",
    }
