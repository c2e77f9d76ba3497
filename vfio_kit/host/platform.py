"""The platform: CPU, kernel, firmware, limits, memory."""

import os
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from vfio_kit.host.framebuffer import read_framebuffers
from vfio_kit.host.modules import has_module
from vfio_kit.host.numa import read_cpus, read_nodes
from vfio_kit.host.tree import LONG, Tree
from vfio_kit.knowledge.architectures import X86
from vfio_kit.model import Platform

_CONCERNING = re.compile(
    r"(intel_iommu|amd_iommu|iommu|iommu\.[a-z_]+|pcie_acs_override|intremap|nointremap|no_x2apic"
    r"|pci|pcie_aspm|vfio[-_.a-z]*|hugepages|hugepagesz|default_hugepagesz|video|lockdown"
    r"|modprobe\.blacklist|module_blacklist|rd\.driver\.blacklist|rd\.driver\.pre|nomodeset|isolcpus)(=|$)"
)

_Meaning = TypeVar("_Meaning")

_VENDOR_KEYS = ("vendor_id", "CPU implementer")
_VIRTUALIZATION = ("vmx", "svm")
_RELEASE = re.compile(r"[\w.+~-]{1,64}", re.ASCII)
_YES_NO = {"yes": True, "no": False}
_MODULE_BOOLEANS = {"Y": True, "N": False}
_INTERRUPTS_LIMIT = 4 * LONG
"""Bytes: 11 for every CPU in every line."""
_CHIP = re.compile(r"(?m)^ *[0-9]+:[ 0-9]* ([A-Za-z]\S*)")
_REMAPPED = re.compile(r"(v|HYPERV-)?IR(-|$)")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def concerning_words(tree: Tree) -> str:
    """The words of the kernel's command line that concern passthrough; the rest is nobody's."""

    def extract() -> str:
        words = (tree.text("proc/cmdline") or "").split()
        return " ".join(word for word in words if _CONCERNING.match(word))

    return tree.extract("cmdline", extract) or ""


def first_processor(tree: Tree) -> str:
    """Of the first processor in cpuinfo its vendor, and of its flags vmx and svm."""

    def extract() -> str:
        # The file grows with the number of CPUs; the first one is enough.
        text = tree.text("proc/cpuinfo", LONG) or ""
        lines = []
        for line in text.partition("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            if key.strip() in _VENDOR_KEYS:
                lines.append(line)
            elif key.strip() == "flags":
                lines.append(f"flags\t: {_virtualization(value)}")
        return "\n".join(lines)

    return tree.extract("cpuinfo", extract) or ""


def _virtualization(flags: str) -> str:
    return next((flag for flag in flags.split() if flag in _VIRTUALIZATION), "")


def cpu_vendor(cpuinfo: str) -> str:
    """vendor_id on x86, the implementer on Arm; empty where cpuinfo names neither."""
    return next((value for key, value in _pairs(cpuinfo) if key in _VENDOR_KEYS), "")


def architecture(tree: Tree) -> str:
    """The architecture: of the kernel that runs, or as a tree of files tells it."""
    own = os.uname().machine if tree.live else None
    return tree.extract("machine", lambda: own or tree.text("proc/sys/kernel/arch")) or "x86_64"


def kernel_release(tree: Tree) -> str:
    """What `uname -r` says: part of a path, and of what is printed; empty where it is not one."""
    release = tree.text("proc/sys/kernel/osrelease") or ""
    if release and _RELEASE.fullmatch(release) is None:
        tree.note("proc/sys/kernel/osrelease", f"holds {release[:40]!r}, not a release")
        return ""
    return release


def read_platform(tree: Tree, cpuinfo: str, machine: str, release: str) -> Platform:
    """What a passthrough rests on. What is private, long or no file is one extract of few lines."""
    text = tree.extract("platform", lambda: "\n".join(_facts(tree, machine, release))) or ""
    facts = dict(_pairs(text))
    flags = dict(_pairs(cpuinfo)).get("flags")
    memlock = facts.get("memlock-kib", "")
    unsafe = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    return Platform(
        interrupt_remapping=_YES_NO.get(facts.get("interrupt-remapping", "")),
        unsafe_interrupts=_parsed(tree, unsafe, _MODULE_BOOLEANS.get),
        vfio_pci=_YES_NO.get(facts.get("vfio-pci", "")),
        kvm=_YES_NO.get(facts.get("kvm", "")),
        virtualization=None if flags is None else _virtualization(flags),
        secure_boot=_YES_NO.get(facts.get("secure-boot", "")),
        lockdown=_parsed(tree, "sys/kernel/security/lockdown", _chosen),
        memlock_kib=int(memlock) if re.fullmatch(r"-1|[0-9]{1,18}", memlock) else None,
        nodes=read_nodes(tree),
        cpus=read_cpus(tree),
        framebuffers=read_framebuffers(tree),
        root=_YES_NO.get(facts.get("root", "")),
    )


def _facts(tree: Tree, machine: str, release: str) -> Iterator[str]:
    """Lines of `key: value`; what cannot be told has none."""
    known = {
        "interrupt-remapping": _interrupt_remapping(tree, machine),
        "vfio-pci": _vfio_pci(tree, release),
        "kvm": tree.exists("dev/kvm") if tree.exists("dev") else None,
        "secure-boot": _secure_boot(tree),
        "root": os.geteuid() == 0 if tree.live else None,
    }
    yield from (f"{key}: {'yes' if v else 'no'}" for key, v in known.items() if v is not None)
    memlock = _memlock_kib(tree)
    if memlock is not None:
        yield f"memlock-kib: {memlock}"


def _interrupt_remapping(tree: Tree, machine: str) -> bool | None:
    """Of x86 by the names of the interrupt chips; elsewhere the interrupt controller isolates.

    Chips behind remapping hardware are called IR-IO-APIC, IR-PCI-MSI…, in guests of some
    hypervisors vIR-… or HYPERV-IR-…; DMAR-MSI, the IOMMU's own, is never remapped.
    """
    if machine not in X86:
        return None
    chips = _CHIP.findall(tree.text("proc/interrupts", _INTERRUPTS_LIMIT) or "")
    if any(_REMAPPED.match(chip) for chip in chips):
        return True
    return False if any(chip.startswith(("IO-APIC", "PCI-MSI")) for chip in chips) else None


def _vfio_pci(tree: Tree, release: str) -> bool | None:
    if tree.exists("sys/bus/pci/drivers/vfio-pci") or tree.exists("sys/module/vfio_pci"):
        return True
    return has_module(tree, release, "vfio-pci")


def _secure_boot(tree: Tree) -> bool | None:
    """The EFI variable: four bytes of attributes, then the value; None without EFI."""
    data = tree.data(_SECURE_BOOT, private=True)
    if data is None:
        return None
    if len(data) != 5:
        tree.note(_SECURE_BOOT, f"holds {len(data)} bytes, not 5")
        return None
    return data[4] == 1


def _memlock_kib(tree: Tree) -> int | None:
    text = tree.text("proc/self/limits", private=True) or ""
    match = re.search(r"(?m)^Max locked memory +(\S+)", text)
    if match is None:
        return None
    if match[1] == "unlimited":
        return -1
    if not re.fullmatch("[0-9]{1,20}", match[1]):
        tree.note("proc/self/limits", f"Max locked memory is {match[1][:40]!r}, not a number")
        return None
    return int(match[1]) // 1024


def _parsed(tree: Tree, name: str, meaning: Callable[[str], _Meaning | None]) -> _Meaning | None:
    """What a short file means; a note where it is there and means nothing."""
    text = tree.text(name, private=True)
    value = None if text is None else meaning(text)
    if text is not None and value is None:
        tree.note(name, f"holds {text[:40]!r}, which means nothing to us")
    return value


def _chosen(text: str) -> str | None:
    """Of `none [integrity] confidentiality` the one in brackets."""
    match = re.search(r"\[(none|integrity|confidentiality)\]", text)
    return match[1] if match else None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()
