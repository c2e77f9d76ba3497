"""docs/reference/commands.md: every command with its options, from the click tree."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from tests.docs.pages import CHECKOUT
from tests.docs.written.exits import EXITS_OF, MEANINGS
from tests.docs.written.markdown import NOTE, code, paragraphs, plain, table
from vfio_kit.cli import _COMMANDS, _cli

_TOP = f"""\
# Commands

{NOTE.format("the commands themselves")}

What `vfio-kit COMMAND --help` says, and what else there is to know of each. An option that may be
repeated has … behind its value. [Who may do what](../permissions.md) has the reasons for root, and
[exit codes](../exit-codes.md) the whole table of statuses; 1 is a bug, 2 usage, and 130 an
interrupt everywhere.

"""
_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]")


def commands_page() -> str:
    """Commands in the order of the work, those of a group behind it."""
    return _TOP + "\n".join([*_list(), *_global(), *_sections()]).rstrip() + "\n"


def _list() -> Iterator[str]:
    rows = [(f"[`{name}`](#vfio-kit-{name})", plain(what)) for name, what in _COMMANDS.items()]
    yield from table(("command", "what it does"), rows)


def _global() -> Iterator[str]:
    yield from ("## vfio-kit", "")
    context = click.Context(_cli, info_name="vfio-kit", **_cli.context_settings)
    yield from ("```text", *_usage(_cli, context), "```", "")
    yield from table(_HEAD, map(_option, _options(_cli, context)))


def _sections() -> Iterator[str]:
    for name in _COMMANDS:
        command = _cli.get_command(click.Context(_cli), name)
        assert command is not None
        yield from _section(command, (name,))
        if isinstance(command, click.Group):
            for inner in command.list_commands(click.Context(command)):
                found = command.get_command(click.Context(command), inner)
                assert found is not None
                yield from _section(found, (name, inner))


def _section(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    context = _context(path, command)
    yield from (f"## vfio-kit {' '.join(path)}", "")
    yield from ("```text", *_usage(command, context), "```", "")
    yield from paragraphs(command.help or "")
    if isinstance(command, click.Group):
        return
    root, why = _rights()[path[0]]
    yield from (f"**Root:** {root}; {why}.", "")
    yield from table(_HEAD, map(_option, _options(command, context)))
    yield from (f"**Exit status** of `{' '.join(('vfio-kit', *path))}`:", "")
    rows = [(str(status), EXITS_OF[path].get(status, MEANINGS[status])) for status in _due(path)]
    yield from table(("status", "when"), rows)


def _due(path: tuple[str, ...]) -> list[int]:
    return sorted(EXITS_OF[path])


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    context = click.Context(_cli, info_name="vfio-kit", **_cli.context_settings)
    for name in path[:-1]:
        context = click.Context(_cli, info_name=name, parent=context)
    return click.Context(command, info_name=path[-1], parent=context)


def _usage(command: click.Command, context: click.Context) -> list[str]:
    return [f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}".rstrip()]


_HEAD = ("option", "value", "default", "what it does")


def _options(command: click.Command, context: click.Context) -> Iterator[click.Option]:
    for parameter in command.get_params(context):
        if (
            isinstance(parameter, click.Option)
            and not parameter.hidden
            and "--help" not in parameter.opts
        ):
            yield parameter


def _option(option: click.Option) -> tuple[str, str, str, str]:
    names = [*option.opts, *option.secondary_opts]
    names.sort(key=lambda name: name.startswith("--"))
    help_text = option.help or ""
    said = _DEFAULT.search(help_text)
    words = plain(_DEFAULT.sub("", help_text).strip())
    if option.envvar:
        words += f" Environment: `{option.envvar}`."
    if option.required:
        words += " Required."
    return ", ".join(map(code, names)), _value(option), _default(option, said), words


def _value(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    kind = option.type
    if isinstance(kind, click.Choice):
        words = ", ".join(code(str(choice)) for choice in kind.choices)
    else:
        words = code(option.metavar or kind.name.upper().replace(" RANGE", ""))
    if isinstance(kind, click.IntRange):
        words += f", {_range(kind)}"
    return f"{words} …" if option.multiple else words


def _range(kind: click.IntRange) -> str:
    if kind.max is None:
        return f"{kind.min} or more"
    return f"{kind.min} to {kind.max}"


def _default(option: click.Option, said: re.Match[str] | None) -> str:
    if said is not None:
        return plain(said[1])
    if isinstance(option.default, int | str | Path) and not isinstance(option.default, bool):
        return code(str(option.default))
    return ""


def _rights() -> dict[str, tuple[str, str]]:
    """Command -> whether it needs root, and why: the table of docs/permissions.md."""
    text = (CHECKOUT / "docs/permissions.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| `([a-z]+)` \| (yes|no) \| (.+) \|$", text)
    return {name: (root, why.rstrip(".")) for name, root, why in rows}
