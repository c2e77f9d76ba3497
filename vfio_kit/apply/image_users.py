"""Who stands on an image: overlays, VMs that vfio-kit knows of, and QEMUs that have it open."""

import errno
import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfio_kit.apply.command import run
from vfio_kit.apply.files import cannot
from vfio_kit.apply.journal import VmFolder, folders
from vfio_kit.errors import HostError, HypervisorError
from vfio_kit.model.vm import StepKind

_QCOW2 = b"QFI\xfb"


@dataclass(frozen=True, slots=True)
class Overlay:
    """A qcow2 file, what it stands on (resolved, the nearest first), and the VM that has it."""

    path: Path
    below: tuple[Path, ...]
    vm: str | None

    def __str__(self) -> str:
        return f"the VM {self.vm} ({self.path})" if self.vm else str(self.path)


def overlays(folder: Path, state_dir: Path) -> list[Overlay]:
    """Every qcow2 file in the folder, and every disk in the journals of VMs, wherever it lies.

    Raises HostError where a journal or a folder cannot be read, HypervisorError where qemu-img
    cannot say what a file stands on.
    """
    vms = {disk.resolve(): vm.name for vm in folders(state_dir) for disk in _disks(vm)}
    try:
        files = {file.resolve() for file in folder.iterdir() if file.is_file()} | set(vms)
        qcow2 = sorted(file for file in files if _is_qcow2(file))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", folder, error) from None
    return [Overlay(file, tuple(_below(file)), vms.get(file)) for file in qcow2]


def users(image: Path, known: Iterable[Overlay]) -> list[str]:
    """Who of `overlays` stands on the image, in words."""
    path = image.resolve()
    return [str(overlay) for overlay in known if path in overlay.below]


def is_open(image: Path) -> bool:
    """Whether a QEMU has it open: it holds locks on bytes of its images (QEMU: file.locking).

    One that was told not to lock is not seen. Raises HostError where we may not ask: the question
    is an attempt to lock the whole file, which takes the right to write to it.
    """
    try:
        handle = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise cannot("open", image, error) from None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise HostError(f"cannot tell who uses {image}: {error.strerror}") from None
    finally:
        os.close(handle)
    return False


def _disks(vm: VmFolder) -> list[Path]:
    """The overlay that the journal has of a VM; one that is down has none."""
    return [
        Path(file)
        for entry in vm.outstanding()
        if entry.step is StepKind.DISK
        for file in entry.data.get("files", [])
    ]


def _is_qcow2(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_QCOW2)) == _QCOW2
    except FileNotFoundError:
        return False  # it went while we looked


def _below(file: Path) -> Iterable[Path]:
    """The chain under a file; of one whose chain is broken, what its own header says."""
    try:
        chain = _info(file, "--backing-chain")
    except HypervisorError:
        chain = [_info(file)]
    for link in chain:
        name = link.get("full-backing-filename") or link.get("backing-filename")
        if name:
            yield Path(name).resolve()


def _info(file: Path, *options: str) -> Any:
    argv = ["qemu-img", "info", "--output=json", "--force-share", *options, str(file)]
    return json.loads(run(argv))
