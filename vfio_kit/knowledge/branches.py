"""NVIDIA's driver branches for Linux: one row each, oldest first.

`cuda` is what the branch's libcuda speaks (cuDriverGetVersion), read from the libcuda of 390, 418,
450, 470, 510, 535, 550 and 580, and from the CUDA release notes for the others.
`kernels` are Linux versions on which it builds: from the oldest that the branch's README supports
to the newest on which somebody built it, which the package descriptions of Debian give.
`guests` are systems whose own archive carries the branch for real, not as a transitional package
to another one.
"""

from dataclasses import dataclass

from vfio_kit.model.advice import GuestPackage, KernelRange, Version

_CUDA_NOTES = "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html"
_CUDA_13_2 = "https://docs.nvidia.com/cuda/archive/13.2.0/cuda-toolkit-release-notes/"
_JAMMY = "https://packages.ubuntu.com/jammy-updates/nvidia-headless"
_README = "NVIDIA driver README, minimum requirements"
_BULLSEYE = f"{_README}; Linux 5.10 and this branch are both in Debian 11"


@dataclass(frozen=True, slots=True)
class Branch:
    """A row of the table; `release` is its newest known release, None where none was looked up."""

    number: int
    release: str | None
    cuda: Version
    source: str = _CUDA_NOTES
    long_term: bool = False
    """One that NVIDIA still maintains for years: what to take where newer ones exist as well."""
    general: bool = True
    """False: it stands here for the boards whose last branch it is; which other cards it drives
    was not looked up, so that nothing is said about them."""
    kernels: tuple[KernelRange, ...] = ()
    guests: tuple[GuestPackage, ...] = ()


def _unstable(package: str, version: str) -> KernelRange:
    """The driver with the patches of Debian unstable, whose descriptions say what was tried."""
    return KernelRange(
        Version(5, 10),
        Version(7, 2),
        f"Debian unstable, {package} {version} (https://packages.debian.org/sid/{package})",
        stable=False,
    )


BRANCHES: tuple[Branch, ...] = (
    Branch(367, None, Version(8, 0), general=False),
    Branch(
        390,
        "390.157",
        Version(9, 1),
        kernels=(
            KernelRange(
                Version(2, 6),
                Version(6, 1),
                f"{_README}; nixpkgs calls legacy_390 broken from Linux 6.2 "
                "(pkgs/os-specific/linux/nvidia-x11/default.nix)",
            ),
            _unstable("nvidia-legacy-390xx-kernel-dkms", "390.157-16"),
        ),
        guests=(
            GuestPackage(
                "ubuntu-22.04",
                "nvidia-headless-390",
                "https://packages.ubuntu.com/jammy/nvidia-driver-390",
            ),
        ),
    ),
    Branch(
        418,
        "418.226.00",
        Version(10, 1),
        kernels=(
            KernelRange(Version(2, 6), Version(5, 10), _BULLSEYE),
            _unstable("nvidia-tesla-418-kernel-dkms", "418.226.00-22"),
        ),
        guests=(GuestPackage("ubuntu-22.04", "nvidia-headless-418-server", _JAMMY),),
    ),
    Branch(
        450,
        "450.248.02",
        Version(11, 0),
        kernels=(
            KernelRange(Version(2, 6), Version(5, 10), _BULLSEYE),
            _unstable("nvidia-tesla-450-kernel-dkms", "450.248.02-14"),
        ),
        guests=(GuestPackage("ubuntu-22.04", "nvidia-headless-450-server", _JAMMY),),
    ),
    Branch(
        470,
        "470.256.02",
        Version(11, 4),
        kernels=(
            KernelRange(
                Version(2, 6),
                Version(6, 8),
                f"{_README}; built on Linux 5.15 and 6.8 of Ubuntu 22.04; Debian 12, "
                "nvidia-tesla-470-kernel-dkms 470.256.02-1~deb12u1",
            ),
            _unstable("nvidia-tesla-470-kernel-dkms", "470.256.02-10"),
        ),
        guests=(
            GuestPackage("ubuntu-22.04", "nvidia-headless-470-server", _JAMMY),
            GuestPackage(
                "debian-12",
                "nvidia-tesla-470-driver",
                "https://packages.debian.org/bookworm/nvidia-tesla-470-kernel-dkms",
            ),
        ),
    ),
    # Ubuntu's packages of 510 lead to 535.
    Branch(510, None, Version(11, 6)),
    Branch(
        535,
        "535.309.01",
        Version(12, 2),
        kernels=(
            KernelRange(
                Version(3, 10),
                Version(6, 16),
                f"{_README}; Debian 13, nvidia-tesla-535-kernel-dkms 535.274.02-1~deb13u1",
            ),
            _unstable("nvidia-tesla-535-kernel-dkms", "535.274.02-3"),
        ),
        # Ubuntu leads its 535-server to 580.
        guests=(
            GuestPackage(
                "debian-12",
                "nvidia-driver",
                "https://packages.debian.org/bookworm/nvidia-kernel-dkms",
            ),
            GuestPackage(
                "debian-13",
                "nvidia-tesla-535-driver",
                "https://packages.debian.org/trixie/nvidia-tesla-535-kernel-dkms",
            ),
        ),
    ),
    Branch(
        550,
        "550.163.01",
        Version(12, 4),
        kernels=(
            KernelRange(
                Version(3, 10),
                Version(6, 15),
                f"{_README}; Debian 13, nvidia-kernel-dkms 550.163.01-2",
            ),
        ),
        guests=(
            GuestPackage(
                "debian-13",
                "nvidia-driver",
                "https://packages.debian.org/trixie/nvidia-kernel-dkms",
            ),
        ),
    ),
    Branch(
        570,
        "570.211.01",
        Version(12, 8),
        kernels=(
            KernelRange(
                Version(6, 17),
                Version(6, 17),
                "https://github.com/Frogging-Family/nvidia-all/issues/310",
            ),
        ),
    ),
    Branch(
        580,
        "580.173.02",
        Version(13, 0),
        long_term=True,
        kernels=(
            KernelRange(
                Version(4, 15),
                Version(7, 1),
                "README of NVIDIA/open-gpu-kernel-modules 580.105.08 (4.15 and newer); release "
                "highlights of 580.159.04 (https://www.nvidia.com/en-gb/drivers/details/271293/)",
            ),
        ),
        guests=(
            GuestPackage("ubuntu-22.04", "nvidia-headless-580-server", _JAMMY),
            GuestPackage(
                "ubuntu-24.04",
                "nvidia-headless-580-server",
                "https://packages.ubuntu.com/noble/libs/libnvidia-extra-580-server",
            ),
        ),
    ),
    Branch(
        595,
        "595.71.05",
        Version(13, 2),
        source=_CUDA_13_2,
        kernels=(
            KernelRange(
                Version(6, 12),
                Version(6, 12),
                "https://github.com/bottlerocket-os/bottlerocket-kernel-kit/pull/424",
            ),
            KernelRange(
                Version(7, 0), Version(7, 0), "https://github.com/NixOS/nixpkgs/issues/518710"
            ),
        ),
        guests=(
            GuestPackage(
                "ubuntu-22.04",
                "nvidia-headless-595",
                "https://packages.ubuntu.com/jammy-updates/nvidia-headless-595",
            ),
        ),
    ),
)
