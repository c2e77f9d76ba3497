"""docs/verify.md tells of all there is; its end is written from the tables of causes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.verified import WHEN, sound
from vfio_kit.analysis.guest.expect import KEYS
from vfio_kit.cli.verify_command import command
from vfio_kit.cli.verify_prometheus import prometheus_text
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.knowledge.signatures import SIGNATURES, XIDS
from vfio_kit.model.health import CheckStatus

PAGE = Path(__file__).parents[2] / "docs/verify.md"
_MARK = "in vfio_kit/knowledge/signatures. -->\n"


def causes() -> Iterator[str]:
    """Each rung with a table of its own, in the order of the ladder."""
    for rung in RUNGS:
        rows = {row.cause: row for row in reversed(SIGNATURES) if row.probe == rung.code}
        if rows:
            yield from ("", f"**{rung.code}**", "", "| cause | status | meaning |", "|---|---|---|")
            for cause, row in sorted(rows.items()):
                yield f"| `{cause}` | {row.status.value} | {row.meaning} |"
    yield from (
        "",
        "**kernel-log, Xid events**",
        "",
        "| cause | status | meaning |",
        "|---|---|---|",
    )
    for xid in XIDS:
        yield f"| `{xid.cause}` | {xid.status.value} | {xid.meaning} |"


def test_the_end_of_the_page_is_written_from_the_tables(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text("utf-8")
    written = text.partition(_MARK)[0] + _MARK + "\n".join(causes()) + "\n"
    if request.config.getoption("--update-goldens"):
        PAGE.write_text(written, encoding="utf-8")
    elif text != written:
        pytest.fail("pytest tests/unit --update-goldens writes it anew")


@pytest.mark.parametrize(
    "word",
    [
        *(f"| `{rung.code}` |" for rung in RUNGS),
        *(f"| `{status.value}` |" for status in CheckStatus),
        *(f"`{key.name}`" for key in KEYS),
        *(
            f"| `{line.split()[2]}` |"
            for line in prometheus_text([sound("k80", "k80")], WHEN).splitlines()
            if line.startswith("# TYPE ")
        ),
        *(
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--") and option not in ("--state-dir", "--json")
        ),
    ],
)
def test_the_page_tells_of(word: str) -> None:
    assert word in PAGE.read_text("utf-8")
