"""What `scan --json` prints; its schema is vfio_kit/schemas/scan-1.schema.json."""

from typing import Any

from vfio_kit.cli.common import device_json, finding_json
from vfio_kit.model import Bar, Finding, GpuReport, Host, PciDevice


def scan_document(
    host: Host, reports: tuple[GpuReport, ...], general: tuple[Finding, ...]
) -> dict[str, Any]:
    """The whole document: the host, its GPUs, and what concerns none of them alone."""
    return {
        "schema": "vfio-kit/scan/1",
        "host": _host_json(host),
        "gpus": [_gpu_json(host, report) for report in reports],
        "findings": [finding_json(found) for found in general],
    }


def _host_json(host: Host) -> dict[str, Any]:
    platform = host.platform
    return {
        "kernel": host.kernel_release or None,
        "machine": host.machine,
        "cpu_vendor": host.cpu_vendor or None,
        "iommus": list(host.iommus),
        "iommu_groups": len(host.iommu_groups),
        "interrupt_remapping": platform.interrupt_remapping,
        "vfio_pci": platform.vfio_pci,
        "kvm": platform.kvm,
        "secure_boot": platform.secure_boot,
        "lockdown": platform.lockdown,
        "memlock_kib": platform.memlock_kib,
        "numa_nodes": [
            {
                "node": node.number,
                "hugepages": [
                    {"size_kib": size, "total": total, "free": free}
                    for size, (total, free) in sorted(node.hugepages.items())
                ],
            }
            for node in platform.nodes
        ],
    }


def _gpu_json(host: Host, report: GpuReport) -> dict[str, Any]:
    gpu = report.gpu
    return {
        "address": str(gpu.address),
        "vendor_id": f"{gpu.vendor_id:04x}",
        "device_id": f"{gpu.device_id:04x}",
        "subsystem_vendor_id": _hex(gpu.subsystem_vendor_id),
        "subsystem_device_id": _hex(gpu.subsystem_device_id),
        "name": gpu.name,
        "class": gpu.pci_class,
        "iommu_group": gpu.iommu_group,
        "driver": gpu.driver,
        "verdict": report.verdict.value,
        "can_go": report.can_go,
        "functions": [str(function.address) for function in report.functions],
        "foreign_endpoints": [device_json(device) for device in report.foreign_endpoints],
        "bridges": [device_json(device) for device in report.bridges],
        "upstream": [_upstream_json(host.device(above), str(above)) for above in gpu.upstream],
        "board": [str(address) for address in report.board],
        "numa_node": gpu.numa_node,
        "power_state": gpu.power_state,
        "reset_methods": None if gpu.reset_methods is None else list(gpu.reset_methods),
        "bars": [_bar_json(bar) for bar in gpu.bars],
        "findings": [finding_json(found) for found in report.findings],
    }


def _upstream_json(device: PciDevice | None, address: str) -> dict[str, Any]:
    """A bridge above the GPU; its ACS registers where they could be read."""
    acs = device.config.acs if device is not None and device.config is not None else None
    return {
        "address": address,
        "name": None if device is None else device.name,
        "iommu_group": None if device is None else device.iommu_group,
        "acs": None
        if acs is None
        else {"capability": f"{acs.capability:04x}", "control": f"{acs.control:04x}"},
    }


def _bar_json(bar: Bar) -> dict[str, Any]:
    return {
        "index": bar.index,
        "size": bar.size,
        "io": bar.io,
        "is_64bit": bar.is_64bit,
        "prefetchable": bar.prefetchable,
        "unassigned": bar.unassigned,
    }


def _hex(number: int | None) -> str | None:
    return None if number is None else f"{number:04x}"
