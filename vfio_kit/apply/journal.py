"""What was done for a VM, written down before it is done: the way back after any crash.

A VM's folder below /var/lib/vfio-kit (0700) holds

    vm.json         what it is (VmRecord)
    journal.jsonl   one line an event: a step begins, is done, is undone; fsynced
    id_ed25519, known_hosts   how to log in

Format: every line is an object with `version`, `step`, `phase` and, for `begin`, `data`.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vfio_kit.apply.files import cannot, make_folder, remove, write_file
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.health import Planned
from vfio_kit.model.vm import StepKind, UpPlan

VERSION = 2
"""2: START and HUGEPAGES know the boot that they were done on."""
_SCHEMA = "vfio-kit/vm/1"


@dataclass(frozen=True, slots=True)
class VmRecord:
    """What the other commands must know of a VM. `address` is None until the guest has a lease.

    What a record of an older vfio-kit does not have is empty or None.
    """

    name: str
    uuid: str
    guest: str
    user: str
    gpus: tuple[str, ...]
    network: str
    mac: str
    console_log: str
    address: str | None = None
    functions: tuple[str, ...] = ()
    """vendor:device of each function that was handed over."""
    driver: str | None = None
    """As in the spec: 470, 580-open, none."""
    cuda: str | None = None

    @property
    def planned(self) -> Planned:
        """What verification may expect of the guest."""
        none = self.driver in (None, "none")
        branch = None if none or self.driver is None else self.driver.removesuffix("-open")
        return Planned(self.functions, len(self.gpus), branch)

    @classmethod
    def of(cls, plan: UpPlan) -> Self:
        domain = plan.domain
        return cls(
            name=domain.name,
            uuid=domain.uuid,
            guest=plan.guest,
            user=plan.user,
            gpus=tuple(map(str, plan.gpus)),
            network=domain.network,
            mac=domain.mac,
            console_log=domain.console_log,
            functions=tuple(device.ids for device in plan.devices),
            driver=plan.software.driver,
            cuda=plan.software.cuda,
        )

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """The record in a JSON object; raises TypeError or ValueError where it is none."""
        values = dict(document)
        lists = {"gpus": values.pop("gpus", None), "functions": values.pop("functions", [])}
        optional = {key: values.pop(key, None) for key in ("address", "driver", "cuda")}
        texts = [*values.values(), *(text for text in optional.values() if text is not None)]
        for each in lists.values():
            if not isinstance(each, list):
                raise ValueError("a value is of another type")
            texts += each
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a value is of another type")
        values |= optional | {key: tuple(each) for key, each in lists.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Entry:
    """A step that was begun and not undone, with what its undoing needs."""

    step: StepKind
    data: dict[str, Any]


class VmFolder:
    """The folder of one VM."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.identity = path / "id_ed25519"
        self.known_hosts = path / "known_hosts"
        self._record = path / "vm.json"
        self._journal = path / "journal.jsonl"

    def exists(self) -> bool:
        return self._record.exists() or self._journal.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time for this VM; raises HostError where another holds it.

        The lock is on the folder itself, which is made where it is missing, and removed again
        where nothing came into it.
        """
        make_folder(self.path.parent)
        make_folder(self.path)
        with lock_folder(self.path, 0, f"another vfio-kit is at work on {self.name!r}"):
            try:
                yield
            finally:  # by its holder alone, who may: it is the holder's
                with contextlib.suppress(OSError):  # not empty, or gone: as it should be
                    self.path.rmdir()

    def create(self, record: VmRecord) -> None:
        """A new VM: its record, and an empty journal in the place of an old one."""
        make_folder(self.path)
        remove(self._journal)
        self.save(record)

    def save(self, record: VmRecord) -> None:
        document = {"schema": _SCHEMA, **asdict(record)}
        write_file(self._record, json.dumps(document, indent=1).encode() + b"\n")

    def record(self) -> VmRecord:
        """Raises UsageError for an unknown VM, HostError for a record that makes no sense."""
        try:
            document = json.loads(self._record.read_text())
        except FileNotFoundError:
            raise UsageError(
                f"no VM {self.name!r} here", "vfio-kit list shows those there are"
            ) from None
        except PermissionError:
            raise HostError(f"cannot read {self._record}", "run as root: sudo vfio-kit …") from None
        except OSError as error:
            raise cannot("read", self._record, error) from None
        except (ValueError, RecursionError) as error:
            raise HostError(f"{self._record} is damaged: {error}") from None
        if not isinstance(document, dict) or document.pop("schema", None) != _SCHEMA:
            raise HostError(f"{self._record} is not of the schema {_SCHEMA}")
        try:
            return VmRecord.read(document)
        except (TypeError, ValueError) as error:
            raise HostError(f"{self._record} is damaged: {error}") from None

    def begin(self, step: StepKind, data: dict[str, Any]) -> None:
        self._append({"step": step, "phase": "begin", "data": data})

    def done(self, step: StepKind) -> None:
        self._append({"step": step, "phase": "done"})

    def undone(self, step: StepKind) -> None:
        self._append({"step": step, "phase": "undone"})

    def outstanding(self) -> list[Entry]:
        """Steps begun and not undone, in the order of their beginning."""
        entries: dict[StepKind, Entry] = {}
        for number, event in self._events():
            try:
                step, phase = StepKind(event["step"]), event["phase"]
                data = event["data"] if phase == "begin" else {}
                if not isinstance(data, dict):
                    raise TypeError("data is no object")
            except (KeyError, TypeError, ValueError) as error:
                raise HostError(f"{self._journal}:{number} is damaged: {error!r}") from None
            if phase == "begin":
                entries[step] = Entry(step, data)
            elif phase == "undone":
                entries.pop(step, None)
        return list(entries.values())

    def purge(self) -> None:
        """Removes the folder with all that vfio-kit wrote into it."""
        for path in (self.identity, self.known_hosts, self._record, self._journal):
            remove(path)
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot("remove", self.path, error) from None

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps({"version": VERSION, "time": round(time.time(), 3), **event}) + "\n"
        try:
            handle = os.open(self._journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _cut_torn_line(handle)
                os.write(handle, line.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
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
            except ValueError as error:
                raise HostError(f"{self._journal}:{number} is damaged: {error}") from None
            if not isinstance(event, dict):
                raise HostError(f"{self._journal}:{number} is damaged: it is no object")
            if event.get("version") != VERSION:
                raise HostError(
                    f"{self._journal}:{number} has version {event.get('version')!r}",
                    "use the vfio-kit that wrote it",
                )
            yield number, event


@contextmanager
def lock_folder(path: Path, patience: float, held: str) -> Iterator[None]:
    """Holds the lock on a folder; HostError with the words `held` after `patience` seconds."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise cannot("open", path, error) from None
    try:
        end = time.monotonic() + patience
        while not _try_lock(handle):
            if time.monotonic() > end:
                raise HostError(held, f"wait for it, or find it: fuser -v {path}")
            time.sleep(0.1)
        if not _is_still(path, handle):
            raise HostError(held, "it removed the folder just now; repeat the command")
        yield
    finally:
        os.close(handle)


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
