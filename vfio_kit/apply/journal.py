"""What was done for a VM, written down before it is done: the way back after any crash.

A VM's folder below /var/lib/vfio-kit (0700) holds

    vm.json         what it is (VmRecord)
    domain.xml      what libvirt was told, to tell it again
    journal.jsonl   one line an event: a step begins, is done, is undone; fsynced
    id_ed25519, known_hosts   how to log in

Format: every line is an object with `version`, `time` (seconds since 1970) and `phase`. With
`begin`, `done` and `undone` stands the `step`, and with `begin` the `data` that undoing needs. The
phase `down` says that from there on all is being undone.

A line is safe on its disk before what it announces is done. What stands behind the last end of line
was cut off by a crash: what it announces never happened.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfio_kit.apply.files import (
    cannot,
    make_folder,
    remove,
    require_trusted,
    sync_folder,
    write_file,
)
from vfio_kit.apply.locks import Holder, holder_of, lock_folder
from vfio_kit.apply.record import VmRecord as VmRecord
from vfio_kit.errors import HostError, UsageError, did_you_mean
from vfio_kit.model.vm import VM_NAME, StepKind

_DETAILS = logging.getLogger(__name__)
VERSION = 3
"""2: START and HUGEPAGES know the boot that they were done on. 3: HUGEPAGES are added by node; the
waiting and the going down are written down, too."""
_READABLE = (2, 3)


class Damaged(HostError):
    """A record or a journal that was read, and makes no sense."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A step that was begun and not undone, with what its undoing needs.

    done  whether it was done to its end.
    """

    step: StepKind
    data: dict[str, Any]
    done: bool = False


class VmFolder:
    """The folder of one VM."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.identity = path / "id_ed25519"
        self.known_hosts = path / "known_hosts"
        self.domain_xml = path / "domain.xml"
        self._record = path / "vm.json"
        self._journal = path / "journal.jsonl"

    def exists(self) -> bool:
        """Whether it holds a VM; one that is closed to this user may."""
        try:
            return self._record.exists() or self._journal.exists()
        except PermissionError:
            return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time for this VM; HostError that names the process that is at work.

        The lock is on the folder itself, which is made where it is missing, and removed again
        where nothing came into it.
        """
        require_trusted(self.path.parent, "state directory")
        make_folder(self.path.parent)
        make_folder(self.path)
        with lock_folder(self.path, 0, f"is at work on the VM {self.name!r}"):
            try:
                yield
            finally:  # by its holder alone, who may: it is the holder's
                with contextlib.suppress(OSError):  # not empty, or gone: as it should be
                    self.path.rmdir()

    def holder(self) -> Holder | None:
        """The process that is at work on this VM now; None where none is."""
        return holder_of(self.path)

    def login_key(self, record: VmRecord) -> Path:
        """The private key that opens the guest: the operator's own, or the one made for it."""
        return self.identity if record.identity is None else Path(record.identity)

    def create(self, record: VmRecord) -> None:
        """A new VM: its record, and an empty journal in the place of an old one."""
        make_folder(self.path)
        remove(self._journal)
        self.save(record)

    def save(self, record: VmRecord) -> None:
        write_file(self._record, json.dumps(record.document(), indent=1).encode() + b"\n")

    def record(self) -> VmRecord:
        """Raises UsageError for an unknown VM, Damaged for a record that makes no sense or is of
        another VM, HostError for one that cannot be read."""
        self._require_own()
        try:
            document = json.loads(self._record.read_text())
        except FileNotFoundError:
            raise self._unknown() from None
        except PermissionError:
            raise HostError(f"cannot read {self._record}", "run as root: sudo vfio-kit …") from None
        except OSError as error:
            raise cannot("read", self._record, error) from None
        except (ValueError, RecursionError) as error:
            raise self._damaged(self._record, str(error)) from None
        try:
            return VmRecord.read(document)
        except (TypeError, ValueError, UsageError) as error:
            raise self._damaged(self._record, str(error)) from None

    def begin(self, step: StepKind, data: dict[str, Any]) -> None:
        self._append({"step": step, "phase": "begin", "data": data})

    def done(self, step: StepKind) -> None:
        self._append({"step": step, "phase": "done"})

    def undone(self, step: StepKind) -> None:
        self._append({"step": step, "phase": "undone"})

    def begin_down(self) -> None:
        """From here on all is being undone, whoever goes on with it."""
        self._append({"phase": "down"})

    def going_down(self) -> bool:
        """Whether the undoing of all was begun, and not done to its end."""
        events = list(self._events())
        return any(event.get("phase") == "down" for _, event in events) and bool(self.outstanding())

    def outstanding(self) -> list[Entry]:
        """Steps begun and not undone, in the order in which they were begun last.

        Raises Damaged where they make no sense, or are another VM's; HostError as `record` does.
        """
        self._require_own()
        entries: dict[StepKind, Entry] = {}
        for number, event in self._events():
            try:
                phase = event["phase"]
                if phase == "down":
                    continue
                step = StepKind(event["step"])
                data = event["data"] if phase == "begin" else {}
                if not isinstance(data, dict):
                    raise TypeError("data is no object")
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(self._journal, repr(error), number) from None
            before = entries.get(step)
            if phase in ("begin", "undone"):
                entries.pop(step, None)
            if phase == "begin":
                entries[step] = Entry(step, data)
            elif phase == "done" and before is not None:
                entries[step] = Entry(step, before.data, done=True)
        return list(entries.values())

    def purge(self) -> None:
        """Removes the folder with all that vfio-kit wrote into it."""
        for path in (self.identity, self.known_hosts, self.domain_xml, self._record, self._journal):
            remove(path)
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot("remove", self.path, error) from None

    def owner(self) -> str:
        """The name of the VM that its record is of; its own where that cannot be told."""
        try:
            name = json.loads(self._record.read_bytes())["name"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return self.name  # said by whoever needs the record
        return name if isinstance(name, str) and re.fullmatch(VM_NAME, name) else self.name

    def require_there(self) -> None:
        """Raises UsageError where there is no folder of this name, with those that are like it.

        A folder with nothing in it is what a kill leaves before anything was written down.
        """
        try:
            there = self.path.is_dir()
        except PermissionError as error:
            raise cannot("read", self.path, error) from None
        if not there:
            raise self._unknown()

    def _unknown(self) -> UsageError:
        try:
            nearest = did_you_mean(self.name, (f.name for f in folders(self.path.parent)))
        except HostError:  # closed to this user, who then is told no names
            nearest = ""
        return UsageError(
            f"no VM {self.name!r} here", f"{nearest}vfio-kit list shows those there are"
        )

    def _require_own(self) -> None:
        """Raises Damaged in a folder that was copied or renamed: undone would be another VM."""
        if self.owner() != self.name:
            raise self._damaged(self._record, f"it is of the VM {self.owner()!r}")

    def _damaged(self, file: Path, why: str, line: int | None = None) -> Damaged:
        where = f"{file}" if line is None else f"{file}:{line}"
        return Damaged(
            f"{where} is damaged: {why}", f"vfio-kit repair {self.name} says what is left to do"
        )

    def _append(self, event: dict[str, Any]) -> None:
        _DETAILS.debug("journal of %s: %s", self.name, json.dumps(event))
        line = json.dumps({"version": VERSION, "time": round(time.time(), 3), **event}) + "\n"
        try:
            new = not self._journal.exists()
            handle = os.open(self._journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _cut_torn_line(handle)
                _write_all(handle, line.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            if new:
                sync_folder(self.path)
        except OSError as error:
            raise cannot("write", self._journal, error) from None

    def _events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The journal's lines, with their numbers from 1."""
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot("read", self._journal, error) from None
        # What stands behind the last end of line was cut off by a crash: its step had not begun.
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._damaged(self._journal, str(error), number) from None
            if not isinstance(event, dict):
                raise self._damaged(self._journal, "it is no object", number)
            if event.get("version") not in _READABLE:
                raise HostError(
                    f"{self._journal}:{number} has version {event.get('version')!r}",
                    "use the vfio-kit that wrote it",
                )
            yield number, event


def _write_all(handle: int, data: bytes) -> None:
    """All of it: a disk that gets full takes a part first, and says so at the next attempt."""
    while data:
        data = data[os.write(handle, data) :]


def _cut_torn_line(handle: int) -> None:
    """Cuts off what a crash left behind the last end of line, or the next line would join it."""
    size = os.fstat(handle).st_size
    whole = os.pread(handle, size, 0).rfind(b"\n") + 1
    if whole != size:
        os.ftruncate(handle, whole)


def folders(state_dir: Path) -> list[VmFolder]:
    """The folders of VMs in this state directory, whatever state they are in."""
    try:
        paths = sorted(p for p in state_dir.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", state_dir, error) from None
    return [folder for folder in map(VmFolder, paths) if folder.exists()]
