"""Whether cloud-init, and what vfio-kit has it do, has ended without an error."""

from dataclasses import replace

from vfio_kit.analysis.guest.cloud_init import CloudInitStatus, parse_status
from vfio_kit.knowledge.provision_steps import PROVISION_STEPS
from vfio_kit.model.health import Check, CheckStatus, CommandResult

_CODE = "cloud-init"
_SEPARATOR = "--- provision"
_LOG = "in the guest: sudo less /var/log/cloud-init-output.log"
_WAIT = "wait for it in the guest: cloud-init status --wait; then verify again"
_RENEW = "nothing for now; before the next release of the guest: write its user-data anew"
_SHOWN = 2
_BUSY = ("running", "reboot")
_FINE = ("done", *_BUSY)


def cloud_init_check(result: CommandResult) -> Check:
    """From cloud-init's status, and from the state that vfio-kit's own provisioning writes."""
    text, _, state = result.stdout.partition(_SEPARATOR)
    check = _status_check(text.strip(), result)
    provision = dict(_pairs(state))
    if not provision or (check.status is CheckStatus.FAILED and provision.get("state") in _FINE):
        return check
    return _provision_check(provision, check)


def _status_check(text: str, result: CommandResult) -> Check:
    if text == "absent":
        return Check(_CODE, CheckStatus.SKIPPED, "cloud-init is not installed")
    try:
        status = _parse(text)
    except ValueError:
        said = text or result.stderr.strip() or "no answer"
        evidence = f"exit {result.exit_status}: {said}"
        remedy = "run it in the guest: cloud-init status"
        return Check(_CODE, CheckStatus.FAILED, evidence, remedy, "unknown")
    if status.status in ("disabled", "not run", "not started") and not status.errors:
        return Check(_CODE, CheckStatus.SKIPPED, f"status: {status.status}")
    if status.status == "running":
        evidence = "cloud-init is still at work"
        return Check(_CODE, CheckStatus.FAILED, evidence, _WAIT, "running")
    if status.ok and status.deprecated:
        evidence = f"status: done, and deprecated: {_some(status.deprecated)}"
        return Check(_CODE, CheckStatus.WARN, evidence, _RENEW, "deprecated")
    if status.ok:
        return Check(_CODE, CheckStatus.OK, "status: done")
    cause = "degraded" if status.status == "done" else "error"
    evidence = f"status: {status.status}: {_some(status.errors) or 'it names no error'}"
    return Check(_CODE, CheckStatus.FAILED, evidence, _LOG, cause)


def _some(messages: tuple[str, ...]) -> str:
    """The first of them, and how many more there are."""
    more = len(messages) - _SHOWN
    return "; ".join(messages[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _parse(text: str) -> CloudInitStatus:
    """JSON, or the lines of `status --long` of a release before 22.4."""
    if "{" in text:
        return parse_status(text)
    status = dict(_pairs(text, ":")).get("status")
    if status is None:
        raise ValueError("no status")
    detail = text.partition("detail:")[2].strip()
    return CloudInitStatus(status, (detail,) if status == "error" and detail else ())


def _provision_check(provision: dict[str, str], check: Check) -> Check:
    state, step = provision.get("state", ""), provision.get("step") or "an unknown step"
    if state == "done":
        ok = CheckStatus.OK if check.status is CheckStatus.SKIPPED else check.status
        return replace(check, status=ok, evidence=f"{check.evidence}; provisioning: done")
    if state in _BUSY:
        evidence = f"provisioning is still at work: {step}"
        return Check(_CODE, CheckStatus.FAILED, evidence, _WAIT, "running")
    why = provision.get("reason") or "no reason given"
    evidence = f"provisioning {state or 'in no known state'} at {step}: {why}"
    rows = [row for row in PROVISION_STEPS if row.code == step]
    culprit = provision.get("culprit") or provision.get("log")
    remedy = rows[0].remedy if rows else _LOG
    if culprit:
        remedy += f"; in the guest: sudo tail {culprit}"
    return Check(_CODE, CheckStatus.FAILED, evidence, remedy, "provisioning-failed")


def _pairs(text: str, separator: str = "=") -> list[tuple[str, str]]:
    split = (line.partition(separator) for line in text.splitlines())
    return [(key.strip(), value.strip()) for key, found, value in split if found]
