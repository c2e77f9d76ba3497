"""The rungs of nvidia-smi: that it answers, and what it says of each GPU."""

import dataclasses
from collections.abc import Sequence

from vfio_kit.analysis.guest.classify import failure
from vfio_kit.analysis.guest.nvidia_tools import Place, SmiGpu, SmiLog, parse_smi, place_at
from vfio_kit.analysis.guest.pci import GuestFunction
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.signatures.remedies import READ_LOG, SERVICE
from vfio_kit.model import PciAddress
from vfio_kit.model.health import Check, CheckStatus, CommandResult

_SMI, _STATE = "nvidia-smi", "gpu-state"
_OK, _WARN, _FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED

_HOT = (
    "give the card air; a passively cooled one (Tesla) needs the airflow of a server through its "
    "whole length"
)
_ASKS_THE_LOG = ("no-devices", "driver-not-loaded")
_HARMFUL = {
    "hw_slowdown": "slowed down by its hardware: heat, or too little power",
    "hw_thermal_slowdown": "slowed down by its hardware, because of heat",
    "hw_power_brake_slowdown": "slowed down by the power supply",
    "sw_thermal_slowdown": "slowed down by the driver, because of heat",
}
"""Throttle reasons that tell of a fault; power caps and clock settings do not."""


def smi_check(
    result: CommandResult, gpus: Sequence[GuestFunction], gpu_count: int | None, why: str
) -> tuple[Check, SmiLog | None]:
    """The check, and what nvidia-smi lists, if it lists anything.

    why  what the kernel log has on the driver's start, for where nvidia-smi finds no GPU.
    """
    failed = failure(_SMI, result, first=True)
    if failed is not None and failed.status is _FAILED:
        if why and failed.cause in _ASKS_THE_LOG:
            failed = dataclasses.replace(failed, evidence=f"{failed.evidence}; {why}")
        return failed, None
    try:
        log = parse_smi(result.stdout)
    except ValueError as error:
        remedy = "run it in the guest: nvidia-smi -q -x"
        return Check(_SMI, _FAILED, str(error), remedy, "unreadable"), None
    if not log.gpus:
        evidence = f"driver {log.driver} lists no GPU"
        return Check(_SMI, _FAILED, evidence, READ_LOG, "no-devices"), log
    missing = _missing(gpus, log)
    due = max(gpu_count or 0, sum(gpu.is_nvidia for gpu in gpus))
    if missing or due > len(log.gpus):
        evidence = f"driver {log.driver} lists {len(log.gpus)} of {due} GPUs"
        evidence += f"; not {', '.join(missing)}" if missing else ""
        return Check(_SMI, _FAILED, evidence, READ_LOG, "fewer-gpus"), log
    shown = ", ".join(f"{gpu.name or 'unnamed'} {gpu.memory_mib or '?'} MiB" for gpu in log.gpus)
    evidence = f"driver {log.driver}, CUDA {log.cuda}: {shown}"
    if failed is not None:
        return Check(_SMI, failed.status, failed.evidence, failed.remedy, failed.cause), log
    return Check(_SMI, _OK, evidence), log


def _missing(gpus: Sequence[GuestFunction], log: SmiLog) -> list[str]:
    """GPUs of the PCI bus that the driver does not list; none where it gives no places."""
    listed = [place_of(gpu.bus_id) for gpu in log.gpus]
    if None in listed:
        return []
    return [str(gpu) for gpu in gpus if gpu.is_nvidia and place_of(gpu.address) not in listed]


def place_of(bus_id: str | None) -> Place | None:
    """The place of an address as the kernel or nvidia-smi writes it; else None."""
    try:
        return place_at(*PciAddress.parse(bus_id or "").slot)
    except UsageError:
        return None


def state_check(log: SmiLog | None) -> Check:
    """ECC, page retirement, temperature and throttling of each GPU; the worst names the cause."""
    if log is None or not log.gpus:
        return Check(_STATE, CheckStatus.NOT_RUN, "nvidia-smi lists no GPU")
    found = [(gpu, fault) for gpu in log.gpus for fault in _faults(gpu)]
    if not found:
        return Check(_STATE, _OK, "; ".join(_words(gpu) for gpu in log.gpus))
    found.sort(key=lambda pair: pair[1].status is not _FAILED)
    worst = found[0][1]
    evidence = "; ".join(f"{gpu.bus_id or gpu.name}: {fault.evidence}" for gpu, fault in found)
    return Check(_STATE, worst.status, evidence, worst.remedy, worst.cause)


def _faults(gpu: SmiGpu) -> list[Check]:
    faults = []

    def add(status: CheckStatus, evidence: str, remedy: str, cause: str) -> None:
        faults.append(Check(_STATE, status, evidence, remedy, cause))

    if gpu.uncorrected_errors:
        add(_FAILED, f"{gpu.uncorrected_errors} uncorrected ECC errors", SERVICE, "ecc-errors")
    if gpu.remap_failed:
        add(_FAILED, "a memory row could not be remapped", SERVICE, "remap-failed")
    if gpu.retirement_pending:
        remedy = "restart the VM, so that they are retired; watch whether more follow"
        add(_WARN, "memory pages wait to be retired", remedy, "retirement-pending")
    if gpu.headroom_c is not None and gpu.headroom_c <= 0:
        add(_FAILED, f"{gpu.temperature_c} °C, where it slows down", _HOT, "too-hot")
    for reason in gpu.throttle_reasons:
        if reason in _HARMFUL:
            cause = "throttled"
            add(_WARN, _HARMFUL[reason], _HOT if "thermal" in reason else READ_LOG, cause)
    return faults


def _words(gpu: SmiGpu) -> str:
    parts = [f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else "temperature unknown"]
    parts.append(f"ECC {gpu.ecc}" if gpu.ecc else "no ECC")
    if gpu.persistence == "Disabled":
        parts.append("persistence mode off, so that the first use takes longer")
    return f"{gpu.bus_id or gpu.name}: " + ", ".join(parts)
