"""From a VM's disk, switched off and sealed, to an image that stands by itself."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from vfio_kit.apply.command import run
from vfio_kit.apply.files import cannot, remove, sync_folder
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.manifest import (
    FileIdentity,
    Manifest,
    identify,
    manifest_of,
    write_manifest,
)
from vfio_kit.errors import HypervisorError, UsageError
from vfio_kit.model.vm import StepKind

_POLL = 0.2
_LONGEST_NAME = 230
"""Bytes: those of the manifest and of what is half made are longer, and file systems end at 255."""
_MOST_SECONDS = 4 * 3600.0
"""For the conversion of a large disk on a slow host; it is no hang as long as it writes."""


def require_new(out: Path) -> None:
    """Raises UsageError for an image that is there: overlays may stand on it."""
    if out.suffix != ".qcow2":
        raise UsageError(f"{out} does not end in .qcow2", "the image will be a qcow2 file")
    if not str(out).isprintable():
        raise UsageError(f"{str(out)!r} holds a control character", "no spec could name it")
    if len(os.fsencode(out.name)) > _LONGEST_NAME:
        raise UsageError(f"{out.name!r} is too long a name", f"{_LONGEST_NAME} bytes at most")
    if not os.path.isdir(out.parent):  # noqa: PTH112  (Path's raises for a name that is too long)
        raise UsageError(f"there is no folder {out.parent}", f"mkdir -p {out.parent}")
    if out.exists():
        raise UsageError(
            f"{out} exists already, and VMs may stand on it",
            "give another name, or remove it: vfio-kit image rm",
        )


def wait_until_off(hypervisor: Hypervisor, name: str, deadline: float) -> None:
    """Waits for the VM to switch itself off; raises HypervisorError at `deadline` (monotonic)."""
    while (found := hypervisor.domain(name)) is not None and found.runs:
        if time.monotonic() > deadline:
            raise HypervisorError(
                f"{name} was sealed and does not switch itself off: it is {found.state}",
                "repeat it with a longer --timeout",
            )
        time.sleep(_POLL)


def export_image(
    folder: VmFolder,
    disk: Path,
    out: Path,
    *,
    compress: bool,
    describe: Callable[[FileIdentity, int], Manifest],
) -> Manifest:
    """Makes `out` of the overlay `disk` and the image below it, and writes its manifest.

    describe gets what the image became, and its time of change. What is half made bears another
    name, which the journal has: `down` removes it after a crash. The manifest comes first, so that
    there is no moment with a baked image that nobody knows as one. Raises HypervisorError,
    HostError.
    """
    temporary = out.with_name(f".{out.name}.baking")
    folder.begin(StepKind.DISK, {"files": [str(disk), str(temporary)]})
    words = ["-c"] if compress else []
    argv = ["qemu-img", "convert", "-O", "qcow2", "-W", *words, str(disk), str(temporary)]
    try:
        remove(temporary)
        run(argv, timeout=_MOST_SECONDS)
        found, changed = _finished(temporary)
        manifest = describe(FileIdentity(out.name, found.size, found.sha256), changed)
        _publish(temporary, out, manifest)
    finally:
        remove(temporary)
    return manifest


def _finished(image: Path) -> tuple[FileIdentity, int]:
    """What the image became, for all to read and safe on its disk, and its time of change."""
    try:
        image.chmod(0o644)
        handle = os.open(image, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return identify(image), int(image.stat().st_mtime)
    except OSError as error:
        raise cannot("write", image, error) from None


def _publish(temporary: Path, out: Path, manifest: Manifest) -> None:
    require_new(out)  # somebody may stand on one that came meanwhile
    write_manifest(out, manifest)
    try:
        temporary.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        remove(manifest_of(out))
        raise cannot("write", out, error) from None
