"""PURE: a plan as the document that `plan --json` prints, and a saved one against a plan of now.

Its schema is vfio_kit/schemas/plan-2.schema.json.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vfio_kit.model.vm import DomainPlan, UpPlan
from vfio_kit.plan.memlock import memlock_mib

SCHEMA = "vfio-kit/plan/2"
_NOT_COMPARED = frozenset({"schema", "steps", "findings", "spec"})
"""The steps are the words for the rest, and findings hold the host's state of the moment."""


def plan_document(plan: UpPlan) -> dict[str, Any]:
    """All that was decided, without the findings, in JSON's types."""
    domain = plan.domain
    return {
        "schema": SCHEMA,
        "name": domain.name,
        "guest": plan.guest,
        "driver": plan.software.driver,
        "cuda": plan.software.cuda,
        "cuda_way": plan.software.cuda_way.value if plan.software.cuda else None,
        "capabilities": list(plan.software.capabilities),
        "packages": list(plan.software.packages),
        "bundle": plan.software.bundle,
        "baked": plan.software.baked,
        "image": plan.image or None,
        "disk_gib": plan.disk_gib,
        "cpus": domain.cpus,
        "memory_mib": domain.memory_mib,
        "memlock_mib": memlock_mib(domain) or None,
        **_place(domain),
        "mmio_window": domain.mmio_window or None,
        "boot": domain.boot.mode.value,
        "kernel": domain.boot.kernel or None,
        "initrd": domain.boot.initrd or None,
        "network": domain.network,
        "autostart": plan.autostart,
        "user": plan.user,
        "identity": plan.identity,
        "authorized_keys": list(plan.authorized_keys),
        "devices": _devices(plan),
        "steps": [
            {"step": step.kind.value, "what": step.what, "undo": step.undo} for step in plan.steps
        ],
    }


def _place(domain: DomainPlan) -> dict[str, Any]:
    pages, topology, placement = domain.hugepages, domain.topology, domain.placement
    return {
        "hugepages": None
        if pages is None
        else {"size_kib": pages.size_kib, "count": pages.count, "threads": pages.threads},
        "topology": {
            "sockets": topology.sockets,
            "cores": topology.cores,
            "threads": topology.threads,
        },
        "placement": None
        if placement is None
        else {
            "nodes": list(placement.nodes),
            "pages": [{"node": node, "count": count} for node, count in placement.pages],
            "vcpus": [list(cpus) for cpus in placement.vcpus],
            "emulator": list(placement.emulator),
            "shared": placement.shared,
        },
    }


def _devices(plan: UpPlan) -> list[dict[str, Any]]:
    return [
        {
            "address": str(device.address),
            "ids": device.ids,
            "name": device.name,
            "driver": device.driver,
            "subsystem": device.subsystem,
            "class": None if device.class_code is None else f"{device.class_code:06x}",
            "iommu_group": device.iommu_group,
            "upstream": [str(above) for above in device.upstream],
            "numa_node": device.numa_node,
            "guest_address": f"0000:{place.guest_bus:02x}:00.{place.guest_function}",
            "rom": place.rom,
        }
        for device, place in zip(plan.devices, plan.domain.host_devices, strict=True)
    ]


def differences(saved: Mapping[str, Any], now: UpPlan) -> tuple[str, ...]:
    """A sentence for each thing that is planned otherwise now than in a saved document.

    saved  the document of `plan --json`, parsed: whatever a file may hold.

    Of IOMMU groups who is in them counts; for their numbers see analysis/drift.py.
    """
    then, today = dict(_facts(saved)), dict(_facts(plan_document(now)))
    order = dict.fromkeys((*today, *then))
    devices = {what.partition(":::")[0] for what in order if ":::" in what}
    gone = {d for d in devices if not any(w.startswith(d) for w in today)}
    new = {d for d in devices if not any(w.startswith(d) for w in then)}
    said = [f"{device} goes no more" for device in sorted(gone)]
    said += [f"{device} goes, and did not" for device in sorted(new)]
    for what in order:
        device, _, key = what.rpartition(":::")
        if device in gone | new or then.get(what) == today.get(what):
            continue
        name = f"{key} of {device}" if device else key
        said.append(f"{name} is {today.get(what, 'not there')}, was {then.get(what, 'not there')}")
    return tuple(said)


def _facts(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf as (its name, its value in words); of a device, ADDRESS:::name."""
    for key, value in document.items():
        name = f"{above}{key}"
        if not above and key in _NOT_COMPARED:
            continue
        if key == "devices" and isinstance(value, list):
            devices = [device for device in value if isinstance(device, dict)]
            for device in devices:
                shared = {**device, "iommu_group": _group_of(device, devices)}
                yield from _facts(shared, f"{device.get('address')}:::")
        elif isinstance(value, dict):
            yield from _facts(value, f"{name}.")
        else:
            yield name, _words(value)


def _group_of(device: Mapping[str, Any], devices: list[dict[str, Any]]) -> list[str] | None:
    """The addresses that are in its IOMMU group with it, in the document; None without a group."""
    number = device.get("iommu_group")
    members = (each for each in devices if each.get("iommu_group") == number)
    return None if number is None else sorted(str(each.get("address")) for each in members)


def _words(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
