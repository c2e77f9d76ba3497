"""What today's template of the seed takes, until it takes `Provisioning` of kind.py.

Sources: packages.ubuntu.com (jammy), packages.debian.org (bookworm non-free), NVIDIA's CUDA
repository for Ubuntu 20.04 (there is none of CUDA 11.4 for 22.04).
"""

from dataclasses import dataclass

from vfio_kit.knowledge.provisioning.cuda import CUDA_ROWS
from vfio_kit.knowledge.provisioning.kind import AptRepository


@dataclass(frozen=True, slots=True)
class LegacyProvisioning:
    """Packages by their exact names: the names carry the branch, a metapackage would move it."""

    driver_version: str
    """What `modinfo -F version nvidia` must begin with, or the provisioning fails."""
    driver_packages: tuple[str, ...]
    module: str
    """The name of the module's file, as modinfo takes it."""
    headers: str
    """The headers that DKMS builds against; $(uname -r) is the running kernel."""
    cuda_packages: tuple[str, ...]
    cuda_include: str
    cuda_lib: str
    never: tuple[str, ...]
    """Packages that would replace the driver: pinned to never."""
    hold: tuple[str, ...]
    components: tuple[str, ...] = ()
    """Components of the distribution's archive that must be switched on."""
    cuda_repository: AptRepository | None = None


_CUDA_11_4 = ("cuda-cudart-11-4", "cuda-cudart-dev-11-4", "cuda-nvcc-11-4")
_CUDA_UBUNTU2004 = CUDA_ROWS["ubuntu-22.04", "11.4"].repository
_NEVER = ("cuda", "cuda-11-4", "cuda-runtime-11-4", "cuda-drivers", "cuda-drivers-*")

PROVISIONING: dict[tuple[str, str], LegacyProvisioning] = {
    ("ubuntu-22.04", "470"): LegacyProvisioning(
        driver_version="470.",
        # -server and the others conflict; nvidia-headless does not bring nvidia-smi.
        driver_packages=("nvidia-headless-470-server", "nvidia-utils-470-server"),
        headers="linux-headers-$(uname -r)",
        module="nvidia",
        cuda_packages=_CUDA_11_4,
        cuda_include="/usr/local/cuda-11.4/include",
        cuda_lib="/usr/local/cuda-11.4/lib64",
        never=_NEVER,
        hold=("nvidia-headless-470-server", "nvidia-utils-470-server", "nvidia-dkms-470-server"),
        cuda_repository=_CUDA_UBUNTU2004,
    ),
    ("debian-12", "470"): LegacyProvisioning(
        driver_version="470.",
        # nvidia-tesla-470-driver would bring a display as well, and no libcuda.
        driver_packages=(
            "nvidia-tesla-470-kernel-dkms",
            "nvidia-tesla-470-driver-bin",
            "nvidia-tesla-470-smi",
            "libnvidia-tesla-470-cuda1",
        ),
        # The file has the package's name, the module in it is called nvidia.
        module="nvidia-tesla-470",
        headers="linux-headers-$(uname -r)",
        # Debian's own CUDA 11.8 wants the libcuda of driver 535.
        cuda_packages=_CUDA_11_4,
        cuda_include="/usr/local/cuda-11.4/include",
        cuda_lib="/usr/local/cuda-11.4/lib64",
        never=(*_NEVER, "libcuda1", "libnvidia-ml1", "nvidia-alternative", "nvidia-driver"),
        hold=(
            "nvidia-tesla-470-kernel-dkms",
            "nvidia-tesla-470-driver-bin",
            "nvidia-tesla-470-smi",
            "libnvidia-tesla-470-cuda1",
        ),
        components=("contrib", "non-free", "non-free-firmware"),
        cuda_repository=_CUDA_UBUNTU2004,
    ),
}
