"""The drivers that vfio-kit installs: one row per guest system and driver.

Sources: packages.ubuntu.com (jammy, restricted), packages.debian.org (bookworm, non-free); the
Debian rows were resolved by apt against bookworm, its updates and its security archive.
"""

from vfio_kit.knowledge.provisioning.kind import DriverRow

# CUDA's metapackages want a driver of their own, and would have it.
_CUDA_METAPACKAGES = ("cuda", "cuda-1?", "cuda-1?-?", "cuda-runtime-*", "cuda-drivers*")
_JAMMY = "https://packages.ubuntu.com/jammy-updates/nvidia-headless-"
_BOOKWORM = "https://packages.debian.org/bookworm/"
_NON_FREE = ("contrib", "non-free", "non-free-firmware")


def _jammy(name: str, default_cuda: str) -> DriverRow:
    """Ubuntu's packages for servers: their branch stays, and they bring no display.

    Those without -server conflict with them; nvidia-headless does not bring nvidia-smi; the
    modules that Ubuntu has built (linux-modules-nvidia-*) end at an old kernel, DKMS goes on.
    """
    branch, _, flavour = name.partition("-")
    end = f"-{flavour}" if flavour else ""
    headless, dkms = f"nvidia-headless-{branch}-server{end}", f"nvidia-dkms-{branch}-server{end}"
    utils, libraries = f"nvidia-utils-{branch}-server", f"libnvidia-compute-{branch}-server"
    other = "" if flavour else "-open"
    return DriverRow(
        guest="ubuntu-22.04",
        name=name,
        branch=int(branch),
        open_modules=flavour == "open",
        version=f"{branch}.",
        packages=(headless, utils),
        module="nvidia",
        hold=(headless, utils, dkms, libraries),
        never=(
            *_CUDA_METAPACKAGES,
            *(f"nvidia-headless-{branch}-server{other}", f"nvidia-dkms-{branch}-server{other}"),
            *("nvidia-driver-*", f"nvidia-headless-{branch}", f"nvidia-headless-{branch}-open"),
            *(f"nvidia-utils-{branch}", f"libnvidia-compute-{branch}"),
        ),
        default_cuda=default_cuda,
        source=f"{_JAMMY}{branch}-server{end}",
    )


_ROWS = (
    _jammy("470", "11.4"),
    _jammy("580", "12.9"),
    _jammy("580-open", "12.9"),
    DriverRow(
        guest="debian-12",
        name="470",
        branch=470,
        open_modules=False,
        version="470.",
        # nvidia-tesla-470-driver would bring a display as well, and no libcuda.
        packages=(
            "nvidia-tesla-470-kernel-dkms",
            "nvidia-tesla-470-driver-bin",
            "nvidia-tesla-470-smi",
            "libnvidia-tesla-470-cuda1",
        ),
        # The file has the package's name, the module in it is called nvidia.
        module="nvidia-tesla-470",
        hold=(
            "nvidia-tesla-470-kernel-dkms",
            "nvidia-tesla-470-driver-bin",
            "nvidia-tesla-470-smi",
            "libnvidia-tesla-470-cuda1",
            "libnvidia-tesla-470-ml1",
        ),
        never=(
            *_CUDA_METAPACKAGES,
            # These are of driver 535. (nvidia-modprobe is as well, and fits both.)
            *("libcuda1", "libnvidia-ml1", "nvidia-alternative", "nvidia-driver"),
            *("nvidia-kernel-dkms", "nvidia-open-kernel-dkms"),
        ),
        default_cuda="11.4",
        source=f"{_BOOKWORM}nvidia-tesla-470-kernel-dkms",
        components=_NON_FREE,
    ),
    # Its open modules are in bookworm as 535.261.03, and fit no libcuda of the security archive.
    DriverRow(
        guest="debian-12",
        name="535",
        branch=535,
        open_modules=False,
        version="535.",
        # nvidia-driver would bring a display as well.
        packages=(
            "nvidia-kernel-dkms",
            "nvidia-driver-bin",
            "nvidia-smi",
            "libcuda1",
            "libnvidia-ptxjitcompiler1",
        ),
        module="nvidia-current",
        hold=(
            "nvidia-kernel-dkms",
            "nvidia-driver-bin",
            "nvidia-smi",
            "libcuda1",
            "libnvidia-ml1",
            "libnvidia-ptxjitcompiler1",
        ),
        never=(*_CUDA_METAPACKAGES, "nvidia-open-kernel-dkms", "nvidia-tesla-*"),
        default_cuda="12.2",
        source=f"{_BOOKWORM}nvidia-kernel-dkms",
        components=_NON_FREE,
    ),
)

DRIVER_ROWS: dict[tuple[str, str], DriverRow] = {(row.guest, row.name): row for row in _ROWS}

DEFAULT_DRIVER = "470"
"""What a spec gets that names none."""
NO_DRIVER = "none"
