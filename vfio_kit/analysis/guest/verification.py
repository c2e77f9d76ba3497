"""From what the guest's tools printed to a verdict for every GPU."""

import re
from collections.abc import Mapping

from vfio_kit.analysis.guest.nvidia_tools import (
    DeviceQuery,
    QueryDevice,
    SmiGpu,
    SmiLog,
    parse_device_query,
    parse_smi,
)
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.signatures import SIGNATURES, Signature
from vfio_kit.model import PciAddress
from vfio_kit.model.health import (
    Check,
    CheckStatus,
    CommandResult,
    GpuHealth,
    Planned,
    VerifyReport,
)

CHECKS = ("ssh", "pci-functions", "nvidia-smi", "device-query")
"""The rungs, from the ground up."""

NOT_PLANNED = Planned()


def unreachable(host: str, evidence: str, remedy: str) -> VerifyReport:
    """The report on a guest that SSH does not reach: nothing else was looked at."""
    first = Check("ssh", CheckStatus.FAILED, evidence, remedy)
    rest = (Check(code, CheckStatus.NOT_RUN, "SSH comes first") for code in CHECKS[1:])
    return VerifyReport(host, (), (first, *rest))


def judge_guest(
    host: str,
    results: Mapping[str, CommandResult],
    planned: Planned = NOT_PLANNED,  # noqa: ARG001
    *,
    extra: tuple[Check, ...] = (),
) -> VerifyReport:
    """The report on a guest, from the results of the probes (guest/probe.COMMANDS).

    planned  what the VM was made with.
    extra    checks of others, which find their places by their codes.
    """
    pci = _pci_check(results["pci-functions"])
    smi_check, smi = _smi_check(results["nvidia-smi"])
    query_check, query = _query_check(results["device-query"], smi)
    ssh = Check("ssh", CheckStatus.OK, "the host key is the known one")
    return VerifyReport(host, _gpus(smi, query), (ssh, pci, smi_check, query_check, *extra))


def judge_burn(result: CommandResult) -> Check:
    """The check of the burn program's output: one JSON object a line, the last with its result."""
    status = CheckStatus.FAILED if result.exit_status else CheckStatus.OK
    return Check("burn", status, f"exit {result.exit_status}")


def classify(probe: str, result: CommandResult) -> Signature | None:
    """The known failure that a result shows; None where it shows none.

    A text says more than an exit status, so texts are looked for first.
    """
    rows = [row for row in SIGNATURES if row.probe == probe]
    said = result.stdout + result.stderr
    for row in rows:
        if row.text is not None and row.text in said:
            return row
    for row in rows:
        if row.exit_status is not None and row.exit_status == result.exit_status:
            return row
    return None


_FUNCTION = re.compile(
    r"^(?P<address>[0-9a-f:.]{12,16}) 0x(?P<vendor>[0-9a-f]{4}) 0x(?P<device>[0-9a-f]{4}) "
    r"0x03[0-9a-f]{4}$",
    re.MULTILINE,
)
"""A display controller, as the probe lists it: address, vendor, device, class."""


def _pci_check(result: CommandResult) -> Check:
    if result.exit_status:
        evidence = f"exit {result.exit_status}: {result.stderr.strip() or 'no reason given'}"
        remedy = "look in the guest: lspci -nn"
        return Check("pci-functions", CheckStatus.FAILED, evidence, remedy, "unknown")
    found = [
        f"{match['address']} [{match['vendor']}:{match['device']}]"
        for match in _FUNCTION.finditer(result.stdout)
    ]
    if found:
        return Check("pci-functions", CheckStatus.OK, "GPUs: " + ", ".join(found))
    return Check(
        "pci-functions",
        CheckStatus.FAILED,
        result.stderr.strip() or "the guest has no display controller at all",
        "is the GPU in the VM? vfio-kit list; virsh dumpxml NAME",
        "no-gpu",
    )


def _failure(probe: str, result: CommandResult) -> Check | None:
    known = classify(probe, result)
    said = (result.stdout.strip() or result.stderr.strip()).splitlines()
    # nvidia-smi begins with what is wrong, deviceQuery ends with it.
    line = "" if not said else said[0] if probe == "nvidia-smi" else said[-1]
    if known is not None:
        evidence = f"{known.meaning} (exit {result.exit_status}: {line})"
        return Check(probe, CheckStatus.FAILED, evidence, known.remedy, known.cause)
    if result.exit_status:
        evidence = f"exit {result.exit_status}: {line}"
        remedy = "in the guest: dmesg | grep -i -e NVRM -e Xid -e nvidia"
        return Check(probe, CheckStatus.FAILED, evidence, remedy, "unknown")
    return None


def _smi_check(result: CommandResult) -> tuple[Check, SmiLog | None]:
    failed = _failure("nvidia-smi", result)
    if failed is not None:
        return failed, None
    try:
        log = parse_smi(result.stdout)
    except ValueError as error:
        remedy = "run it in the guest: nvidia-smi -q -x"
        return Check("nvidia-smi", CheckStatus.FAILED, str(error), remedy, "unreadable"), None
    if not log.gpus:
        evidence = f"driver {log.driver} lists no GPU"
        remedy = "in the guest: dmesg | grep NVRM"
        return Check("nvidia-smi", CheckStatus.FAILED, evidence, remedy, "no-devices"), log
    names = ", ".join(gpu.name or "unnamed" for gpu in log.gpus)
    evidence = f"driver {log.driver}, CUDA {log.cuda}: {names}"
    return Check("nvidia-smi", CheckStatus.OK, evidence), log


def _query_check(result: CommandResult, smi: SmiLog | None) -> tuple[Check, DeviceQuery | None]:
    failed = _failure("device-query", result)
    query = parse_device_query(result.stdout)
    if failed is not None:
        return failed, query if query.result else None
    if query.result != "PASS":
        evidence = f"Result = {query.result}" if query.result else "no Result line"
        remedy = "run deviceQuery in the guest and read all of it"
        return Check("device-query", CheckStatus.FAILED, evidence, remedy, "unknown"), query
    if smi is not None and len(query.devices) != len(smi.gpus):
        evidence = f"CUDA sees {len(query.devices)} of the {len(smi.gpus)} GPUs of nvidia-smi"
        remedy = "is CUDA_VISIBLE_DEVICES set, or a GPU's compute mode prohibited?"
        return Check("device-query", CheckStatus.FAILED, evidence, remedy, "fewer-devices"), query
    shown = ", ".join(f"{d.name} CC {d.compute_capability}" for d in query.devices)
    return Check("device-query", CheckStatus.OK, f"Result = PASS: {shown}"), query


def _gpus(smi: SmiLog | None, query: DeviceQuery | None) -> tuple[GpuHealth, ...]:
    seen = query.devices if query else ()
    result = query.result if query else None
    if smi is None:
        return tuple(
            GpuHealth(d.name, None, None, d.memory_mib, d.compute_capability, result) for d in seen
        )
    return tuple(
        _merge(smi, gpu, _same(gpu, number, seen), result) for number, gpu in enumerate(smi.gpus)
    )


def _merge(smi: SmiLog, gpu: SmiGpu, device: QueryDevice | None, result: str | None) -> GpuHealth:
    return GpuHealth(
        name=gpu.name,
        driver=smi.driver,
        cuda=smi.cuda,
        memory_mib=gpu.memory_mib,
        compute_capability=device.compute_capability if device else None,
        device_query=result if device else None,
        bus_id=gpu.bus_id,
    )


def _same(gpu: SmiGpu, number: int, devices: tuple[QueryDevice, ...]) -> QueryDevice | None:
    """CUDA and nvidia-smi number GPUs differently: match by PCI location, else by order."""
    place = _place(gpu.bus_id)
    for device in devices:
        if place is not None and (device.bus, device.device) == place:
            return device
    unplaced = [device for device in devices if device.bus is None or place is None]
    return unplaced[number] if number < len(unplaced) else None


def _place(bus_id: str | None) -> tuple[int, int] | None:
    try:
        address = PciAddress.parse(bus_id or "")
    except UsageError:
        return None
    return (address.bus, address.device)
