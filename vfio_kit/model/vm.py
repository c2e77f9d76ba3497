"""Nouns of a VM: what is planned, in every detail, and what is rendered of it."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from vfio_kit.errors import UsageError
from vfio_kit.model.pci import PciAddress
from vfio_kit.model.placement import CpuTopology, Hugepages, Placement
from vfio_kit.model.report import Finding

VM_NAME = r"^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$"
"""A VM's name is also its host name and part of file names: letters, digits, dots, hyphens."""


def check_name(name: str) -> None:
    """Raises UsageError for a name that no VM can have."""
    if re.fullmatch(VM_NAME, name) is None:
        raise UsageError(
            f"{name!r} is no name for a VM",
            "1 to 63 of a-z, 0-9, dot and hyphen; the first and the last a letter or a digit",
        )


def console_log(name: str) -> str:
    """Where a VM's serial console is written down: beside libvirt's own logs, under its own name.

    Not NAME-console.log, which would be the log of QEMU for a VM called NAME-console.
    """
    return f"/var/log/libvirt/qemu/{name}.console"


class BootMode(StrEnum):
    """How the guest's kernel is started."""

    DIRECT = "direct"
    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Boot:
    """kernel, initrd and cmdline are set for a direct kernel boot, and only then."""

    mode: BootMode
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A host function and its place in the guest: behind root port `guest_bus`, slot 0."""

    source: PciAddress
    guest_bus: int
    guest_function: int
    multifunction: bool
    rom: str | None = None
    """A file with an option ROM for it, on the host; None: no ROM is shown to the guest."""


@dataclass(frozen=True, slots=True)
class BackingImage:
    """The image under the overlay, as it was found; size in bytes, as the guest sees it."""

    path: str
    format: str
    size: int


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """The virtual machine, decided to the last detail; templates only print it."""

    name: str
    uuid: str
    memory_mib: int
    cpus: int
    hugepages: Hugepages | None
    boot: Boot
    disk: str
    """The overlay: a qcow2 file on top of the image."""
    seed: str
    console_log: str
    network: str
    mac: str
    root_ports: tuple[int, ...]
    """Guest bus numbers, one pcie-root-port each, one per host slot."""
    host_devices: tuple[HostDevice, ...]
    backing: BackingImage | None = None
    """Known once the image was examined; libvirt finds it by itself where it is None."""
    bundle: str | None = None
    """The ISO with the offline bundle, a third virtio disk; None where there is none."""
    placement: Placement | None = None
    """None: nothing is pinned, and the guest's CPUs are cores of one socket."""
    mmio_window: int = 0
    """Bytes of the 64-bit MMIO window that the functions' BARs need; 0: the firmware's own."""

    @property
    def topology(self) -> CpuTopology:
        return self.placement.topology if self.placement else CpuTopology(1, self.cpus, 1)


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a function was when it was planned: an address alone may mean another card tomorrow."""

    address: PciAddress
    ids: str
    driver: str | None
    name: str | None
    subsystem: str | None = None
    """vendor:device of its subsystem, as in `ids`."""
    class_code: int | None = None
    iommu_group: int | None = None
    upstream: tuple[PciAddress, ...] = ()
    """The functions above it, from the root complex down, as in PciDevice."""
    numa_node: int | None = None


class StepKind(StrEnum):
    """The kinds of steps; each has its doing and its undoing in apply/steps.py."""

    STATE = "state"
    HUGEPAGES = "hugepages"
    KEYS = "keys"
    DISK = "disk"
    SEED = "seed"
    DEFINE = "define"
    AUTOSTART = "autostart"
    START = "start"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that `up` does, and what undoes it (empty where there is nothing to undo)."""

    kind: StepKind
    what: str
    undo: str


class CudaWay(StrEnum):
    """How CUDA's toolkit comes into a guest."""

    PACKAGES = "packages"
    """Single packages of NVIDIA's repository, pinned."""
    RUNFILE = "runfile"
    """NVIDIA's installer, its toolkit alone; its checksum is known."""


@dataclass(frozen=True, slots=True)
class Software:
    """What is installed in the guest, decided; each name is a row of knowledge/provisioning."""

    driver: str
    """470, 580-open, or none."""
    cuda: str | None = None
    """11.4; None where no toolkit is wanted."""
    cuda_way: CudaWay = CudaWay.PACKAGES
    capabilities: tuple[str, ...] = ()
    """Compute capabilities of the cards that go, as in 5.2, each once; what deviceQuery and other
    samples are built for. Empty where no table has the card."""
    packages: tuple[str, ...] = ()
    """More packages of the guest's own distribution, by the operator."""
    bundle: str | None = None
    """The folder, on the host, from which all of it comes; None: from the network."""
    baked: bool = False
    """The image has it all already: the seed installs nothing."""


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package in a guest, as dpkg has it."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class BakedImage:
    """What an image holds that was made by `bake`; its manifest says so."""

    guest: str
    driver: str
    """As in Software."""
    driver_version: str | None
    """470.256.02; None without a driver."""
    cuda: str | None
    cuda_way: CudaWay
    capabilities: tuple[str, ...]
    """Those that its samples were built for; empty: not known."""
    packages: tuple[str, ...]
    """The operator's, as in Software."""


@dataclass(frozen=True, slots=True)
class UpPlan:
    """All that `up` will do, in order."""

    domain: DomainPlan
    guest: str
    user: str
    software: Software
    image: str
    disk_gib: int | None
    state_dir: str
    gpus: tuple[PciAddress, ...]
    devices: tuple[DeviceIdentity, ...]
    authorized_keys: tuple[str, ...]
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    autostart: bool = False
    """Whether the host starts the VM when it boots."""
    identity: str | None = None
    """The operator's own private key, on the host, to log in with; None: one is made."""


@dataclass(frozen=True, slots=True)
class SeedKeys:
    """The guest's SSH identity, made before boot; `host_private` is a secret (OpenSSH PEM)."""

    host_private: str = field(repr=False)
    host_public: str
    authorized: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file that an output consists of; `mode` is its permission bits."""

    path: str
    text: str = field(repr=False)
    mode: int = 0o644
