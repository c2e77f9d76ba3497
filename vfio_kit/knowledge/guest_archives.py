"""The guest systems' archives: where packages come from when a bundle is made, and the kernel.

Sources: https://wiki.debian.org/SourcesList, https://help.ubuntu.com/community/Repositories;
https://packages.debian.org/bookworm/linux-image-cloud-amd64 (6.1, without nouveau; driver
470.256.02 builds for it with DKMS), https://packages.ubuntu.com/jammy-updates/linux-image-virtual
(5.15, without the extra modules, nouveau among them).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuestArchive:
    """A row."""

    suites: tuple[tuple[str, str], ...]
    """(URI, suite), each as in a line of sources.list."""
    components: tuple[str, ...]
    keyring: str
    """What signs it, on the machine where a bundle is made, and the package that has it."""
    keyring_package: str
    kernel: str
    """The package that stands for the newest kernel of the system's own series."""


_UBUNTU, _DEBIAN = "http://archive.ubuntu.com/ubuntu", "http://deb.debian.org/debian"

GUEST_ARCHIVES: dict[str, GuestArchive] = {
    "ubuntu-22.04": GuestArchive(
        suites=tuple((_UBUNTU, suite) for suite in ("jammy", "jammy-updates", "jammy-security")),
        components=("main", "restricted", "universe", "multiverse"),
        keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        keyring_package="ubuntu-keyring",
        kernel="linux-image-virtual",
    ),
    "debian-12": GuestArchive(
        suites=(
            (_DEBIAN, "bookworm"),
            (_DEBIAN, "bookworm-updates"),
            (f"{_DEBIAN}-security", "bookworm-security"),
        ),
        components=("main", "contrib", "non-free", "non-free-firmware"),
        keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
        keyring_package="debian-archive-keyring",
        kernel="linux-image-cloud-amd64",
    ),
}
"""By guest system."""
