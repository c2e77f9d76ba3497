"""Runs a program in a pseudo-terminal and keeps what it writes there, with its times."""

import codecs
import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

from .cast import MARKER, OUTPUT, Event

_CHUNK = 65536
_TYPED_WORD = 0.15
_BEFORE_TYPING = 0.6


class Recorder:
    """Collects the events of a session on one clock, which begins when this is made."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.events: list[Event] = []
        self._begin = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._note(MARKER, title)

    def type(self, prompt: str, command: str) -> None:
        """Show a prompt and a command as if somebody typed it; nothing is run."""
        self._note(OUTPUT, prompt)
        time.sleep(_BEFORE_TYPING)
        for index, word in enumerate(command.split(" ")):
            self._note(OUTPUT, f" {word}" if index else word)
            time.sleep(_TYPED_WORD)
        self._note(OUTPUT, "\r\n")

    def run(self, argv: Sequence[str]) -> int:
        """Run a program in a terminal of this size; return its exit status."""
        ours, its = pty.openpty()
        size = struct.pack("HHHH", self.height, self.width, 0, 0)
        fcntl.ioctl(its, termios.TIOCSWINSZ, size)
        environment = {**os.environ, "TERM": "xterm-256color"}
        process = subprocess.Popen(
            argv, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
        )
        os.close(its)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := _read(ours):
            if text := decoder.decode(data):
                self._note(OUTPUT, text)
        os.close(ours)
        return process.wait()

    def _note(self, kind: str, text: str) -> None:
        self.events.append(Event(time.monotonic() - self._begin, kind, text))


def _read(terminal: int) -> bytes:
    """Return what was written; nothing when the other side is closed, which Linux calls EIO."""
    try:
        return os.read(terminal, _CHUNK)
    except OSError:
        return b""
