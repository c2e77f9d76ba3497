"""GPU families of NVIDIA: one row for the chips that have everything here in common.

A chip is called by its codename, as it stands in front of the name in pci.ids and in the udev hwdb
("GM204GL [Quadro M4000]"). The codename decides which branches drive a card, but for the boards of
BOARDS. Checked, id by id, against appendix A ("Supported NVIDIA GPU Products") of NVIDIA's READMEs
of 390.157, 418.226.00, 450.248.02, 470.256.02, 535.274.02, 550.163.01 and 595.
"""

from dataclasses import dataclass

from vfio_kit.model.advice import OpenModules, Version

_MATRIX = (
    "https://docs.nvidia.com/datacenter/tesla/drivers/"
    "cuda-toolkit-driver-and-architecture-matrix.html"
)
OPEN_MODULES_SOURCE = (
    "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/kernel-modules.html"
)
OPEN_ONLY_SOURCE = (
    "https://developer.nvidia.com/blog/"
    "nvidia-transitions-fully-towards-open-source-gpu-kernel-modules/"
)
NOUVEAU_SOURCE = "https://docs.nvidia.com/deploy/cuda-compatibility/"
"""It names libcuda as a part of NVIDIA's driver package, beside the modules that it needs."""


@dataclass(frozen=True, slots=True)
class GpuFamily:
    """Chips of one architecture and one compute capability."""

    architecture: str
    chips: tuple[str, ...]
    compute_capability: Version
    first_cuda: Version
    """The first CUDA toolkit that compiles for them."""
    last_cuda: Version | None
    """The last one; None while there is no last one."""
    last_branch: int | None
    open_modules: OpenModules
    source: str = _MATRIX


_NO, _YES, _ONLY = OpenModules.NO, OpenModules.YES, OpenModules.ONLY
_CUDA_8, _CUDA_10 = Version(8, 0), Version(10, 2)
# Where the matrix says 11.x and 12.x: https://developer.nvidia.com/cuda-toolkit-archive
_CUDA_11, _CUDA_12 = Version(11, 8), Version(12, 9)

FAMILIES: tuple[GpuFamily, ...] = (
    GpuFamily("Fermi", ("GF100", "GF110"), Version(2, 0), Version(3, 0), _CUDA_8, 390, _NO),
    GpuFamily(
        "Fermi",
        ("GF104", "GF106", "GF108", "GF114", "GF116", "GF117", "GF119"),
        Version(2, 1),
        Version(3, 0),
        _CUDA_8,
        390,
        _NO,
    ),
    GpuFamily(
        "Kepler",
        ("GK104", "GK106", "GK107"),
        Version(3, 0),
        Version(6, 0),
        _CUDA_10,
        470,
        _NO,
    ),
    GpuFamily(
        "Kepler",
        # GK180 is how pci.ids calls the GK110B of one board, the Tesla K40c.
        ("GK110", "GK110B", "GK180", "GK208", "GK208B"),
        Version(3, 5),
        Version(6, 0),
        _CUDA_11,
        470,
        _NO,
    ),
    GpuFamily("Kepler", ("GK210",), Version(3, 7), Version(6, 0), _CUDA_11, 470, _NO),
    GpuFamily("Maxwell", ("GM107", "GM108"), Version(5, 0), Version(6, 5), _CUDA_12, 580, _NO),
    GpuFamily(
        "Maxwell",
        ("GM200", "GM204", "GM206"),
        Version(5, 2),
        Version(6, 5),
        _CUDA_12,
        580,
        _NO,
    ),
    GpuFamily("Pascal", ("GP100",), Version(6, 0), Version(8, 0), _CUDA_12, 580, _NO),
    GpuFamily(
        "Pascal",
        (
            *("GP102", "GP104", "GP104B", "GP106", "GP106B"),
            *("GP107", "GP107B", "GP108", "GP108B"),
        ),
        Version(6, 1),
        Version(8, 0),
        _CUDA_12,
        580,
        _NO,
    ),
    GpuFamily("Volta", ("GV100",), Version(7, 0), Version(9, 0), _CUDA_12, 580, _NO),
    GpuFamily(
        "Turing",
        (
            *("TU102", "TU104", "TU104B", "TU106", "TU106B"),
            *("TU116", "TU116B", "TU117", "TU117B"),
        ),
        Version(7, 5),
        Version(10, 0),
        None,
        None,
        _YES,
    ),
    GpuFamily("Ampere", ("GA100",), Version(8, 0), Version(11, 0), None, None, _YES),
    GpuFamily(
        "Ampere",
        ("GA102", "GA103", "GA104", "GA106", "GA107", "GA107B"),
        Version(8, 6),
        Version(11, 1),
        None,
        None,
        _YES,
    ),
    GpuFamily(
        "Ada",
        ("AD102", "AD103", "AD104", "AD106", "AD107"),
        Version(8, 9),
        Version(11, 8),
        None,
        None,
        _YES,
    ),
    GpuFamily("Hopper", ("GH100",), Version(9, 0), Version(11, 8), None, None, _YES),
    GpuFamily("Blackwell", ("GB100", "GB102"), Version(10, 0), Version(12, 8), None, None, _ONLY),
    GpuFamily(
        "Blackwell",
        ("GB202", "GB203", "GB205", "GB206", "GB207"),
        Version(12, 0),
        Version(12, 8),
        None,
        None,
        _ONLY,
    ),
)


@dataclass(frozen=True, slots=True)
class Board:
    """A board that NVIDIA dropped before the rest of its family."""

    device_id: int
    name: str
    last_branch: int
    source: str = "NVIDIA driver 550.163.01 README, appendix A, legacy GPUs of the 367.xx driver"


BOARDS: tuple[Board, ...] = (
    Board(0x0FEF, "GRID K340", 367),
    Board(0x0FF2, "GRID K1", 367),
    Board(0x11BF, "GRID K2", 367),
)
