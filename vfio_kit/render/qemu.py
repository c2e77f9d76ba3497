"""PURE: QEMU's command line for a domain: options are JSON wherever QEMU takes it.

So no comma needs doubling.
"""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from vfio_kit.model.vm import BootMode, DomainPlan, HostDevice
from vfio_kit.plan.domain import DISK_SLOT, FIRST_PORT_SLOT, NET_SLOT, SEED_SLOT
from vfio_kit.render.placement import Pinning, pinning_of

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
BUNDLE_SLOT = SEED_SLOT + 1
"""Of the disk with the offline bundle, where there is one."""

_COMMON = "accel=kvm,usb=off,dump-guest-core=off,memory-backend=pc.ram"
Q35 = f"q35,{_COMMON}"
MICROVM = f"microvm,{_COMMON},acpi=on,pcie=on,rtc=on,pit=off,pic=off,auto-kernel-cmdline=off"
"""A machine without chipset: PCI Express (pcie=on) comes with ACPI alone. Time comes from kvmclock,
so that it needs no PIT; a clock that goes on (rtc=on) is what certificates are checked by.
https://www.qemu.org/docs/master/system/i386/microvm.html"""
_OVMF_WINDOW_MIB = 32 * 1024
"""OVMF's own 64-bit MMIO window, before it sized it by the CPU's addresses (2022.11)."""


def port_slot(bus: int) -> int:
    """The slot of the root port that opens guest bus `bus`."""
    return FIRST_PORT_SLOT + bus - 1


def ovmf_window_mib(domain: DomainPlan) -> int:
    """MiB of the 64-bit MMIO window that OVMF must be told; 0 where it needs no telling."""
    window = domain.mmio_window >> 20
    return window if domain.boot.mode is BootMode.UEFI and window > _OVMF_WINDOW_MIB else 0


def qemu_arguments(domain: DomainPlan, machine: str = Q35) -> list[list[str]]:
    """QEMU's command line behind the program, an option and its value a row.

    The devices, their ids and addresses are those that libvirt gives to our XML.
    """
    cpus, pinning = domain.topology, pinning_of(domain)
    # The script finds the vCPUs' threads by their names, which they have with debug-threads.
    named = ",debug-threads=on" if pinning.vcpus else ""
    rows = [
        ["-name", f"guest={domain.name}{named}"],
        ["-uuid", domain.uuid],
        ["-machine", machine],
        ["-cpu", "host,topoext=on" if cpus.topoext else "host"],
        [
            "-smp",
            f"{domain.cpus},sockets={cpus.sockets},cores={cpus.cores},threads={cpus.threads}",
        ],
        ["-m", f"size={domain.memory_mib}M"],
        *_object_rows(domain, pinning),
        *(_window_rows(domain) if machine == Q35 else ()),
        ["-nodefaults"],
        ["-no-user-config"],
        ["-display", "none"],
        ["-serial", "mon:stdio"],
        *_boot_rows(domain),
    ]
    rows += [["-device", _json(_root_port(bus))] for bus in domain.root_ports]
    rows += _disk_rows(domain, pinning)
    rows += [
        ["-netdev", "user,id=hostnet0,hostfwd=tcp:127.0.0.1:${SSH_PORT}-:22"],
        [
            "-device",
            _json(
                {
                    "driver": "virtio-net-pci",
                    "netdev": "hostnet0",
                    "id": "net0",
                    "mac": domain.mac,
                    "bus": "pcie.0",
                    "addr": hex(NET_SLOT),
                    "rombar": 0,
                }
            ),
        ],
    ]
    rows += [["-device", _json(_vfio(n, d))] for n, d in enumerate(domain.host_devices)]
    return rows


def _object_rows(domain: DomainPlan, pinning: Pinning) -> list[list[str]]:
    """The memory, on its nodes; the threads that fill it, near to it; the disk's own thread."""
    pages = domain.hugepages
    memory: dict[str, Any] = {"qom-type": "memory-backend-ram", "id": "pc.ram"}
    if pages:
        memory = {
            "qom-type": "memory-backend-memfd",
            "id": "pc.ram",
            "hugetlb": True,
            "hugetlbsize": pages.size_kib << 10,
            "share": True,
            "prealloc": True,
            "prealloc-threads": pages.threads,
        }
    memory["size"] = domain.memory_mib << 20
    objects = [memory]
    if pinning.nodes:
        memory |= {"host-nodes": list(pinning.nodes), "policy": "bind"}
    if pinning.nodes and pages:
        # Else they would all run where QEMU's own threads are, on a core or two. QEMU 7.2.
        memory["prealloc-context"] = "tc-pc.ram"
        context = {"qom-type": "thread-context", "id": "tc-pc.ram"}
        objects = [{**context, "node-affinity": list(pinning.nodes)}, memory]
    if pinning.emulator:
        objects.append({"qom-type": "iothread", "id": "iothread1"})
    return [["-object", _json(one)] for one in objects]


def _window_rows(domain: DomainPlan) -> list[list[str]]:
    """Room for large BARs above the memory: in the chipset's tables, and in OVMF's count."""
    rows = []
    if domain.mmio_window:
        size = f"{domain.mmio_window >> 10}K"
        rows.append(["-global", f"q35-pcihost.pci-hole64-size={size}"])
    if mib := ovmf_window_mib(domain):
        rows.append(["-fw_cfg", f"name=opt/ovmf/X-PciMmio64Mb,string={mib}"])
    return rows


def _boot_rows(domain: DomainPlan) -> list[list[str]]:
    boot = domain.boot
    if boot.mode is BootMode.DIRECT:
        return [["-kernel", boot.kernel], ["-initrd", boot.initrd], ["-append", boot.cmdline]]
    if boot.mode is BootMode.UEFI:
        return [
            ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}"],
            ["-drive", "if=pflash,format=raw,file=${VARS}"],
        ]
    return []


def _root_port(bus: int) -> dict[str, Any]:
    slot = port_slot(bus)
    return {
        "driver": "pcie-root-port",
        "port": slot,
        "chassis": bus,
        "id": f"pci.{bus}",
        "bus": "pcie.0",
        "addr": hex(slot),
    }


def _disk_rows(domain: DomainPlan, pinning: Pinning) -> list[list[str]]:
    rows: list[list[str]] = []
    disks = [("disk", domain.disk, "qcow2", DISK_SLOT), ("seed", domain.seed, "raw", SEED_SLOT)]
    if domain.bundle:
        disks.append(("bundle", domain.bundle, "raw", BUNDLE_SLOT))
    for number, (node, path, fmt, slot) in enumerate(disks):
        read_only = node != "disk"
        blockdev = {
            "driver": fmt,
            "node-name": node,
            "read-only": read_only,
            "discard": "unmap",
            "file": {"driver": "file", "filename": path, "discard": "unmap"},
        }
        device: dict[str, Any] = {
            "driver": "virtio-blk-pci",
            "bus": "pcie.0",
            "addr": hex(slot),
            "drive": node,
            "id": f"virtio-disk{number}",
        }
        if node == "disk" and domain.boot.mode is not BootMode.DIRECT:
            device["bootindex"] = 1
        if node == "disk" and pinning.emulator:
            device["iothread"] = "iothread1"
        rows += [["-blockdev", _json(blockdev)], ["-device", _json(device)]]
    return rows


def _vfio(number: int, device: HostDevice) -> dict[str, Any]:
    values: dict[str, Any] = {
        "driver": "vfio-pci",
        "host": str(device.source),
        "id": f"hostdev{number}",
        "bus": f"pci.{device.guest_bus}",
        "addr": f"0x0.{device.guest_function:#x}" if device.guest_function else "0x0",
        # The option ROM serves a display at boot; a headless guest computes without it.
        "rombar": 1 if device.rom else 0,
    }
    if device.rom:
        values["romfile"] = device.rom
    if device.multifunction:
        values["multifunction"] = True
    return values


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def shell_words(row: Sequence[str]) -> str:
    """An option and its value as shell words; `${NAME}` of our own script stays a variable."""
    return " ".join(
        f'"{word}"' if "${" in word and _only_ours(word) else shlex.quote(word) for word in row
    )


def _only_ours(word: str) -> bool:
    """Whether a word is one of the constant rows above that refer to a variable of the script."""
    return word in (
        "user,id=hostnet0,hostfwd=tcp:127.0.0.1:${SSH_PORT}-:22",
        "if=pflash,format=raw,file=${VARS}",
    )
