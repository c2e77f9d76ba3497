"""The one look of what is said on stderr: steps, notes, warnings, errors, and the line that runs.

Not `rich`: one line that moves is all that is drawn; on a GPU host that --connect speaks to it is
drawn into a pipe, for a terminal elsewhere; and `import rich.progress` takes about as long as that
of click, which is most of what a `vfio-kit --help` takes. What draws the line that runs is imported
when there is one (live_line), what writes a log when one is asked for (log_file).

Colours: --no-color, else NO_COLOR (no-color.org), else CLICOLOR_FORCE and CLICOLOR
(bixense.com/clicolors), else a terminal has them, and one with TERM=dumb has not.
"""

import codecs
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

import click


class Live(Protocol):
    """The line that runs; see live_line."""

    def clear(self) -> None: ...

    def end(self) -> None: ...


class Log(Protocol):
    """The file that gets what is said; see log_file."""

    def add(self, level: str, text: str) -> None: ...


_ASCII = "vfio_kit.ascii"
_PLAIN = {
    **{"…": "...", "→": "->", "·": "-", "±": "+-", "×": "x", "°": " deg", "–": "-", "’": "'"},
    **{"█": "#", "━": "=", "─": "-", "│": "|", "├": "|", "└": "`", "┌": "+", "╴": "-"},
}
"""What is drawn where the locale has no such character; `?` for any other."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?") for c in bad), error.end


codecs.register_error(_ASCII, _plain)

_log: Log | None = None
_live: Live | None = None


# The streams.


def prepare_streams() -> None:
    """For a process's beginning: streams that were closed lead nowhere, the others can take all.

    A file that is opened later would get the number of a closed stream, and whatever a library
    writes to stderr with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ASCII)


def settle_stderr() -> None:
    """For its end: what stderr did not take must not become the exit status."""
    end()
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def is_live(stream: TextIO | None = None) -> bool:
    """Whether a line can be drawn anew there: on stderr, where nothing else is named."""
    return _is_terminal(stream or sys.stderr) and os.environ.get("TERM", "dumb") != "dumb"


def _is_terminal(stream: TextIO) -> bool:
    return not stream.closed and stream.isatty()


def terminal_width() -> int:
    """Columns that a report may take: 80 where there is no terminal, 100 at most."""
    return min(shutil.get_terminal_size((80, 24)).columns, 100)


def fitting(text: str) -> str:
    """The text as stderr's encoding can have it."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return text.encode(encoding, _ASCII).decode(encoding)


# Colours.


def colors_of(asked: bool | None, environ: Mapping[str, str]) -> bool | None:
    """Whether there are colours on every stream; None: on terminals."""
    if asked is not None:
        return asked
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    if environ.get("CLICOLOR") == "0" or environ.get("TERM") == "dumb":
        return False
    return None


def color_option(*, hidden: bool = False) -> click.Option:
    """--no-color, for the group and, hidden, for every command: people write it at the end."""

    def decide(ctx: click.Context, _option: click.Parameter, no_color: bool) -> None:
        if no_color or ctx.parent is None:
            ctx.color = colors_of(False if no_color else None, os.environ)
            ctx.find_root().color = ctx.color

    return click.Option(
        ["--no-color"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=decide,
        help="No colours, as with NO_COLOR=1 in the environment.",
    )


def take_no_color(command: click.Command) -> None:
    """Lets a command, and those below it, take --no-color as well."""
    if not any("--no-color" in option.opts for option in command.params):
        command.params.append(color_option(hidden=True))
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        take_no_color(below)


def has_colors(stream: TextIO) -> bool:
    ctx = click.get_current_context(silent=True)
    wanted = colors_of(None, os.environ) if ctx is None else ctx.color
    return _is_terminal(stream) if wanted is None else wanted


# What is said.


def without_control(text: str) -> str:
    """Names of files and words of servers are not ours, and may hold what moves a cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def step(what: str, seconds: float | None = None) -> None:
    """One line of progress, with the seconds that it took."""
    time = "" if seconds is None else f"{seconds:6.1f} s"
    say(f"{time:>8}  {without_control(what)}")


def warn(text: str) -> None:
    """What does not stop the work, and the operator should know."""
    say(click.style(f"warning: {without_control(text)}", fg="yellow"), "warning")


def error(message: str, hint: str = "") -> None:
    """Why the command ends, and the next step, a line of `hint` each."""
    end()
    say(click.style(f"error: {without_control(message)}", fg="red"), "error")
    for line in hint.splitlines():
        say(f"  hint: {without_control(line)}", "error")


def say(text: str = "", level: str = "info") -> None:
    """A line on stderr, in the log as well; a stderr that is gone does not stop the work.

    What is not ours in the text has to be without control characters.
    """
    clear()
    write(f"{text}\n")
    log(level, text)


def log(level: str, text: str) -> None:
    """A line in the log alone."""
    if _log is not None:
        _log.add(level, click.unstyle(text))


def write(text: str) -> None:
    """To stderr as it is, but for colours where there are none."""
    stream = sys.stderr
    with contextlib.suppress(OSError, ValueError):  # gone, or closed
        if not has_colors(stream):
            text = _uncolored(text)
        try:
            stream.write(text)
            stream.flush()
        except RuntimeError:  # a signal's handler that speaks while the same stream is written to
            os.write(stream.fileno(), text.encode(stream.encoding, _ASCII))


def _uncolored(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# What runs, and what is written down of it; see live_line and log_file.


def set_live(live: Live) -> None:
    """The line that runs, from the first one on."""
    global _live
    _live = live


def clear() -> None:
    """Takes the line that runs away, for what is printed on stdout; it comes again by itself."""
    if _live is not None:
        _live.clear()


def end() -> None:
    """Nothing runs any more, however it ended."""
    if _live is not None:
        _live.end()


def set_log(log: Log | None) -> None:
    """The file that gets what is said; None: there is none."""
    global _log
    _log = log


def echo_of(err: bool) -> Callable[[str], Any]:
    """How a line of a report is printed: on stdout, or among what is said."""
    return say if err else click.echo
