"""PURE: how much memory a guest gets for its GPUs."""

from collections.abc import Iterable

from vfio_kit.knowledge.findings import MEMORY_UNKNOWN, finding
from vfio_kit.knowledge.guest_memory import CARD_MEMORY, LEAST_MIB
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.model import Finding, PciDevice


def memory_for(functions: Iterable[PciDevice]) -> tuple[int, tuple[Finding, ...]]:
    """MiB, as much as the GPUs among these have together, at least LEAST_MIB.

    A GPU that no table has counts as one with LEAST_MIB, and a finding says so.
    """
    total, unknown = 0, []
    for gpu in (function for function in functions if function.is_gpu):
        row = CARD_MEMORY.get(gpu.device_id) if gpu.vendor_id == NVIDIA else None
        if row is None or gpu.physical_function is not None:
            unknown.append(_unknown(gpu))
        total += row.gib * 1024 if row and gpu.physical_function is None else LEAST_MIB
    return max(total, LEAST_MIB), tuple(unknown)


def _unknown(gpu: PciDevice) -> Finding:
    return finding(
        MEMORY_UNKNOWN,
        gpu.address,
        f"no table has the memory of {gpu.address} ({gpu.name or gpu.ids}): the guest gets "
        f"{LEAST_MIB} MiB for it",
        "name the guest's memory: --memory MIB",
    )
