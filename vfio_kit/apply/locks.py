"""Locks of one command at a time: for a VM, and for the host; who waits is told who holds them.

They are flock(2) locks on folders: the kernel gives them back when their holder ends, however it
does, and nothing stays behind that could be stale.
"""

import fcntl
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfio_kit.apply.files import cannot
from vfio_kit.errors import HostError

HOST_PATIENCE = 600.0
"""Seconds that a command waits for the one that changes the host: its slowest step is the start of
a large guest, whose memory the kernel makes free and fills with zeros first."""
_FOLDER = "/run/vfio-kit"
"""Nobody but root makes a folder there, or opens this one: nobody else can hold the lock."""
_ENVIRONMENT = "VFIO_KIT_LOCK_DIR"
"""Another folder, for tests, and where /run is not one for all that change the host."""
_POLL = 0.1
_LONGEST = 160
"""Characters of a command line that are shown."""
_FLOCK = re.compile(r"FLOCK\s+ADVISORY\s+WRITE\s")
"""As proc_pid_fdinfo(5) has a lock that is held on an open file, behind `lock:` and a number."""

Said = Callable[[str], None]
"""Takes a line for the operator."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock; command: its words, ready for a shell."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def holder_of(path: Path, proc: Path = Path("/proc")) -> Holder | None:
    """Who holds the lock on a file or folder now; None where nobody does, or nobody may know.

    Not from /proc/locks alone, which has inodes by the device of their file system, and some file
    systems show another one to stat(2): the process's own open files say what they lock.
    """
    try:
        wanted = path.stat()
        own = proc / str(os.getpid())
        processes = [p for p in proc.iterdir() if p.name.isdigit()]
    except OSError:
        return None
    for process in sorted(processes, key=lambda p: p == own):
        if _locks(process, wanted):
            return Holder(int(process.name), _command(process))
    return None


def _locks(process: Path, wanted: os.stat_result) -> bool:
    try:
        for link in (process / "fd").iterdir():
            try:
                found = link.stat()
                if (found.st_ino, found.st_dev) != (wanted.st_ino, wanted.st_dev):
                    continue
                info = (process / "fdinfo" / link.name).read_text()
            except OSError:
                continue  # closed meanwhile
            if _FLOCK.search(info):
                return True
    except OSError:
        return False  # it has ended, or is somebody else's: not ours to know
    return False


def _command(process: Path) -> str:
    """Its command line from the program's name on, without the interpreter in front of it."""
    try:
        data = (process / "cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return "its command line cannot be read"
    words = [word.decode(errors="replace") for word in data.split(b"\0")]
    start = next((n for n, word in enumerate(words) if Path(word).name == "vfio-kit"), 0)
    words[start] = Path(words[start]).name
    line = shlex.join(words[start:])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 2] + " …"


def host_lock(
    say: Said = lambda _line: None, patience: float = HOST_PATIENCE
) -> AbstractContextManager[None]:
    """One at a time changes the host: pools of hugepages and drivers are everybody's.

    It is one lock for the host, whatever --state-dir is, on a folder that is gone with a reboot.

    say  is called once where it is held, with who holds it.
    """
    folder = Path(os.environ.get(_ENVIRONMENT) or _FOLDER)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise cannot("make the folder", folder, error) from None
    return lock_folder(folder, patience, "changes this host", say)


@contextmanager
def lock_folder(
    path: Path, patience: float, doing: str, say: Said = lambda _line: None
) -> Iterator[None]:
    """Holds the lock on a folder; HostError that names its holder after `patience` seconds.

    doing  what its holder does, in words: "changes this host".
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise cannot("open", path, error) from None
    try:
        end = time.monotonic() + patience
        told = patience <= 0
        while not _try_lock(handle):
            if not told or time.monotonic() > end:
                holder = holder_of(path)
                who = str(holder or "another vfio-kit")
                if time.monotonic() > end:
                    raise HostError(f"{who} {doing}", _hint(holder, path))
                say(f"waiting for {who}, which {doing}")
                told = True
            time.sleep(_POLL)
        if not _is_still(path, handle):
            raise HostError(
                f"another vfio-kit {doing}", "it removed the folder just now; repeat the command"
            )
        yield
    finally:
        os.close(handle)


def _hint(holder: Holder | None, path: Path) -> str:
    if holder is None:
        return f"wait for it, or find it: fuser -v {shlex.quote(str(path))}"
    return (
        f"wait for it, or end it: kill {holder.pid}; an `up` that is ended so puts the host back "
        "by itself"
    )


def _is_still(path: Path, handle: int) -> bool:
    """Whether the open folder is the one at `path`: its last holder may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
