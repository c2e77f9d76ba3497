"""vfio-kit explain"""

import re
from itertools import chain, repeat
from typing import Any

import click

from vfio_kit.cli import completing
from vfio_kit.cli.common import json_option, print_json, wrapped
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.findings import CHAPTERS, FINDING_KINDS, FindingKind
from vfio_kit.knowledge.findings.prose import Block, blocks
from vfio_kit.model import Level

_SUGGESTED = 5
_COLOURS = {Level.BLOCK: "red", Level.WARN: "yellow", Level.INFO: None}


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...", shell_complete=completing.finding_codes)
@json_option
def command(codes: tuple[str, ...], as_json: bool) -> None:
    """Tell the whole story behind a finding: what was seen, why it matters, what to do.

    CODE is what a finding begins with: VK101, or 101. Without one all findings are listed.
    """
    kinds = _wanted(codes) if codes else FINDING_KINDS
    if as_json:
        print_json({"schema": "vfio-kit/explain/1", "findings": [_json(kind) for kind in kinds]})
    elif codes:
        for number, kind in enumerate(kinds):
            click.echo("\n" * min(number, 1), nl=False)
            _print_story(kind)
    else:
        _print_list()


def _wanted(codes: tuple[str, ...]) -> tuple[FindingKind, ...]:
    """The rows of these codes, each once; raises UsageError for one that is none."""
    by_code = {kind.code: kind for kind in FINDING_KINDS}
    found = []
    for code in codes:
        name = re.sub(r"^(VK)?", "VK", code.strip().upper())
        if name not in by_code:
            raise UsageError(f"no finding has the code {code!r}", _similar(name, list(by_code)))
        found.append(by_code[name])
    return tuple(dict.fromkeys(found))


def _similar(name: str, codes: list[str]) -> str:
    """The hint: codes that look alike, else findings that have the word in their titles."""
    import difflib

    word = name.removeprefix("VK").lower()
    close = difflib.get_close_matches(name, codes, n=len(codes), cutoff=0.75)
    close.sort(key=lambda code: (not code.startswith(name[:4]), code))
    close = close or [kind.code for kind in FINDING_KINDS if word and word in kind.title.lower()]
    mostly = f"did you mean {', '.join(close[:_SUGGESTED])}?\n" if close else ""
    return f"{mostly}vfio-kit explain lists all"


def _print_list() -> None:
    for prefix, chapter in CHAPTERS.items():
        click.secho(f"{prefix}xx  {chapter}", bold=True)
        for kind in FINDING_KINDS:
            if kind.code.startswith(prefix):
                level = click.style(f"{kind.level.value:<5}", fg=_COLOURS[kind.level])
                click.echo(f"  {kind.code}  {level}  {kind.title}")
    click.echo("next: vfio-kit explain VK101")


def _print_story(kind: FindingKind) -> None:
    for line in wrapped(f"{kind.code}  {kind.title}", "", " " * 7):
        click.secho(line, bold=True)
    for line in wrapped(f"{kind.level.value}: {kind.weight}", "", ""):
        click.secho(line, fg=_COLOURS[kind.level])
    for block in blocks(kind.story):
        click.echo()
        _print_block(block, "", "")
    click.secho("\nwhat to do", bold=True)
    for number, step in enumerate(kind.remedy, 1):
        label = f"{number}. " if len(kind.remedy) > 1 else ""
        rest = " " * (2 + len(label))
        for first, block in zip(chain([f"  {label}"], repeat(rest)), blocks(step), strict=False):
            _print_block(block, first, rest)
    click.secho("\nsources", bold=True)
    for source in kind.sources:
        click.echo(f"  {source}")


def _print_block(block: Block, first: str, rest: str) -> None:
    for line in [f"{rest}    {block.text}"] if block.verbatim else wrapped(block.text, first, rest):
        click.echo(line)


def _json(kind: FindingKind) -> dict[str, Any]:
    return {
        "code": kind.code,
        "level": kind.level.value,
        "acceptable": kind.acceptable,
        "title": kind.title,
        "story": _text(kind.story),
        "remedy": [_text(step) for step in kind.remedy],
        "sources": list(kind.sources),
    }


def _text(text: str) -> str:
    """Paragraphs with an empty line between them; kept lines are indented by four spaces."""
    shown = [f"    {b.text}" if b.verbatim else b.text for b in blocks(text)]
    return "\n\n".join(shown).replace("\n\n    ", "\n    ")
