"""PURE: shell scripts that run QEMU: the machine that libvirt would make, and a microvm."""

from vfio_kit.errors import UsageError
from vfio_kit.model.vm import BootMode, RenderedFile, SeedKeys, UpPlan
from vfio_kit.render.environment import environment
from vfio_kit.render.placement import memlock_kib, pinning_of, pools_of
from vfio_kit.render.qemu import MICROVM, OVMF_VARS, Q35, qemu_arguments


def qemu_files(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    """run.sh"""
    return (_script(plan, "run.sh", Q35),)


def microvm_files(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    """microvm.sh; raises UsageError for a domain whose kernel firmware would have to find."""
    mode = plan.domain.boot.mode
    if mode is not BootMode.DIRECT:
        raise UsageError(
            f"a microvm has no firmware that boots a disk behind PCI Express (boot mode {mode})",
            "give it the guest's kernel with --kernel and --initrd, or render --output qemu",
        )
    return (_script(plan, "microvm.sh", MICROVM),)


def _script(plan: UpPlan, name: str, machine: str) -> RenderedFile:
    domain = plan.domain
    text = (
        environment("templates")
        .get_template("qemu/run.sh.j2")
        .render(
            plan=plan,
            domain=domain,
            is_microvm=machine == MICROVM,
            uefi=domain.boot.mode is BootMode.UEFI,
            ovmf_vars=OVMF_VARS,
            pinning=pinning_of(domain),
            pools=pools_of(domain),
            memlock_kib=memlock_kib(domain),
            arguments=qemu_arguments(domain, machine),
        )
    )
    return RenderedFile(name, text, 0o755)
