"""Where the cloud images of the guest systems are, and what proves them: one row a guest.

Ubuntu: the folders of cloud-images.ubuntu.com/releases/jammy/ are kept for years, each with its
date; those of /jammy/ are daily builds, and gone after some weeks. SHA256SUMS is signed
(SHA256SUMS.gpg). https://documentation.ubuntu.com/public-images/ "Verify an image checksum" names
the key by its fingerprint; the key itself is that of Debian's package ubuntu-keyring
(2023.11.28.1-0.2), file ubuntu-cloudimage-keyring.gpg.

Debian: https://cloud.debian.org/images/cloud/ has SHA512SUMS in each folder, and no signature of
it; the signed checksums of https://www.debian.org/CD/verify are those of the installers. `generic`
is taken, not `genericcloud`, which that page describes as without drivers for physical hardware: a
GPU is just that, and the cloud kernel has no DRM. cloud.debian.org sends its readers on to the
mirror of Umeå's Academic Computer Club (ftp.acc.umu.se, moving to accum.se).
"""

from dataclasses import dataclass
from pathlib import Path

_KEYS = Path(__file__).parents[1] / "keys"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Who signs the checksums; `fingerprint` is that of the primary key, 40 hex digits."""

    owner: str
    fingerprint: str
    file: Path
    """The public key, ASCII-armoured (RFC 9580, 6.2)."""


@dataclass(frozen=True, slots=True)
class CloudImage:
    """One guest's image. `{serial}` in a text stands for the publisher's name of a release."""

    guest: str
    origin: str
    """Begins every URL; a mirror stands in its place, with the same folders below."""
    latest_folder: str
    latest_file: str
    serial_folder: str
    serial_file: str
    serial_pattern: str
    """What a serial looks like, as a regular expression of the whole."""
    serial_example: str
    algorithm: str
    """Of the checksums, as hashlib names it."""
    checksums: str
    """The list of checksums in the image's folder."""
    signature: str | None
    """Of that list, detached, in the same folder; None where there is none."""
    key: SigningKey | None
    hosts: tuple[str, ...]
    """Hosts to which the origin may send us on; `.example` stands for every host below it."""
    source: str

    def folder(self, serial: str | None) -> str:
        """The folder of a release, or of the newest one, below the origin; ends with a slash."""
        return self.latest_folder if serial is None else self.serial_folder.format(serial=serial)

    def file(self, serial: str | None) -> str:
        """The name of the image in that folder."""
        return self.latest_file if serial is None else self.serial_file.format(serial=serial)


UBUNTU_CLOUD_KEY = SigningKey(
    "UEC Image Automatic Signing Key <cdimage@ubuntu.com>",
    "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81",
    _KEYS / "ubuntu-cloud-images.asc",
)

CLOUD_IMAGES: dict[str, CloudImage] = {
    image.guest: image
    for image in (
        CloudImage(
            guest="ubuntu-22.04",
            origin="https://cloud-images.ubuntu.com/",
            latest_folder="releases/jammy/release/",
            latest_file="ubuntu-22.04-server-cloudimg-amd64.img",
            serial_folder="releases/jammy/release-{serial}/",
            serial_file="ubuntu-22.04-server-cloudimg-amd64.img",
            serial_pattern=r"20\d{6}(\.\d{1,2})?",
            serial_example="20241217",
            algorithm="sha256",
            checksums="SHA256SUMS",
            signature="SHA256SUMS.gpg",
            key=UBUNTU_CLOUD_KEY,
            hosts=(),
            source="https://cloud-images.ubuntu.com/releases/jammy/",
        ),
        CloudImage(
            guest="debian-12",
            origin="https://cloud.debian.org/images/",
            latest_folder="cloud/bookworm/latest/",
            latest_file="debian-12-generic-amd64.qcow2",
            serial_folder="cloud/bookworm/{serial}/",
            serial_file="debian-12-generic-amd64-{serial}.qcow2",
            serial_pattern=r"20\d{6}-\d{1,5}",
            serial_example="20260601-2496",
            algorithm="sha512",
            checksums="SHA512SUMS",
            signature=None,
            key=None,
            hosts=(".ftp.acc.umu.se", ".accum.se"),
            source="https://cloud.debian.org/images/cloud/",
        ),
    )
}
