"""A host without IOMMU groups: the reason, and what to switch on."""

import pytest

from tests.unit.values import host
from vfio_kit.analysis.readiness.iommu import explain_no_iommu
from vfio_kit.model import Level

INTEL, AMD = "GenuineIntel", "AuthenticAMD"

# ACPI tables, CPU vendor, kernel command line, architecture
#   -> words of the reason, words of the next step
REASONS = {
    "DMAR is there, the kernel is not told": (
        ({"DMAR"}, INTEL, "quiet", "x86_64"),
        ("ACPI table DMAR", "the kernel does not use it"),
        ("add intel_iommu=on iommu=pt", "update-grub", "reboot"),
    ),
    "DMAR is there, the kernel is told, and nothing came of it": (
        ({"DMAR"}, INTEL, "intel_iommu=on", "x86_64"),
        ("ACPI table DMAR", "intel_iommu=on is given", "set none up"),
        ("dmesg | grep -i -e DMAR -e IOMMU", "only repeats the parameter"),
    ),
    "on among other values": (
        ({"DMAR"}, INTEL, "intel_iommu=sm_on,on", "x86_64"),
        ("intel_iommu=on is given",),
        ("dmesg",),
    ),
    "sm_on alone is not on": (
        ({"DMAR"}, INTEL, "intel_iommu=sm_on", "x86_64"),
        ("the kernel does not use it",),
        ("add intel_iommu=on",),
    ),
    "DMAR and intel_iommu=off": (
        ({"DMAR"}, INTEL, "ro intel_iommu=off quiet", "x86_64"),
        ("the kernel command line has intel_iommu=off",),
        ("remove intel_iommu=off", "update-grub"),
    ),
    "DMAR and iommu=off": (
        ({"DMAR"}, INTEL, "iommu=off", "x86_64"),
        ("the kernel command line has iommu=off",),
        ("remove iommu=off",),
    ),
    "IVRS is there, the kernel set nothing up": (
        ({"IVRS"}, AMD, "", "x86_64"),
        ("AMD-Vi", "ACPI table IVRS"),
        ("dmesg | grep -i -e AMD-Vi",),
    ),
    "IVRS and amd_iommu=off": (
        ({"IVRS"}, AMD, "amd_iommu=off", "x86_64"),
        ("the kernel command line has amd_iommu=off",),
        ("remove amd_iommu=off",),
    ),
    "off among other values": (
        ({"IVRS"}, AMD, "amd_iommu=fullflush,off", "x86_64"),
        ("amd_iommu=fullflush,off",),
        ("remove amd_iommu=fullflush,off",),
    ),
    "no table, Intel": (
        ({"APIC"}, INTEL, "", "x86_64"),
        ("firmware announces none", "no ACPI table DMAR"),
        ("enable Intel VT-d in the firmware set-up", "then add intel_iommu=on iommu=pt"),
    ),
    "no table, Intel, already told": (
        (set(), INTEL, "intel_iommu=on", "x86_64"),
        ("no ACPI table DMAR",),
        ("enable Intel VT-d in the firmware set-up",),
    ),
    "no table, AMD": (
        (set(), AMD, "", "x86_64"),
        ("no ACPI table IVRS",),
        ("enable AMD-Vi", "iommu=pt"),
    ),
    "no table, a CPU that nobody knows": (
        (set(), "", "", "x86_64"),
        ("no ACPI table DMAR or IVRS",),
        ("enable the IOMMU (VT-d or AMD-Vi)",),
    ),
    "Arm, with a table": (
        ({"IORT"}, "0x41", "iommu=off", "aarch64"),
        ("ACPI table IORT", "found no SMMU in it"),
        ("enable the SMMU in the firmware set-up", "CONFIG_ARM_SMMU_V3", "dmesg"),
    ),
    "Arm, with other tables": (
        ({"APIC", "FACP"}, "0x41", "iommu.passthrough=1", "aarch64"),
        ("firmware announces no SMMU (no ACPI table IORT)",),
        ("enable the SMMU in the firmware set-up",),
    ),
    "Arm, with a device tree": (
        (set(), "0x41", "", "aarch64"),
        ("this aarch64 kernel has no IOMMU driver bound", "the device tree names no SMMU"),
        ("iommu-map", "dmesg"),
    ),
    "POWER": (
        (set(), "", "", "ppc64le"),
        ("PCI host bridges", "this ppc64le kernel"),
        ("modprobe vfio_iommu_spapr_tce", "LPAR"),
    ),
    "POWER, switched off": (
        (set(), "", "iommu=off", "ppc64"),
        ("the kernel command line has iommu=off",),
        ("remove iommu=off",),
    ),
    "RISC-V": (
        (set(), "", "", "riscv64"),
        ("this riscv64 kernel has no IOMMU driver bound",),
        ("RIMT", "6.13"),
    ),
    "an architecture that nobody thought of": (
        (set(), "", "", "loongarch64"),
        ("this loongarch64 kernel has no IOMMU driver bound",),
        ("an IOMMU that the kernel knows",),
    ),
    "virtio-iommu": (
        ({"VIOT"}, INTEL, "", "x86_64"),
        ("virtio-iommu (ACPI table VIOT)",),
        ("modprobe virtio_iommu",),
    ),
    "a word that only begins like one": (
        ({"DMAR"}, INTEL, "intel_iommu_x=off iommu.passthrough=0", "x86_64"),
        ("the kernel does not use it",),
        ("add intel_iommu=on",),
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_and_the_next_step(case: str) -> None:
    (tables, vendor, cmdline, machine), reason, hint = REASONS[case]
    finding = explain_no_iommu(
        host(acpi_tables=frozenset(tables), cpu_vendor=vendor, cmdline=cmdline, machine=machine)
    )
    assert (finding.code, finding.level, finding.device) == ("VK201", Level.BLOCK, None)
    assert finding.message.startswith("no IOMMU groups: ")
    assert [words for words in reason if words not in finding.message] == []
    assert [words for words in hint if words not in finding.hint] == []
