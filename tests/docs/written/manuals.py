"""The manual pages packaging/man/*.1, as they are written from the commands' own declarations."""

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain

import click

from tests.docs.written.exits import EXITS_OF, MEANINGS
from tests.docs.written.manual_rows import ENVIRONMENT, MANUALS, PROGRAM, Manual
from vfio_kit.cli import _COMMANDS, SECTIONS, _cli

_TOP = '.\\" Written by scripts/docs --write, from the declarations of the commands.\n'
_REVISED = "2026-11-22"
"""man-pages(7) wants a date; that of the last change of this layout."""


MAN_PAGES = ("vfio-kit.1", *(f"vfio-kit-{name}.1" for name in _COMMANDS))
"""Their names."""


def manual(name: str) -> str:
    """The page of this name."""
    return man_pages()[name]


@cache
def man_pages() -> dict[str, str]:
    """File name -> page, of the program and of each of its commands."""
    root = click.Context(_cli, info_name="vfio-kit", **_cli.context_settings)
    pages = {"vfio-kit.1": _program_page(root)}
    for section in SECTIONS.values():
        for name, what in section.items():
            command = _cli.get_command(root, name)
            assert command is not None
            context = click.Context(command, parent=root, info_name=name)
            pages[f"vfio-kit-{name}.1"] = _command_page(name, what, command, context)
    return pages


def _program_page(ctx: click.Context) -> str:
    lines = chain(
        _head("vfio-kit", "GPU passthrough, end to end"),
        [".SH SYNOPSIS", r"\fBvfio\-kit\fR [\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]..."],
        [".SH DESCRIPTION"],
        _paragraphs(
            "vfio-kit takes a GPU that the host cannot drive, a Quadro M4000 or a Tesla K80 for "
            "example, into a VM that can, proves over SSH that it computes there, and puts the "
            "host back. It changes nothing before `up`; `plan` says what that does, and what "
            "undoes each step.\n\n"
            "The result is on stdout, progress and errors on stderr."
        ),
        [".SH COMMANDS"],
        chain.from_iterable(_commands(name, what) for name, what in SECTIONS.items()),
        [".SH OPTIONS"],
        _options(_cli, ctx),
        [".SH EXIT STATUS"],
        _statuses(MEANINGS),
        _foot(PROGRAM, ENVIRONMENT),
    )
    return _TOP + "\n".join(lines) + "\n"


def _commands(section: str, commands: dict[str, str]) -> Iterator[str]:
    yield f".SS {section.capitalize()}"
    for name, what in commands.items():
        yield from (".TP", rf"\fBvfio\-kit\-{name}\fR(1)", _text(what))


def _command_page(name: str, what: str, command: click.Command, ctx: click.Context) -> str:
    lines = chain(
        _head(f"vfio-kit-{name}", what),
        [".SH SYNOPSIS", *_synopses(command, ctx)],
        [".SH DESCRIPTION"],
        _paragraphs(command.help or ""),
        _parameters(command, ctx),
        [".SH EXIT STATUS"],
        _exits(command, (name,)),
        _foot(MANUALS[name], {v: ENVIRONMENT[v] for v in sorted(_variables(command))}),
    )
    return _TOP + "\n".join(lines) + "\n"


def _head(title: str, what: str) -> Iterator[str]:
    yield f'.TH {title.upper()} 1 {_REVISED} vfio\\-kit "vfio\\-kit"'
    yield from (".nh", ".ad l")  # what is copied from a page has no hyphens of its own
    yield from (".SH NAME", f"{_text(title, plain=True)} \\- {_text(what)}")


def _synopses(command: click.Command, ctx: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for number, (inner, name) in enumerate(_inner(command, ctx)):
            yield from [".br"] * min(number, 1)
            yield _synopsis(inner, click.Context(inner, parent=ctx, info_name=name))
    else:
        yield _synopsis(command, ctx)


def _inner(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Command, str]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield command, name


def _synopsis(command: click.Command, ctx: click.Context) -> str:
    pieces = (_word(piece) for piece in command.collect_usage_pieces(ctx))
    return " ".join((rf"\fB{_text(ctx.command_path, plain=True)}\fR", *pieces))


def _parameters(command: click.Command, ctx: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield ".SH OPTIONS"
        yield from _options(command, ctx)
        return
    yield ".SH COMMANDS"
    for inner, name in _inner(command, ctx):
        context = click.Context(inner, parent=ctx, info_name=name)
        yield f".SS {_text(context.command_path, plain=True)}"
        yield from _paragraphs(inner.help or "")
        yield from _options(inner, context)


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(ctx)
        if record is None or not record[1]:  # an argument, of which the description tells
            continue
        names, what = record
        yield from (".TP", " ".join(_word(word) for word in names.split(" ")), _text(what))
    yield from _HELP


_HELP = (".TP", r"\fB\-h\fR, \fB\-\-help\fR", "Show this message and exit.")
"""Not asked of click, which keeps it as the first who asked wanted it."""


def _variables(command: click.Command) -> set[str]:
    """The environment variables that stand for options."""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    found = {parameter.envvar for parameter in command.params}
    return {"NO_COLOR"}.union((v for v in found if isinstance(v, str)), *map(_variables, inner))


def _exits(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.commands:
            yield f".SS {_text(' '.join(('vfio-kit', *path, name)), plain=True)}"
            yield from _statuses(EXITS_OF[(*path, name)])
    else:
        yield from _statuses(EXITS_OF[path])
    yield from (".PP", _text("1, 2 and 130 may be those of any command:"))
    yield f"{_reference('vfio-kit(1)')}."


def _statuses(rows: Mapping[int, str]) -> Iterator[str]:
    for status, what in sorted(rows.items()):
        yield from (".TP", rf"\fB{status}\fR", _text(what))


def _foot(manual: Manual, variables: dict[str, str]) -> Iterator[str]:
    if variables:
        yield ".SH ENVIRONMENT"
        for name, what in variables.items():
            yield from (".TP", rf"\fB{name}\fR", _text(what))
    if manual.files:
        yield ".SH FILES"
        for path, what in manual.files:
            yield from (".TP", rf"\fI{_text(path, plain=True)}\fR", _text(what))
    yield ".SH EXAMPLES"
    for number, (what, line) in enumerate(manual.examples):
        yield from [".PP"] * min(number, 1)
        yield from (_text(what), ".PP", ".RS 4", ".EX", _text(line, plain=True), ".EE", ".RE")
    yield ".SH SEE ALSO"
    yield ",\n".join(_reference(page) for page in manual.see_also)


def _reference(page: str) -> str:
    name, section = page.rstrip(")").split("(")
    return rf"\fB{_text(name, plain=True)}\fR({section})"


def _paragraphs(help_: str) -> Iterator[str]:
    """Those of a docstring; one that click is told to leave as it is (\\b) keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(help_))):
        lines = paragraph.strip("\n").split("\n")
        yield from [".PP"] * min(number, 1)
        if lines[0].strip() == "\b":
            yield from (".nf", *(_text(line, plain=True) for line in lines[1:]), ".fi")
        else:
            yield _text(" ".join(" ".join(lines).split()))


def _word(word: str) -> str:
    """Options bold, what they take in italics."""
    text = _text(word, plain=True)
    if word.startswith("-"):
        return rf"\fB{text.removesuffix(',')}\fR" + "," * word.endswith(",")
    return rf"\fI{text}\fR" if re.search(r"[A-Za-z]", word) else text


def _text(text: str, *, plain: bool = False) -> str:
    """Escaped for roff; `words` and options become bold, unless all is to be plain."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(c if ord(c) < 0x80 else rf"\[u{ord(c):04X}]" for c in escaped)
    if not plain:
        escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    lines = [escaped] if plain else _wrapped(escaped)
    return "\n".join(rf"\&{line}" if line[:1] in (".", "'") else line for line in lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 79, break_long_words=False, break_on_hyphens=False)
