"""WRITTEN: the pages of the manual that are made from tables, schemas and the commands themselves.

`python -m tests.docs --write` (so scripts/docs --write) writes them anew; test_written.py holds
them current.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.docs.written.causes import with_causes
from tests.docs.written.commands import commands_page
from tests.docs.written.documents import documents_page
from tests.docs.written.exits import with_exits
from tests.docs.written.findings import findings_page
from tests.docs.written.manuals import MAN_PAGES, manual
from tests.docs.written.spec_file import spec_page
from vfio_kit.cli.shells import SCRIPTS, script


@dataclass(frozen=True, slots=True)
class Written:
    """path: from the checkout. page: what is due, of what is there ("" for a page to come)."""

    path: str
    page: Callable[[str], str]

    def due(self, checkout: Path) -> str:
        file = checkout / self.path
        return self.page(file.read_text("utf-8") if file.exists() else "")


def _same(page: Callable[[], str]) -> Callable[[str], str]:
    """Whatever is there."""
    return lambda _: page()


WRITTEN: tuple[Written, ...] = (
    Written("docs/findings.md", lambda _: findings_page()),
    Written("docs/verify.md", with_causes),
    Written("docs/exit-codes.md", with_exits),
    Written("docs/reference/commands.md", lambda _: commands_page()),
    Written("docs/reference/spec.md", lambda _: spec_page()),
    Written("docs/reference/json.md", lambda _: documents_page()),
    *(Written(f"packaging/man/{name}", _same(partial(manual, name))) for name in MAN_PAGES),
    *(
        Written(f"packaging/completions/{file}", _same(partial(script, shell)))
        for shell, file in SCRIPTS.items()
    ),
)


def write_all(checkout: Path) -> list[str]:
    """Writes what is not current; returns the paths."""
    changed = []
    for one in WRITTEN:
        file, due = checkout / one.path, one.due(checkout)
        if not file.exists() or file.read_text("utf-8") != due:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(due, encoding="utf-8")
            changed.append(one.path)
    return changed
