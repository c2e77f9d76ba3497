"""`vfio-kit --help` fits a screen; `--version` says which source it is."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from vfio_kit import __version__
from vfio_kit.cli import _COMMANDS, SECTIONS, _cli
from vfio_kit.revision import built_from, commit_of, version_words

LINES, COLUMNS = 24, 80
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_help_fits_a_screen_with_its_prompt() -> None:
    lines = CliRunner().invoke(_cli, ["--help"]).stdout.splitlines()
    assert len(lines) < LINES
    assert max(map(len, lines)) < COLUMNS


def test_help_has_every_command_in_its_section() -> None:
    help_ = CliRunner().invoke(_cli, ["--help"]).stdout
    places = [help_.index(f"\n  {section} ") for section in SECTIONS]
    assert places == sorted(places)
    places = [help_.index(f" {name} ", places[0]) for name in _COMMANDS]
    assert places == sorted(places)
    for what in _COMMANDS.values():
        assert f" {what}\n" in help_


def test_version_has_the_commit_of_the_checkout() -> None:
    checkout = Path(__file__).parents[2]
    done = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("this is no checkout")
    shown = CliRunner().invoke(_cli, ["--version"]).stdout
    assert shown == f"vfio-kit {__version__} (commit {done.stdout[:12]})\n"


def checkout(folder: Path) -> Path:
    (folder / "vfio_kit").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / ".git").mkdir()
    return folder


def test_the_commit_of_a_branch_a_packed_branch_and_of_none(tmp_path: Path) -> None:
    git = checkout(tmp_path) / ".git"
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(tmp_path) is None  # a branch without a commit
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n")
    assert commit_of(tmp_path) == COMMIT
    (git / "refs/heads").mkdir(parents=True)
    (git / "refs/heads/main").write_text(f"{COMMIT[::-1]}\n")
    assert commit_of(tmp_path) == COMMIT[::-1]
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert commit_of(tmp_path) == COMMIT


def test_the_commit_of_a_further_working_tree(tmp_path: Path) -> None:
    main, other = checkout(tmp_path / "main"), checkout(tmp_path / "other")
    (other / ".git").rmdir()
    (other / ".git").write_text(f"gitdir: {main}/.git/worktrees/other\n")
    place = main / ".git/worktrees/other"
    place.mkdir(parents=True)
    (place / "HEAD").write_text("ref: refs/heads/topic\n")
    (place / "commondir").write_text("../..\n")
    (main / ".git/refs/heads").mkdir(parents=True)
    (main / ".git/refs/heads/topic").write_text(f"{COMMIT}\n")
    assert commit_of(other) == COMMIT


@pytest.mark.parametrize("head", ["", "ref: refs/heads/main", "nonsense", "\x00\xff"])
def test_a_repository_that_makes_no_sense_tells_nothing(tmp_path: Path, head: str) -> None:
    git = checkout(tmp_path) / ".git"
    (git / "HEAD").write_bytes(head.encode("latin-1"))
    assert commit_of(tmp_path) is None


def test_somebody_elses_repository_tells_nothing(tmp_path: Path) -> None:
    (checkout(tmp_path) / ".git/HEAD").write_text(COMMIT)
    (tmp_path / "pyproject.toml").unlink()
    assert commit_of(tmp_path) is None


def test_a_wheel_has_the_commit_that_it_was_built_from(tmp_path: Path) -> None:
    assert built_from(tmp_path) is None
    (tmp_path / "commit").write_text(f"{COMMIT}\n")
    assert built_from(tmp_path) == COMMIT
    assert version_words().startswith(__version__)
