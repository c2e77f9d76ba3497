"""Which source this is: the version, and the commit where it is known."""

import re
from pathlib import Path

from vfio_kit import __version__

_PACKAGE = Path(__file__).resolve().parent
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHOWN = 12
"""Digits of a commit: enough to find it by, in any repository."""


def version_words() -> str:
    """`0.1.0 (commit 2e83f03a1b2c)`; the version alone where nothing tells the commit."""
    found = built_from(_PACKAGE / "_assets") or commit_of(_PACKAGE.parent)
    return f"{__version__} (commit {found[:_SHOWN]})" if found else __version__


def built_from(assets: Path) -> str | None:
    """The commit that the build wrote into a wheel."""
    return _as_commit(_line(assets / "commit"))


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out in this folder; None where it is none of vfio-kit.

    By gitrepository-layout(5), without a process: HEAD names the commit, or a branch, which is a
    file or a line of packed-refs. A further working tree has a file `.git` that leads to its own
    HEAD, from which `commondir` leads to the branches.
    """
    if not (checkout / "vfio_kit").is_dir() or not (checkout / "pyproject.toml").is_file():
        return None
    git = checkout / ".git"
    if git.is_file():
        git = checkout / _line(git).removeprefix("gitdir:").strip()
    head = _line(git / "HEAD")
    if not head.startswith("ref:"):
        return _as_commit(head)
    branch = head.removeprefix("ref:").strip()
    common = git / (_line(git / "commondir") or ".")
    found = (_line(git / branch), _line(common / branch), _packed(common / "packed-refs", branch))
    return next(filter(None, map(_as_commit, found)), None)


def _packed(file: Path, branch: str) -> str:
    lines = (line.split(" ", 1) for line in _text(file).splitlines())
    return next((line[0] for line in lines if line[1:] == [branch]), "")


def _as_commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None


def _line(file: Path) -> str:
    return _text(file).partition("\n")[0].strip()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):  # not there, closed to this user, or not of git
        return ""
