"""What a release and its packagers rest on: versions, licences, workflows, and the dependencies."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from vfio_kit import __version__

CHECKOUT = Path(__file__).parents[2]
WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
REQUIREMENTS = {
    found.name: found
    for word in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["libvirt"])
    for found in [Requirement(word)]
}
PYTHONS = [
    found[1]
    for word in PROJECT["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", word))
]


def lowest(requirement: Requirement) -> str:
    """The version of `>=`, which is all that a requirement of ours says."""
    (specifier,) = requirement.specifier
    assert specifier.operator == ">="
    return specifier.version


# The changelog, https://keepachangelog.com/


def headings() -> list[tuple[str, str]]:
    """Version and date of each release, as they stand; what is not released has no date."""
    text = (CHECKOUT / "CHANGELOG.md").read_text("utf-8")
    found = re.findall(r"(?m)^## (.+)$", text)
    parsed = [re.fullmatch(r"\[(\S+)\](?: - (\d{4}-\d\d-\d\d))?", heading) for heading in found]
    assert all(parsed), found
    return [(match[1], match[2] or "") for match in parsed if match]


def test_the_changelog_knows_this_version() -> None:
    releases = [heading for heading in headings() if heading[0] != "Unreleased"]
    assert releases[0][0] == __version__
    versions = [Version(version) for version, _ in releases]
    assert versions == sorted(versions, reverse=True)
    assert all(date for _, date in releases)


def test_the_changelog_groups_changes_by_their_kinds() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text("utf-8")
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for release in re.split(r"(?m)^## ", text)[1:]:
        found = re.findall(r"(?m)^### (.+)$", release)
        assert found == [kind for kind in kinds if kind in found]


# Licences. `reuse lint` in scripts/test says that every file has one.


def test_the_licence_is_the_same_in_both_places() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    texts = [(CHECKOUT / name).read_bytes() for name in ("LICENSE", "LICENSES/Apache-2.0.txt")]
    assert texts[0] == texts[1]


# Workflows. check-jsonschema and zizmor in scripts/test look at their schema and their pins.


def workflow(name: str) -> Any:
    return yaml.safe_load((CHECKOUT / f".github/workflows/{name}.yml").read_text("utf-8"))


def test_every_change_is_checked_as_at_home_on_every_python() -> None:
    jobs = workflow("ci")["jobs"]
    assert jobs["fast"]["strategy"]["matrix"]["python"] == PYTHONS
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "scripts/test" in runs
    assert any(run.endswith("scripts/test --fast") for run in runs)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_calls_is_there(path: Path) -> None:
    found = re.findall(r"\bscripts/[\w-]+", path.read_text("utf-8"))
    assert found, "what is checked can be checked at home, too"
    assert [name for name in found if not (CHECKOUT / name).is_file()] == []


# Dependencies

PAGE = (CHECKOUT / "docs/packaging.md").read_text("utf-8")


def test_the_page_for_packagers_lists_every_dependency() -> None:
    rows = re.findall(r"(?m)^\| `([\w-]+)` \| ([\d.]+) \|", PAGE)
    assert dict(rows) == {name: lowest(found) for name, found in REQUIREMENTS.items()}


def test_the_lowest_versions_that_are_promised_are_those_that_are_tried() -> None:
    lines = (CHECKOUT / "packaging/lowest.txt").read_text("utf-8").splitlines()
    pins = {line for line in lines if "==" in line}
    without = REQUIREMENTS.keys() - {"libvirt-python"}  # compiled against the libvirt that is there
    assert pins == {f"{name}=={lowest(REQUIREMENTS[name])}" for name in without}


def test_the_supported_pythons_are_said_once() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in PAGE
