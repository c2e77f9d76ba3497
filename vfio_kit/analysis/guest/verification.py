"""From what the guest's tools printed to a verdict for every rung and every GPU."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from vfio_kit.analysis.guest.kernel_log import parse_kernel_log
from vfio_kit.analysis.guest.ladder.cloud_init import cloud_init_check
from vfio_kit.analysis.guest.ladder.cuda import judge_burn, matched, query_check
from vfio_kit.analysis.guest.ladder.hardware import bar1_check, bar1_mib, link_check, pci_check
from vfio_kit.analysis.guest.ladder.log import log_check
from vfio_kit.analysis.guest.ladder.module import module_check
from vfio_kit.analysis.guest.ladder.tools import place_of, smi_check, state_check
from vfio_kit.analysis.guest.nvidia_tools import DeviceQuery, QueryDevice, SmiGpu, SmiLog
from vfio_kit.analysis.guest.pci import GuestFunction
from vfio_kit.analysis.guest.printable import printable_check, printable_gpu
from vfio_kit.knowledge.rungs import RUNGS, SSH
from vfio_kit.model.health import (
    Check,
    CheckStatus,
    CommandResult,
    GpuHealth,
    Planned,
    VerifyReport,
)

__all__ = ["NOT_PLANNED", "judge_burn", "judge_guest", "unreachable"]

NOT_PLANNED = Planned()

_NOT_ASKED = {
    "burn": "nobody asked for it: --burn SECONDS",
    "expect": "nothing is expected: --expect",
}
"""The rungs that are there only if somebody wants them."""


def unreachable(host: str, evidence: str, remedy: str) -> VerifyReport:
    """The report on a guest that SSH does not reach: nothing else was looked at."""
    first = Check(SSH, CheckStatus.FAILED, evidence, remedy)
    rest = (Check(rung.code, CheckStatus.NOT_RUN, "SSH comes first") for rung in RUNGS[1:])
    return _report(host, (), (first, *rest))


def judge_guest(
    host: str,
    results: Mapping[str, CommandResult],
    planned: Planned = NOT_PLANNED,
    *,
    extra: tuple[Check, ...] = (),
) -> VerifyReport:
    """The report on a guest, from the results of the probes (guest/probe).

    planned  what the VM was made with.
    extra    checks of others; each finds its place by its code, and goes before one of ours.

    A probe that is missing from `results` makes its rungs `not-run`.
    """
    asked = {code: results.get(code) or _SILENCE for code in _PROBES}
    log = parse_kernel_log(asked["kernel-log"].stdout)
    pci, functions, gpus = pci_check(asked["pci"], planned)
    module, _ = module_check(asked["module"], gpus, log, planned)
    why = next((e.meaning for e in log.events if e.status is CheckStatus.FAILED), "")
    smi_rung, smi = smi_check(asked["nvidia-smi"], gpus, planned.gpu_count, why)
    query_rung, query = query_check(asked["device-query"], smi, gpus, planned.gpu_count)
    holds = frozenset(c.code for c in (module, smi_rung) if c.status is CheckStatus.OK)
    listed = [_listed(gpu, smi) for gpu in gpus]
    checks = {
        check.code: check
        for check in (
            Check(SSH, CheckStatus.OK, "the host key is the known one"),
            cloud_init_check(asked["cloud-init"]),
            pci,
            link_check(gpus, listed),
            bar1_check(gpus, listed),
            module,
            smi_rung,
            state_check(smi),
            log_check(log, asked["kernel-log"].stderr, holds),
            query_rung,
        )
        if check.code not in _PROBES or check.code in results
    }
    if "burn" in results:
        checks["burn"] = judge_burn(results["burn"])
    checks |= {check.code: check for check in extra}
    rungs = tuple(checks.get(rung.code) or _unasked(rung.code) for rung in RUNGS)
    return _report(host, _gpus(smi, query, functions), _explained(rungs))


_SILENCE = CommandResult(0, "", "")
_PROBES = ("cloud-init", "pci", "module", "nvidia-smi", "kernel-log", "device-query")


def _unasked(code: str) -> Check:
    if code in _NOT_ASKED:
        return Check(code, CheckStatus.SKIPPED, _NOT_ASKED[code])
    return Check(code, CheckStatus.NOT_RUN, "was not asked")


def _explained(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Names, in each rung that does not hold, the lowest failed one that it stands on."""
    failed = {check.code for check in checks if check.status is CheckStatus.FAILED}
    down = (CheckStatus.FAILED, CheckStatus.NOT_RUN)
    return tuple(
        dataclasses.replace(check, explained_by=_reason(check.code, failed))
        if check.status in down
        else check
        for check in checks
    )


_NEEDS = {rung.code: rung.needs for rung in RUNGS}


def _reason(code: str, failed: set[str]) -> str | None:
    below = _below(code)
    return next((rung.code for rung in RUNGS if rung.code in failed & below), None)


def _below(code: str) -> set[str]:
    """All rungs that a rung stands on, and that those stand on."""
    direct = _NEEDS[code]
    return set(direct).union(*(_below(each) for each in direct))


def _report(host: str, gpus: Iterable[GpuHealth], checks: Iterable[Check]) -> VerifyReport:
    return VerifyReport(host, tuple(map(printable_gpu, gpus)), tuple(map(printable_check, checks)))


def _listed(gpu: GuestFunction, smi: SmiLog | None) -> SmiGpu | None:
    place = place_of(gpu.address)
    return next((one for one in smi.gpus if place_of(one.bus_id) == place), None) if smi else None


def _gpus(
    smi: SmiLog | None, query: DeviceQuery | None, functions: Sequence[GuestFunction]
) -> tuple[GpuHealth, ...]:
    """What nvidia-smi lists, with what CUDA and sysfs know of it; else what CUDA lists."""
    result = query.result if query else None
    if smi is None:
        return tuple(
            GpuHealth(d.name, None, None, d.memory_mib, d.compute_capability, result)
            for d in (query.devices if query else ())
        )
    return tuple(
        _health(smi, gpu, device, result if device else None, functions)
        for gpu, device in zip(smi.gpus, matched(smi, query), strict=True)
    )


def _health(
    smi: SmiLog,
    gpu: SmiGpu,
    device: QueryDevice | None,
    result: str | None,
    functions: Sequence[GuestFunction],
) -> GpuHealth:
    place = place_of(gpu.bus_id)
    at = (f for f in functions if f.is_display and place_of(f.address) == place)
    function = next(at, None) if place else None
    return GpuHealth(
        name=gpu.name,
        driver=smi.driver,
        cuda=smi.cuda,
        memory_mib=gpu.memory_mib,
        compute_capability=device.compute_capability if device else None,
        device_query=result,
        bus_id=gpu.bus_id,
        ids=function.ids if function else None,
        uuid=gpu.uuid,
        bar1_mib=gpu.bar1_mib or (bar1_mib(function) if function else None),
        link=function.link if function else None,
        temperature_c=gpu.temperature_c,
        ecc=gpu.ecc,
        uncorrected_errors=gpu.uncorrected_errors,
        retirement_pending=gpu.retirement_pending,
        persistence=gpu.persistence,
        throttle_reasons=gpu.throttle_reasons,
    )
