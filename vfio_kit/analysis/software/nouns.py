"""The wish, the cards, and the choice; what a card is, from a device or a compute capability."""

from dataclasses import dataclass

from vfio_kit.analysis.advice.chips import short_name
from vfio_kit.analysis.advice.compatibility import advise, advise_capability
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.model import Finding, PciAddress, PciDevice
from vfio_kit.model.advice import Advice, UnknownGpu
from vfio_kit.model.vm import CudaWay, Software


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a spec says of a guest's software; None where it says nothing."""

    guest: str
    driver: str | None = None
    """A driver's name, auto, or none."""
    cuda: str | None = None
    """A toolkit's version, auto, or none."""
    cuda_way: CudaWay = CudaWay.PACKAGES
    packages: tuple[str, ...] = ()
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU that the guest gets, and what is known about it."""

    label: str
    """As it is called in a message: 0000:01:00.0 (Quadro M4000)."""
    address: PciAddress | None
    known: Advice | UnknownGpu
    nvidia: bool = True
    """A card of NVIDIA's, known or not."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided, and what there is to say about it."""

    software: Software
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class No:
    """Why something does not go, and who says so."""

    reason: str
    source: str = ""


def card_of(device: PciDevice) -> Card:
    """The card that a GPU of a host is."""
    name = device.name or SHIPPED_NAMES.get((device.vendor_id, device.device_id))
    known = advise(device.vendor_id, device.device_id, name, "")
    if device.physical_function is not None:
        known = UnknownGpu(device.ids, name, "a virtual function takes the drivers of vGPU")
    called = short_name(name) if name else device.ids
    label = f"{device.address} ({called})"
    return Card(label, device.address, known, nvidia=device.vendor_id == NVIDIA)


def card_with(capability: str) -> Card:
    """Any card of a compute capability, as in 5.2."""
    return Card(f"a card of compute capability {capability}", None, advise_capability(capability))


def capabilities(cards: tuple[Card, ...]) -> tuple[str, ...]:
    """The compute capabilities of those that are known, lowest first."""
    found = {card.known.compute_capability for card in cards if isinstance(card.known, Advice)}
    return tuple(str(capability) for capability in sorted(found))
