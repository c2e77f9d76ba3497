"""ssh_config(5) as files: statements, Host and Match, Include; what they say of one host.

paramiko's SSHConfig knows no Include, asks another library for `Match exec`, does not see the user
of the command line, and ends in exceptions of all kinds where a file is malformed; the rules are
short enough to follow them to the letter.
"""

import functools
import getpass
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vfio_kit.errors import GuestError, UsageError
from vfio_kit.guest.known_hosts import matches_pattern
from vfio_kit.guest.local import LocalRunner

_ACCUMULATE = ("identityfile", "certificatefile")
"""Keywords whose values add up; of all others the first one counts."""

_WHOLE_LINE = ("proxycommand", "knownhostscommand", "localcommand", "remotecommand")
"""Keywords whose argument is a command: the rest of the line as it stands."""

_PROXIES = ("proxyjump", "proxycommand")
"""Two words for one thing: the way to the host. The first of either counts."""

_DEEPEST = 16
"""Includes within includes, as in OpenSSH."""

_EXEC_PATIENCE = 30.0
"""Seconds for the command of `Match exec`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One line: the keyword in lower case, its arguments, and where it stands."""

    keyword: str
    arguments: tuple[str, ...]
    place: str

    @property
    def value(self) -> str:
        return self.arguments[0]

    def malformed(self, reason: str) -> UsageError:
        """The error for a statement that makes no sense."""
        return UsageError(
            f"{self.place}: {self.keyword} {shlex.join(self.arguments)}: {reason}",
            "mend the file, or use another one: --ssh-config FILE",
        )


@dataclass(slots=True)
class Settings:
    """What holds for one host: the first value of each keyword, and the values that add up."""

    first: dict[str, Statement] = field(default_factory=dict)
    lists: dict[str, list[Statement]] = field(default_factory=dict)

    def take(self, statement: Statement) -> None:
        """Lets a statement hold, unless an earlier one does."""
        keyword = statement.keyword
        if keyword in _ACCUMULATE:
            known = self.lists.setdefault(keyword, [])
            if all(other.arguments != statement.arguments for other in known):
                known.append(statement)
        elif keyword not in _PROXIES or not any(other in self.first for other in _PROXIES):
            self.first.setdefault(keyword, statement)


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom the files are read: the name as it was typed, and as it is by now."""

    original: str
    host: str
    canonical: bool = False
    final: bool = False


class Reader:
    """Reads configuration files for one host into `settings`.

    expand: fills a statement's text in (%h, ~ and the like) as far as it is known.
    wants_final: a file has `Match final`, so that all are to be read once more.
    """

    def __init__(
        self, asked: Asked, settings: Settings, expand: Callable[[Statement, str], str]
    ) -> None:
        self._asked = asked
        self._settings = settings
        self._expand = expand
        self.wants_final = False

    def read(self, path: Path, folder: Path, required: bool) -> None:
        """Reads one file; `folder` is where its relative Includes are looked for."""
        self._read(path, folder, required, True, 0)

    def _read(self, path: Path, folder: Path, required: bool, outer: bool, depth: int) -> None:
        if depth > _DEEPEST:
            raise UsageError(f"{path}: more than {_DEEPEST} Includes within each other")
        holds = outer
        for statement in _load(path, required):
            if statement.keyword == "host":
                holds = outer and _any_pattern(self._asked.host, statement.arguments)
            elif statement.keyword == "match":
                self.wants_final |= any(word.lower() == "final" for word in statement.arguments)
                holds = outer and self._match(statement)
            elif statement.keyword == "include":
                for name in statement.arguments:
                    for file in _glob(folder, self._expand(statement, name)):
                        self._read(file, folder, False, holds, depth + 1)
            elif holds:
                self._settings.take(statement)

    def _match(self, statement: Statement) -> bool:
        words = iter(statement.arguments)
        for word in words:
            criterion, _, value = word.partition("=")
            criterion = criterion.lower()
            negated = criterion.startswith("!")
            criterion = criterion.removeprefix("!")
            if criterion in ("all", "canonical", "final"):
                found = (
                    criterion == "all"
                    or self._asked.final
                    or (criterion == "canonical" and self._asked.canonical)
                )
            else:
                found = self._criterion(statement, criterion, value or next(words, ""))
            if found == negated:
                return False
        return True

    def _criterion(self, statement: Statement, criterion: str, value: str) -> bool:
        if not value:
            raise statement.malformed(f"{criterion} needs a value")
        if criterion == "exec":
            return self._exec(statement, self._expand(statement, value))
        names = {
            "host": self._host_name,
            "originalhost": lambda: self._asked.original,
            "user": self._user,
            "localuser": local_user,
        }
        if criterion not in names:
            raise statement.malformed(f"vfio-kit cannot evaluate the criterion {criterion}")
        return _any_pattern(names[criterion](), value.split(","))

    def _exec(self, statement: Statement, command: str) -> bool:
        try:
            return LocalRunner().run(command, _EXEC_PATIENCE).exit_status == 0
        except GuestError as error:
            raise statement.malformed(error.message) from None

    def _host_name(self) -> str:
        named = self._settings.first.get("hostname")
        return self._asked.host if named is None else self._expand(named, named.value)

    def _user(self) -> str:
        named = self._settings.first.get("user")
        return local_user() if named is None else named.value


def local_user() -> str:
    """Who runs this; UsageError where the system has no name for them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError(
            f"the system has no name for user {os.getuid()}", "say whom to log in as: --user NAME"
        ) from None


def _load(path: Path, required: bool) -> tuple[Statement, ...]:
    try:
        state = path.stat()
        return _statements(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        if not required:
            return ()
        raise UsageError(f"there is no SSH configuration {path}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the SSH configuration {path} is no text: {error.reason}") from None
    except OSError as error:
        raise UsageError(f"cannot read the SSH configuration {path}: {error.strerror}") from None


@functools.lru_cache(maxsize=32)
def _statements(path: Path, _changed_ns: int, _size: int) -> tuple[Statement, ...]:
    """The file's statements, read once for all hosts as long as it does not change."""
    return tuple(_parse(path, path.read_bytes().decode("utf-8")))


def _parse(path: Path, text: str) -> Iterator[Statement]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        place = f"{path}, line {number}"
        found = re.fullmatch(r'"?(\w+)"?(?:\s*=\s*|\s+)(.+)', stripped)
        if found is None:
            raise UsageError(f"{place}: a keyword and its value are due: {stripped[:80]}")
        keyword, rest = found[1].lower(), found[2]
        arguments = (rest,) if keyword in _WHOLE_LINE else _words(rest, place)
        if not arguments:
            raise UsageError(f"{place}: {found[1]} has no value")
        yield Statement(keyword, arguments, place)


def _words(text: str, place: str) -> tuple[str, ...]:
    """Arguments, which may be in quotes, up to a comment."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{place}: {str(error).lower()}: {text[:80]}") from None
    comment = next((n for n, word in enumerate(words) if word.startswith("#")), len(words))
    return tuple(words[:comment])


def _any_pattern(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    """One of the patterns matches, and none of those after a `!` does."""
    found = False
    for pattern in patterns:
        if matches_pattern(name, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _glob(folder: Path, pattern: str) -> list[Path]:
    """The files of an Include, in the order of their names; relative ones are below `folder`."""
    path = folder / pattern
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    hidden = path.name.startswith(".")
    return sorted(file for file in found if hidden or not file.name.startswith("."))
