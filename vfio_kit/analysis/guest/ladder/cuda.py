"""The rungs of CUDA: deviceQuery, and the burn."""

import json
import re
from collections.abc import Sequence
from typing import Any

from vfio_kit.analysis.advice.chips import chip_of, family_of, short_name
from vfio_kit.analysis.guest.classify import classify, failure
from vfio_kit.analysis.guest.ladder.tools import place_of
from vfio_kit.analysis.guest.nvidia_tools import (
    DeviceQuery,
    QueryDevice,
    SmiGpu,
    SmiLog,
    parse_device_query,
)
from vfio_kit.analysis.guest.pci import GuestFunction
from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES
from vfio_kit.knowledge.signatures.remedies import READ_LOG
from vfio_kit.model.health import Check, CheckStatus, CommandResult

_QUERY, _BURN = "device-query", "burn"
_OK, _FAILED = CheckStatus.OK, CheckStatus.FAILED

_READ = "run deviceQuery in the guest and read all of it"
_HIDDEN = (
    "is CUDA_VISIBLE_DEVICES set, or a GPU's compute mode prohibited? Of GPUs that MIG splits, a "
    "program sees one instance alone"
)
_TOLERANCE = 0.05
"""What branches and tools differ by in the memory of one card: since 510 nvidia-smi counts what the
driver keeps for itself. 15360 MiB of a Tesla T4 are 14910 to 14970 for CUDA; on small cards it is a
larger part."""


def query_check(
    result: CommandResult,
    smi: SmiLog | None,
    gpus: Sequence[GuestFunction],
    gpu_count: int | None,
) -> tuple[Check, DeviceQuery | None]:
    """The check, and the devices that deviceQuery lists, if it came to a result."""
    failed = failure(_QUERY, result, first=False)
    query = parse_device_query(result.stdout)
    if failed is not None:
        return failed, query if query.result else None
    if query.result != "PASS":
        evidence = f"Result = {query.result}" if query.result else "no Result line"
        return Check(_QUERY, _FAILED, evidence, _READ, "unknown"), query
    number = len(query.devices)
    if smi is not None and number != len(smi.gpus):
        evidence = f"CUDA sees {number} of the {len(smi.gpus)} GPUs of nvidia-smi"
        return Check(_QUERY, _FAILED, evidence, _HIDDEN, "fewer-devices"), query
    if gpu_count is not None and number != gpu_count:
        evidence = f"CUDA sees {number} of the {gpu_count} GPUs that were planned"
        return Check(_QUERY, _FAILED, evidence, _HIDDEN, "fewer-devices"), query
    wrong = _wrong_device(query, smi, gpus)
    if wrong is not None:
        return wrong, query
    shown = ", ".join(f"{d.name} CC {d.compute_capability}" for d in query.devices)
    return Check(_QUERY, _OK, f"Result = PASS: {shown}"), query


def _wrong_device(
    query: DeviceQuery, smi: SmiLog | None, gpus: Sequence[GuestFunction]
) -> Check | None:
    """A device whose compute capability or memory is not the card's."""
    for device in query.devices:
        due = _capability_due(device, gpus)
        if due is not None and device.compute_capability not in (None, due):
            evidence = f"{device.name} has CC {device.compute_capability}, and {due} is its chip's"
            return Check(_QUERY, _FAILED, evidence, _READ, "wrong-capability")
    for gpu, other in zip(smi.gpus if smi else (), matched(smi, query), strict=True):
        if gpu.split:
            continue
        sizes = (gpu.memory_mib, other.memory_mib if other else None)
        if None not in sizes and not _near(sizes[0] or 0, sizes[1] or 0):
            evidence = f"{gpu.name}: {sizes[1]} MiB for CUDA, {sizes[0]} MiB for nvidia-smi"
            return Check(_QUERY, _FAILED, evidence, _READ, "wrong-memory")
    return None


def _near(one: int, other: int) -> bool:
    return abs(one - other) <= _TOLERANCE * max(one, other)


def _capability_due(device: QueryDevice, gpus: Sequence[GuestFunction]) -> str | None:
    """Of the PCI function at the device's place, else of the name; None of an unknown card."""
    ids = [(gpu.vendor, gpu.device) for gpu in gpus if place_of(gpu.address) == device.place]
    called = device.name.removeprefix("NVIDIA ").casefold()
    ids += [key for key, name in SHIPPED_NAMES.items() if short_name(name).casefold() == called]
    for key in ids:
        chip = chip_of(SHIPPED_NAMES.get(key, ""))
        family = family_of(chip) if chip else None
        if family is not None:
            return str(family.compute_capability)
    return None


def matched(smi: SmiLog | None, query: DeviceQuery | None) -> tuple[QueryDevice | None, ...]:
    """For each GPU of nvidia-smi its CUDA device: they number GPUs differently.

    By their place on the PCI bus; where one of them does not tell it, by order.
    """
    devices = query.devices if query else ()
    return tuple(_same(gpu, number, devices) for number, gpu in enumerate(smi.gpus if smi else ()))


def _same(gpu: SmiGpu, number: int, devices: tuple[QueryDevice, ...]) -> QueryDevice | None:
    place = place_of(gpu.bus_id)
    for device in devices:
        if place is not None and device.place == place:
            return device
    unplaced = [device for device in devices if device.place is None or place is None]
    return unplaced[number] if number < len(unplaced) else None


_NO_DEVICE = re.compile(r"\bcu\w+ returned 100\b", re.ASCII)


def judge_burn(result: CommandResult) -> Check:
    """The check of the burn program: one JSON object a line, the last with its result."""
    known = classify(_BURN, result)
    if known is not None:
        evidence = f"{known.meaning} (exit {result.exit_status})"
        return Check(_BURN, known.status, evidence, known.remedy, known.cause)
    lines = [line for line in map(_object, result.stdout.splitlines()) if line]
    last = lines[-1] if lines else {}
    devices = [line for line in lines if "device" in line]
    if last.get("result") == "PASS" and result.exit_status == 0 and devices:
        shown = "; ".join(_burnt(device) for device in devices)
        return Check(_BURN, _OK, shown)
    wrong = [device for device in devices if device.get("mismatches")]
    if wrong:
        evidence = "; ".join(_burnt(device) for device in wrong)
        remedy = "the GPU computes wrong: heat, power or memory; the card wants service"
        return Check(_BURN, _FAILED, evidence, remedy, "wrong-results")
    errors = [each["error"] for each in (*devices, last) if isinstance(each.get("error"), str)]
    said = "; ".join(dict.fromkeys(errors)) or result.stderr.strip() or "no result"
    cause = "no-device" if _NO_DEVICE.search(said) else "unknown"
    return Check(_BURN, _FAILED, f"exit {result.exit_status}: {said}", READ_LOG, cause)


def _object(line: str) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _burnt(device: dict[str, Any]) -> str:
    name = f"{device.get('bus_id') or device.get('device')} {device.get('name') or ''}".strip()
    iterations, seconds = device.get("iterations"), device.get("seconds")
    mismatches = device.get("mismatches")
    return f"{name}: {iterations} iterations in {seconds} s, {mismatches} wrong words"
