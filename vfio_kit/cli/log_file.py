"""--log-file: what is said on stderr, with its time, and what is known besides.

    2026-11-22T03:10:07.412Z info       4.2 s  disk and seed written
    2026-11-22T03:10:07.413Z debug   journal of m4000: begin define {"domain": "m4000", …}

The file is made readable by its owner alone, and added to. Details come from the edges by Python's
logging, below the name vfio_kit: programs that were run, journal entries, what was asked of ssh.
None of them has a key in it: keys are made in this process, and written to their files alone.
"""

import contextlib
import logging
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from vfio_kit.cli import console
from vfio_kit.errors import UsageError, VfioKitError

_LOGGER = "vfio_kit"


class LogFile:
    """Lines with their times. What cannot be written is lost, is warned of once, and is counted.

    Raises UsageError where the file cannot be opened, or takes no first line.
    """

    def __init__(self, path: Path, first: str) -> None:
        self._path = path
        self._lost, self._torn, self._warned = 0, False, False
        try:
            # No waiting for the reader of a FIFO.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._handle = os.open(path, flags, 0o600)
            os.set_blocking(self._handle, True)
            self._write(_line("info", first))
        except OSError as error:
            raise UsageError(
                f"cannot write the log {path}: {error.strerror}",
                "--log-file takes a file that can be written; without it nothing is logged",
            ) from None

    def add(self, level: str, text: str) -> None:
        """Each line of the text; never raises."""
        data = b"".join(_line(level, line) for line in text.split("\n"))
        try:
            if self._torn or self._lost:
                begin = b"\n" if self._torn else b""
                self._write(begin + _line("warning", f"{self._lost} lines are missing here"))
                self._lost, self._torn = 0, False
            self._write(data)
        except OSError as error:
            self._lost += 1
            if not self._warned:
                self._warned = True
                console.warn(f"the log {self._path} is not complete: {error.strerror}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def _write(self, data: bytes) -> None:
        while data:
            written = os.write(self._handle, data)
            self._torn = not data[:written].endswith(b"\n")
            data = data[written:]


def _line(level: str, text: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = console.without_control(text.rstrip())
    return f"{now} {level:<7} {shown}\n".encode("utf-8", "replace")


class _Details(logging.Handler):
    """What the edges tell, at the level at which they do."""

    def __init__(self, log: LogFile) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.add(record.levelname.lower(), record.getMessage())


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """For the time of a command; UsageError where the file cannot be written."""
    with _ended(_opened(path, click.get_current_context().find_root())):
        yield


def _opened(path: Path, root: click.Context) -> LogFile:
    """The log, which is told of everything until the command line's own context is closed."""
    from vfio_kit import __version__

    argv = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    log = LogFile(path, f"vfio-kit {__version__}, process {os.getpid()}: {argv}")
    handler, logger = _Details(log), logging.getLogger(_LOGGER)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    console.set_log(log)

    def close() -> None:
        console.set_log(None)
        logger.removeHandler(handler)
        logger.setLevel(before)
        log.close()

    root.call_on_close(close)
    return log


@contextmanager
def _ended(log: LogFile) -> Iterator[None]:
    """Writes down how the command ended, and after how long."""
    begin, how = time.monotonic(), "exit status 0"
    try:
        yield
    except click.exceptions.Exit as error:
        how = f"exit status {error.exit_code}"
        raise
    except VfioKitError as error:
        how = f"exit status {error.exit_code}"
        raise  # what it says is said by the command line
    except KeyboardInterrupt:
        how = "interrupted"
        raise
    except click.ClickException as error:
        how = f"exit status {error.exit_code}: {error.format_message()}"
        raise
    except BaseException:
        log.add("debug", traceback.format_exc())
        how = "an error that was not expected"
        raise
    finally:
        log.add("info", f"ended after {time.monotonic() - begin:.1f} s: {how}")
