"""The end of docs/verify.md: the causes that each rung tells, from the tables of signatures."""

from collections.abc import Iterator

from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.knowledge.signatures import SIGNATURES, XIDS

_MARK = (
    "<!-- From here on written by scripts/docs --write; the tables are in "
    "vfio_kit/knowledge/signatures. -->\n"
)


def with_causes(page: str) -> str:
    """The page with its end as the tables have it."""
    head, mark, _ = page.partition(_MARK)
    assert mark, "docs/verify.md has lost the line below which it is written from the tables"
    return head + mark + "\n".join(_causes()) + "\n"


def _causes() -> Iterator[str]:
    """Each rung with a table of its own, in the order of the ladder."""
    for rung in RUNGS:
        rows = {row.cause: row for row in reversed(SIGNATURES) if row.probe == rung.code}
        if rows:
            yield from ("", f"**{rung.code}**", "", *_HEAD)
            for cause, row in sorted(rows.items()):
                yield f"| `{cause}` | {row.status.value} | {row.meaning} |"
    yield from ("", "**kernel-log, Xid events**", "", *_HEAD)
    for xid in XIDS:
        yield f"| `{xid.cause}` | {xid.status.value} | {xid.meaning} |"


_HEAD = ("| cause | status | meaning |", "|---|---|---|")
