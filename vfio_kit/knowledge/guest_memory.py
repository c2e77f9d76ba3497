"""How much memory a guest gets for its GPUs, where the operator does not say.

As much as the GPUs have themselves: what a GPU works on was mostly in the guest's memory before,
and frameworks keep a copy of it there. At least what the origin story's card takes.
"""

from dataclasses import dataclass

LEAST_MIB = 8192
"""For a guest with any card, and what an M4000 with its 8 GiB takes."""

_VGPU = "https://docs.nvidia.com/grid/8.0/grid-vgpu-user-guide/index.html"
"""NVIDIA's tables of virtual GPUs: the largest type has all of a physical GPU's frame buffer."""
_PCI_IDS = "https://pci-ids.ucw.cz"
"""The name of the card has it."""
_K80 = "NVIDIA BD-07317-001, Tesla K80 GPU Accelerator, board specification"
_KEPLER = "https://www.anandtech.com/show/8729/nvidia-launches-tesla-k80-gk210-gpu"
_M4000 = "https://www.cadplace.co.uk/Hardware/Digging-into-the-Quadro-M40002"
_PASCAL_QUADROS = "http://gp-gpu.com/pascal-quadros-coming-march-2017-gp100-p4000-p2000/"


@dataclass(frozen=True, slots=True)
class CardMemory:
    """The memory of one GPU of a card, in GiB: of a K80 that of a half."""

    device_id: int
    name: str
    gib: int
    source: str


_ROWS = (
    CardMemory(0x1021, "Tesla K20Xm", 6, _KEPLER),
    CardMemory(0x1022, "Tesla K20c", 5, _KEPLER),
    CardMemory(0x1028, "Tesla K20m", 5, _KEPLER),
    CardMemory(0x1023, "Tesla K40m", 12, _KEPLER),
    CardMemory(0x1024, "Tesla K40c", 12, _KEPLER),
    CardMemory(0x102D, "Tesla K80", 12, _K80),
    CardMemory(0x11B4, "Quadro K4200", 4, _M4000),
    CardMemory(0x13BD, "Tesla M10", 8, _VGPU),
    CardMemory(0x13F1, "Quadro M4000", 8, _M4000),
    CardMemory(0x13F2, "Tesla M60", 8, _VGPU),
    CardMemory(0x13F3, "Tesla M6", 8, _VGPU),
    # Not the M40, nor the M6000 without a size in its name: 12 or 24 GiB, by the same ids.
    CardMemory(0x17F1, "Quadro M6000 24GB", 24, _PCI_IDS),
    CardMemory(0x15F7, "Tesla P100 PCIe 12GB", 12, _VGPU),
    CardMemory(0x15F8, "Tesla P100 PCIe 16GB", 16, _VGPU),
    CardMemory(0x15F9, "Tesla P100 SXM2 16GB", 16, _VGPU),
    CardMemory(0x1B38, "Tesla P40", 24, _VGPU),
    CardMemory(0x1BB1, "Quadro P4000", 8, _PASCAL_QUADROS),
    CardMemory(0x1BB3, "Tesla P4", 8, _VGPU),
    CardMemory(0x1BB4, "Tesla P6", 16, _VGPU),
    CardMemory(0x1C30, "Quadro P2000", 5, _PASCAL_QUADROS),
    CardMemory(0x1DB1, "Tesla V100 SXM2 16GB", 16, _VGPU),
    CardMemory(0x1DB4, "Tesla V100 PCIe 16GB", 16, _VGPU),
    CardMemory(0x1DB5, "Tesla V100 SXM2 32GB", 32, _VGPU),
    CardMemory(0x1DB6, "Tesla V100 PCIe 32GB", 32, _VGPU),
    CardMemory(0x1DF6, "Tesla V100S PCIe 32GB", 32, _PCI_IDS),
    CardMemory(0x1E36, "Quadro RTX 6000", 24, _VGPU),
    CardMemory(0x1EB8, "Tesla T4", 16, _VGPU),
    CardMemory(0x20B0, "A100 SXM4 40GB", 40, _PCI_IDS),
    CardMemory(0x20B1, "A100 PCIe 40GB", 40, _PCI_IDS),
    CardMemory(0x20B2, "A100 SXM4 80GB", 80, _PCI_IDS),
    CardMemory(0x20B5, "A100 PCIe 80GB", 80, _PCI_IDS),
    CardMemory(0x2330, "H100 SXM5 80GB", 80, _PCI_IDS),
)
CARD_MEMORY: dict[int, CardMemory] = {row.device_id: row for row in _ROWS}
