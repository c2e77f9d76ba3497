"""VK6xx: the guest's software."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

_MATRIX = (
    "https://docs.nvidia.com/datacenter/tesla/drivers/"
    "cuda-toolkit-driver-and-architecture-matrix.html"
)
_MINOR_VERSION = (
    "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
)

UNKNOWN_CARD = FindingKind(
    "VK601",
    Level.WARN,
    "no table has the card: its driver is not checked",
    story="""
    Which driver branches drive a GPU, and which CUDA compiles for it, follows from its chip. For
    this card no chip is known: no list of names has its id, the name begins with no codename, it is
    a virtual function, which takes the drivers of vGPU, or it is not NVIDIA's, and stands beside
    one that is. Alone it is refused, unless the driver is `none`.

    The driver that the spec names is installed all the same, 470 where it names none. It may not
    drive the card: then the module does not find a device, and `nvidia-smi` fails in the guest.
    `--driver auto` refuses such a card.
    """,
    remedy=(
        """See what is known about the card, by its address on this host:
        $ vfio-kit advise --gpu ADDR""",
        """A card that is newer than the list of names: update the list, which is in pci.ids and
        the hwdb of udev, and scan again:
        $ sudo update-pciids""",
        """A card that is not NVIDIA's, or one of vGPU: take a guest without a driver, and install
        its own there:
        $ sudo vfio-kit up VM --gpu ADDR --driver none""",
    ),
    sources=(_MATRIX,),
)
NEWER_TOOLKIT = FindingKind(
    "VK602",
    Level.WARN,
    "the CUDA toolkit is newer than what the driver speaks",
    story="""
    A driver's libcuda speaks one version of CUDA; a toolkit of the same major version may be newer
    (minor version compatibility). What it compiles for the card's own compute capability runs.

    What does not run is PTX, which the driver compiles when a program starts: an older driver does
    not read the PTX of a newer toolkit (`CUDA_ERROR_UNSUPPORTED_PTX_VERSION`, 222). Programs that
    were compiled for other cards only, and libraries that compile at run time, fail so. Functions
    that came with the newer version fail, too.
    """,
    remedy=(
        "Take a toolkit that is not newer than what the driver speaks (`--cuda`).",
        "Or a newer driver, where the card has one (`--driver auto` takes the newest).",
        """Or compile for the card itself, not for others; for a compute capability of 8.9:
        $ nvcc -arch=sm_89 program.cu""",
    ),
    sources=(_MINOR_VERSION,),
)
