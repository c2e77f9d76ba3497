"""PURE: the virtual machine of a plan, to the last detail; where each function goes in it."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vfio_kit.analysis.readiness.resources import wide_window
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guests import DIRECT_BOOT_CMDLINE, GUESTS
from vfio_kit.model import PciAddress, PciDevice
from vfio_kit.model.placement import PAGE_SIZES, Hugepages
from vfio_kit.model.vm import Boot, BootMode, DomainPlan, HostDevice, Software, console_log

if TYPE_CHECKING:
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
    spec: "GuestSpec",
    memory: int,
    software: Software,
    functions: tuple[PciDevice, ...],
    image_dir: str,
    host_id: str = "",
) -> DomainPlan:
    """The machine of a spec that gets `memory` MiB and these functions; files are in `image_dir`.

    host_id  tells this host from others, so that VMs of the same name do not look the same in a
             network that both are in.
    """
    name = spec.name
    identity = f"{host_id}/{name}" if host_id else name
    devices = place(tuple(f.address for f in functions))
    pages = PAGE_SIZES.get(spec.hugepages)
    return DomainPlan(
        name=name,
        uuid=str(uuid.uuid5(_UUID_NAMESPACE, identity)),
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
        mac=_mac(identity),
        root_ports=tuple(sorted({device.guest_bus for device in devices})),
        host_devices=_with_roms(devices, spec.roms),
        mmio_window=wide_window(functions),
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


def _boot(spec: "GuestSpec") -> Boot:
    mode = spec.boot.effective_mode
    if mode is not BootMode.DIRECT:
        return Boot(mode)
    cmdline = f"root={GUESTS[spec.guest].root} {DIRECT_BOOT_CMDLINE}"
    return Boot(mode, spec.boot.kernel or "", spec.boot.initrd or "", cmdline)


def _with_roms(devices: tuple[HostDevice, ...], roms: Mapping[str, str]) -> tuple[HostDevice, ...]:
    """Raises UsageError for a ROM of a function that does not go."""
    files = {PciAddress.parse(address): file for address, file in roms.items()}
    for address in sorted(files.keys() - {device.source for device in devices}):
        raise UsageError(
            f"the option ROM {files[address]} is for {address}, which is not handed over",
            "functions that go: " + ", ".join(str(device.source) for device in devices),
        )
    return tuple(replace(device, rom=files.get(device.source)) for device in devices)


def _mac(identity: str) -> str:
    """A stable address in QEMU's range 52:54:00, from the VM's name, and its host's identity."""
    tail = hashlib.sha256(identity.encode()).digest()[:3]
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)
