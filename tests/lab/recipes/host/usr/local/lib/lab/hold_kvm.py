"""Keeps one virtual CPU in existence that never runs, so that KVM leaves its own code alone.

KVM patches its run loop (static keys such as kvm_apic_sw_disabled) when the first virtual CPU
comes, when the last one goes, and whenever none is left whose APIC is switched off.  QEMU before
8.1 may translate such code on one CPU while another patches it, and keep the breakpoint that was
there for a moment: the host then dies of "Oops: int3" in vcpu_run.  With one virtual CPU that
stays, its APIC never switched on, nothing is patched while a guest runs.
"""

import fcntl
import os
import signal

KVM_CREATE_VM = 0xAE01
KVM_CREATE_VCPU = 0xAE41
KVM_CREATE_IRQCHIP = 0xAE60

kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
machine = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
fcntl.ioctl(machine, KVM_CREATE_IRQCHIP, 0)
cpu = fcntl.ioctl(machine, KVM_CREATE_VCPU, 0)
signal.pause()
