"""docs/findings.md, as it is written from the table."""

import textwrap
from collections.abc import Iterator
from itertools import chain, groupby

from vfio_kit.knowledge.findings import CHAPTERS, FINDING_KINDS, LEVELS, FindingKind
from vfio_kit.knowledge.findings.prose import blocks

_TOP = """\
# Findings

<!-- Written by scripts/docs --write; the table is in vfio_kit/knowledge/findings. -->

What `vfio-kit scan` and `vfio-kit plan` find has a code that never changes its meaning; `vfio-kit
explain CODE` tells the same as this page. ADDR stands for the address of the device that a finding
names, as in 0000:01:00.0; N for the number of an IOMMU group.
"""


def findings_page() -> str:
    """The page: levels, the list, and each finding with its story below an anchor."""
    return "\n".join(chain([_TOP], _levels(), _list(), *map(_section, FINDING_KINDS)))


def _levels() -> Iterator[str]:
    yield from ("| level | meaning |", "|---|---|")
    yield from (f"| {level.value} | {meaning} |" for level, meaning in LEVELS.items())
    yield ""
    yield (
        "`--accept-loss ADDR` lifts the blocks that are marked below, for the device whose address "
        "it names."
    )
    yield ""


def _list() -> Iterator[str]:
    for prefix, chapter in CHAPTERS.items():
        yield f"**{prefix}xx: {chapter}**"
        yield ""
        yield from ("| code | level | finding |", "|---|---|---|")
        for kind in FINDING_KINDS:
            if kind.code.startswith(prefix):
                level = f"{kind.level.value}, `--accept-loss`" if kind.acceptable else kind.level
                yield f"| [{kind.code}](#{kind.code.lower()}) | {level} | {kind.title} |"
        yield ""


def _section(kind: FindingKind) -> Iterator[str]:
    yield f"## {kind.code}"
    yield ""
    yield from _wrapped(f"**{kind.title}** ({kind.level.value}: {kind.weight})")
    yield ""
    yield from _paragraphs(kind.story, "", "")
    yield "What to do:"
    yield ""
    for number, step in enumerate(kind.remedy, 1):
        label = f"{number}.  " if len(kind.remedy) > 1 else ""
        yield from _paragraphs(step, label, "    " if label else "")
    yield "Sources:"
    yield ""
    yield from (f"- <{source}>" for source in kind.sources)
    yield ""


def _paragraphs(text: str, first: str, rest: str) -> Iterator[str]:
    """Consecutive lines that are kept are one fence. Four spaces in below a number: what the
    site's Markdown and GitHub's both take for a part of the step."""
    margin = first
    for verbatim, group in groupby(blocks(text), lambda block: block.verbatim):
        if verbatim:
            yield f"{margin}```text"
            yield from (f"{rest}{block.text}" for block in group)
            yield f"{rest}```"
            yield ""
        else:
            for block in group:
                yield from _wrapped(block.text, margin, rest)
                yield ""
                margin = rest
        margin = rest


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        100,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
