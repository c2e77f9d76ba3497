"""PURE: the virtual machine of a plan, to the last detail; where each function goes in it."""

import hashlib
import uuid
from pathlib import PurePosixPath

from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guest_memory import LEAST_MIB
from vfio_kit.knowledge.guests import DIRECT_BOOT_CMDLINE, GUESTS
from vfio_kit.model import PciAddress, PciDevice
from vfio_kit.model.vm import (
    PAGE_SIZES,
    Boot,
    BootMode,
    DomainPlan,
    HostDevice,
    Hugepages,
    Software,
    console_log,
)
from vfio_kit.spec import GuestSpec

# Slots on the guest's root bus. 0 is the host bridge, 1f the chipset's; root ports come last.
NET_SLOT = 0x03
DISK_SLOT = 0x04
SEED_SLOT = 0x05
FIRST_PORT_SLOT = 0x08
_MOST_PORTS = 0x1F - FIRST_PORT_SLOT

_UUID_NAMESPACE = uuid.UUID("5f1d2a52-6f0f-5c0e-9a43-1f5d9d1e8d11")
_MOST_PREALLOC_THREADS = 16


def domain_of(
    spec: GuestSpec, software: Software, functions: tuple[PciDevice, ...], image_dir: str
) -> DomainPlan:
    """The machine of a spec that gets these functions; its files are in `image_dir`."""
    name = spec.name
    memory = spec.memory or LEAST_MIB
    devices = place(tuple(f.address for f in functions))
    pages = PAGE_SIZES.get(spec.hugepages)
    return DomainPlan(
        name=name,
        uuid=str(uuid.uuid5(_UUID_NAMESPACE, name)),
        memory_mib=memory,
        cpus=spec.cpus,
        hugepages=None
        if pages is None
        else Hugepages(
            pages.kib, memory * 1024 // pages.kib, min(spec.cpus, _MOST_PREALLOC_THREADS)
        ),
        boot=_boot(spec),
        disk=str(PurePosixPath(image_dir) / f"{name}.qcow2"),
        seed=str(PurePosixPath(image_dir) / f"{name}-seed.iso"),
        console_log=console_log(name),
        network=spec.network.name,
        mac=_mac(name),
        root_ports=tuple(sorted({device.guest_bus for device in devices})),
        host_devices=devices,
        bundle=str(PurePosixPath(image_dir) / f"{name}-bundle.iso") if software.bundle else None,
    )


def place(addresses: tuple[PciAddress, ...]) -> tuple[HostDevice, ...]:
    """Gives host functions their places in the guest.

    The functions of one host slot share one guest slot behind one root port, and keep their
    numbers; a guest looks at function 0 first, so where the host's slot has none, they move up.
    """
    placed: list[HostDevice] = []
    slots = sorted({address.slot for address in addresses})
    if len(slots) > _MOST_PORTS:
        raise UsageError(
            f"{len(slots)} cards are more than the {_MOST_PORTS} that one guest has root ports for",
            "spread them over several guests",
        )
    for bus, slot in enumerate(slots, start=1):
        members = sorted(a for a in addresses if a.slot == slot)
        numbers = [a.function for a in members]
        if 0 not in numbers:
            numbers = list(range(len(members)))
        placed += [
            HostDevice(address, bus, number, multifunction=number == 0 and len(members) > 1)
            for address, number in zip(members, numbers, strict=True)
        ]
    return tuple(placed)


def _boot(spec: GuestSpec) -> Boot:
    mode = spec.boot.effective_mode
    if mode is not BootMode.DIRECT:
        return Boot(mode)
    cmdline = f"root={GUESTS[spec.guest].root} {DIRECT_BOOT_CMDLINE}"
    return Boot(mode, spec.boot.kernel or "", spec.boot.initrd or "", cmdline)


def _mac(name: str) -> str:
    """A stable address in QEMU's range 52:54:00, from the VM's name."""
    tail = hashlib.sha256(name.encode()).digest()[:3]
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)
