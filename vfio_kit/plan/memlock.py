"""PURE: how much memory QEMU has to be allowed to lock (RLIMIT_MEMLOCK)."""

from vfio_kit.model.vm import DomainPlan

_SPARE_MIB = 1024
"""What libvirt adds to a guest's RAM for the BARs of its devices, once for any number of them
(qemuDomainGetMemLockLimitBytes in src/qemu/qemu_domain.c)."""


def memlock_mib(domain: DomainPlan) -> int:
    """The limit in MiB: VFIO pins all of a guest's RAM; 0 where no device is handed over."""
    return domain.memory_mib + _SPARE_MIB if domain.host_devices else 0
