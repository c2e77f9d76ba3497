"""The rung of the kernel module: loaded, of the right branch, and no other driver has a card."""

from collections.abc import Sequence

from vfio_kit.analysis.guest.driver_state import DriverState, parse_driver_state
from vfio_kit.analysis.guest.kernel_log import KernelLog
from vfio_kit.analysis.guest.pci import GuestFunction
from vfio_kit.model.health import Check, CheckStatus, CommandResult, Planned

_CODE = "module"
_DRIVER = "nvidia"

_SAYS_WHY = frozenset(
    (
        *("open-module", "open-module-gsp", "legacy-gpu", "unsupported-gpu"),
        *("version-magic", "module-symbols", "unknown-symbol"),
        *("key-rejected", "key-unavailable", "unsigned-rejected", "lockdown"),
        *(
            "bar-unassigned",
            "bar-empty",
            "bar1-empty",
            "bar0-missing",
            "bridge-window",
            "region-claimed",
        ),
        *("no-irq", "probe-not-called", "fallen-off-bus"),
    )
)
"""What the kernel log may say of a module that is not there, or does not take a card."""

_LOG = "in the guest: sudo modprobe nvidia; then sudo dmesg | grep -i -e NVRM -e nvidia"
_INSTALL = "install the driver of the card's branch: vfio-kit advise names it"
_OVERRIDE = (
    "in the guest: echo | sudo tee /sys/bus/pci/devices/ADDRESS/driver_override; "
    "sudo modprobe nvidia"
)
_BLACKLIST = "blacklist it in the guest, renew the initramfs, and reboot the guest"


def module_check(
    result: CommandResult, gpus: Sequence[GuestFunction], log: KernelLog, planned: Planned
) -> tuple[Check, DriverState]:
    """The check, and what is known of the module."""
    state = parse_driver_state(result.stdout)
    if result.exit_status and not state.kernel:
        evidence = f"exit {result.exit_status}: {result.stderr.strip() or 'no reason given'}"
        return _failed(evidence, "look in the guest: lsmod | grep nvidia", "unknown"), state
    nvidia = [gpu for gpu in gpus if gpu.is_nvidia]
    held = [f"{gpu.driver} holds {gpu}" for gpu in nvidia if gpu.driver not in (None, _DRIVER)]
    if held:
        return _failed(", ".join(held), _BLACKLIST, "other-driver"), state
    kept = [f"{gpu} for {gpu.override}" for gpu in nvidia if gpu.override not in (None, _DRIVER)]
    if kept:
        evidence = f"driver_override keeps {', '.join(kept)}"
        return _failed(evidence, _OVERRIDE, "driver-override"), state
    if not state.is_loaded:
        return _not_loaded(state, log), state
    unbound = [str(gpu) for gpu in nvidia if gpu.driver is None]
    if unbound:
        why = log.first(_SAYS_WHY)
        evidence = f"{_named(state)}, and does not drive {', '.join(unbound)}"
        if why:
            return _failed(f"{evidence}: {why.meaning}", why.remedy, why.cause), state
        return _failed(evidence, _LOG, "not-bound"), state
    return _branch_check(state, planned), state


def _branch_check(state: DriverState, planned: Planned) -> Check:
    branch = planned.driver
    if branch and state.version and not f"{state.version}.".startswith(f"{branch}."):
        evidence = f"{_named(state)}, and branch {branch} was planned"
        remedy = f"install branch {branch} and hold it: apt-mark hold; then reboot the guest"
        return _failed(evidence, remedy, "wrong-branch")
    return Check(_CODE, CheckStatus.OK, _named(state))


def _not_loaded(state: DriverState, log: KernelLog) -> Check:
    why = log.first(_SAYS_WHY)
    if why:
        evidence = f"the nvidia module is not loaded: {why.meaning} ({why.last})"
        return _failed(evidence, why.remedy, why.cause)
    if state.installed is not None:
        built = f"nvidia {state.installed}".rstrip()
        evidence = f"{built} is built for {state.kernel}, and not loaded"
        if state.secure_boot or state.lockdown:
            evidence += "; Secure Boot is on, which wants it signed"
        return _failed(evidence, _LOG, "not-loaded")
    if state.built_for:
        evidence = f"nvidia is built for {', '.join(state.built_for)}, and {state.kernel} runs"
        remedy = "in the guest: install linux-headers of that kernel; sudo dkms autoinstall"
        return _failed(evidence, remedy, "other-kernel")
    if "nouveau" in state.loaded:
        evidence = "the nvidia module is not installed, and nouveau is loaded"
        return _failed(evidence, _INSTALL, "not-installed")
    return _failed("the nvidia module is not installed", _INSTALL, "not-installed")


def _named(state: DriverState) -> str:
    kind = "nvidia, open module," if state.open else "nvidia"
    return f"{kind} {state.version or 'of unknown version'} is loaded"


def _failed(evidence: str, remedy: str, cause: str) -> Check:
    return Check(_CODE, CheckStatus.FAILED, evidence, remedy, cause)
