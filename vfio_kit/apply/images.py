"""Disk images: what the base image is, the overlay on it, and the seed ISO."""

import io
import json
import struct
from collections.abc import Iterable
from pathlib import Path

import pycdlib

from vfio_kit.apply.command import run
from vfio_kit.apply.files import write_file
from vfio_kit.errors import HypervisorError, UsageError
from vfio_kit.model.vm import BackingImage, RenderedFile

SEED_LABEL = "cidata"

_QCOW2_HEAD = struct.Struct(">4sIQ56xQ")
"""Magic, version, offset of the backing file's name; from version 3: incompatible features."""
_EXTERNAL_DATA_FILE = 1 << 2


def examine_image(image: Path) -> BackingImage:
    """What qemu-img finds; raises HypervisorError where it is no disk image."""
    if not image.is_file():
        raise HypervisorError(
            f"no image at {image}",
            "give a cloud image with --image, for example from "
            "https://cloud-images.ubuntu.com/jammy/current/",
        )
    _require_alone(image)
    info = json.loads(run(["qemu-img", "info", "--output=json", "--force-share", str(image)]))
    fmt = str(info["format"])
    if fmt not in ("qcow2", "raw"):
        raise HypervisorError(
            f"{image} has the format {fmt}", "convert it: qemu-img convert -O qcow2 OLD NEW"
        )
    if fmt == "raw" and not _has_partition_table(image):
        raise HypervisorError(
            f"{image} is no disk image: neither qcow2 nor raw with a partition table",
            "give a cloud image with --image",
        )
    return BackingImage(str(image), fmt, int(info["virtual-size"]))


def _require_alone(image: Path) -> None:
    """Raises HypervisorError for an image whose header names another file, before it is opened.

    Whoever made the image chose that name: it may be /etc/shadow, which QEMU would then show to the
    guest as its disk. (QEMU's docs/interop/qcow2.txt: backing file, external data file.)
    """
    with image.open("rb") as stream:
        head = stream.read(_QCOW2_HEAD.size)
    if len(head) < _QCOW2_HEAD.size:
        return
    magic, version, backing, features = _QCOW2_HEAD.unpack(head)
    has_data_file = version >= 3 and features & _EXTERNAL_DATA_FILE
    if magic == b"QFI\xfb" and (backing or has_data_file):
        what = "an external data file" if has_data_file else "a backing file"
        raise HypervisorError(
            f"{image} does not stand by itself: it has {what}, and would show that to the guest",
            "if it is yours, and that is meant, make one of both: "
            "qemu-img convert -O qcow2 OLD NEW",
        )


def create_overlay(overlay: Path, image: BackingImage, size_gib: int | None) -> None:
    """A qcow2 overlay; the image itself is never written to. size_gib: None for the image's own."""
    require_fit(image, size_gib)
    size = [] if size_gib is None else [f"{size_gib}G"]
    backing = ["-F", image.format, "-b", image.path]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(overlay), *size])
    overlay.chmod(0o600)


def require_fit(image: BackingImage, size_gib: int | None) -> None:
    """Raises UsageError where the image is larger than the disk that is to stand on it."""
    if size_gib is not None and size_gib << 30 < image.size:
        raise UsageError(
            f"a disk of {size_gib} GiB is smaller than the image {image.path}: "
            f"{image.size / (1 << 30):.1f} GiB",
            "give a larger --disk",
        )


def write_seed(path: Path, files: Iterable[RenderedFile]) -> None:
    """An ISO 9660 with Joliet and Rock Ridge, labelled as NoCloud wants it; mode 0600."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=SEED_LABEL)
    for number, file in enumerate(files):
        data = file.text.encode()
        iso.add_fp(
            io.BytesIO(data),
            len(data),
            f"/SEED{number}.;1",
            rr_name=file.path,
            joliet_path=f"/{file.path}",
        )
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    write_file(path, image.getvalue(), 0o600)


def _has_partition_table(image: Path) -> bool:
    """GPT, or an MBR whose entries make sense: a kernel image has the MBR's signature, too."""
    with image.open("rb") as stream:
        head = stream.read(1024)
    if head[512:520] == b"EFI PART":
        return True
    entries = [head[offset : offset + 16] for offset in range(446, 510, 16)]
    sound = all(entry[:1] in (b"\x00", b"\x80") for entry in entries)
    used = any(entry[4:5] != b"\x00" and any(entry[12:16]) for entry in entries)
    return head[510:512] == b"\x55\xaa" and sound and used
