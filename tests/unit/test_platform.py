"""The platform: what is read of it, what a snapshot keeps of it, and what it means."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.machines import M4000, M4000_AUDIO, Function, Machine, write_machine
from tests.unit.values import at, function, host
from vfio_kit.analysis.isolation import judge
from vfio_kit.analysis.readiness.platform import platform_findings
from vfio_kit.host.machine import read_machine
from vfio_kit.host.platform import concerning_words
from vfio_kit.host.read import read_host
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree
from vfio_kit.model import Finding, Host, Level, NumaNode, Platform

GPU = Function("0000:01:00.0", M4000, 6)
AUDIO = Function("0000:01:00.1", M4000_AUDIO, 6)
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
UNSAFE = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
LOCKDOWN = "sys/kernel/security/lockdown"


def read(tmp_path: Path, **fields: Any) -> Host:
    return read_host(write_machine(tmp_path, Machine((GPU, AUDIO), **fields)))


def problems(machine: Host) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in machine.problems]


def test_a_healthy_host(tmp_path: Path) -> None:
    machine = read(tmp_path)
    assert machine.platform == Platform(
        interrupt_remapping=True, vfio_pci=True, kvm=True, virtualization="vmx"
    )
    assert platform_findings(machine) == ()


# /proc/interrupts as several kernels write it.
INTERRUPTS = {
    "Intel, remapped": ("  1:  0  9  IR-IO-APIC    1-edge  i8042\n", True),
    "MSI of a device with a domain of its own": (
        " 35:  0  9  IR-PCI-MSIX-0000:01:00.0    0-edge  nvme0q0\n",
        True,
    ),
    "in a guest of Xen or with posted interrupts": ("  9:  1  vIR-PCI-MSI  0-edge  x\n", True),
    "Hyper-V": ("  8:  3  HYPERV-IR-IO-APIC  8-edge  rtc0\n", True),
    "not remapped, beside the IOMMU's own": (
        "  8:  0  IO-APIC  8-edge  rtc0\n120:  0  DMAR-MSI  0-edge  dmar0\n",
        False,
    ),
    "no IO-APIC": (" 28:  0  0 PCI-MSIX-0000:00:01.0  0-edge  virtio0\n", False),
    "a device that is called IR": ("  1:  0  IO-APIC  1-edge  IR-receiver\n", False),
    "old PIC": ("  1:  0  XT-PIC  timer\n", None),
    "Xen": ("  1:  0  xen-pirq  -ioapic-level  acpi\n", None),
    "nothing": ("", None),
    "nonsense": ("a\x00b\n:::\n 12\n", None),
}


@pytest.mark.parametrize("case", INTERRUPTS)
def test_interrupt_remapping_shows_in_the_names_of_the_chips(tmp_path: Path, case: str) -> None:
    text, remapped = INTERRUPTS[case]
    machine = read(tmp_path, files={"proc/interrupts": text.encode()})
    assert machine.platform.interrupt_remapping is remapped


def test_a_host_of_512_cpus_is_no_problem(tmp_path: Path) -> None:
    line = " ".join(["          0"] * 512)
    text = "\n".join(f"{n:4}: {line}  IR-PCI-MSI {n}-edge x" for n in range(1000))
    machine = read(tmp_path, files={"proc/interrupts": text.encode()})
    assert machine.platform.interrupt_remapping is True
    assert machine.problems == ()


def test_elsewhere_than_on_x86_the_names_say_nothing(tmp_path: Path) -> None:
    text = b"  1:  0  IO-APIC  1-edge  i8042\n"
    machine = read(tmp_path, arch="aarch64", files={"proc/interrupts": text})
    assert machine.platform.interrupt_remapping is None
    assert machine.platform.virtualization is None


@pytest.mark.parametrize(
    ("data", "value", "noted"),
    [(b"Y\n", True, False), (b"N\n", False, False), (b"perhaps\n", None, True)],
)
def test_unsafe_interrupts(tmp_path: Path, data: bytes, value: bool | None, noted: bool) -> None:
    machine = read(tmp_path, files={UNSAFE: data})
    assert machine.platform.unsafe_interrupts is value
    assert bool(machine.problems) == noted


@pytest.mark.parametrize(("kind", "value"), [("module", True), ("builtin", True), (None, False)])
def test_vfio_pci_is_built_in_or_a_module(tmp_path: Path, kind: str | None, value: bool) -> None:
    assert read(tmp_path, vfio_pci=kind).platform.vfio_pci is value


@pytest.mark.parametrize("place", ["sys/module/vfio_pci", "sys/bus/pci/drivers/vfio-pci"])
def test_vfio_pci_that_is_loaded_is_there(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert read(tmp_path, vfio_pci=None).platform.vfio_pci is True


def test_modules_may_be_below_usr_and_may_not_be_there(tmp_path: Path) -> None:
    root = write_machine(tmp_path, Machine((GPU,)))
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib/modules").rename(root / "usr/lib/modules")
    assert read_host(root).platform.vfio_pci is True
    (root / "usr/lib/modules/6.12.0-amd64/modules.dep").unlink()
    assert read_host(root).platform.vfio_pci is None
    (root / "usr/lib/modules").rename(root / "elsewhere")
    assert read_host(root).platform.vfio_pci is None


@pytest.mark.parametrize("release", ["../../lib/modules/x", "6.1\x1b[31m", "a b"])
def test_a_release_is_no_path_and_no_escape(tmp_path: Path, release: str) -> None:
    machine = read(tmp_path, files={"proc/sys/kernel/osrelease": release.encode()})
    assert machine.kernel_release == ""
    assert machine.platform.vfio_pci is None
    assert [path for path, _ in problems(machine)] == ["/proc/sys/kernel/osrelease"]


def test_kvm_needs_a_dev_to_be_missed_in(tmp_path: Path) -> None:
    assert read(tmp_path, kvm=False).platform.kvm is False
    (tmp_path / "dev").rename(tmp_path / "elsewhere")
    assert read_host(tmp_path).platform.kvm is None


@pytest.mark.parametrize(
    ("vendor", "flags", "value"),
    [
        ("GenuineIntel", None, "vmx"),
        ("AuthenticAMD", None, "svm"),
        ("GenuineIntel", (), ""),
        ("GenuineIntel", ("vmx_x", "xsvm"), ""),
    ],
)
def test_what_the_cpu_calls_virtualization(
    tmp_path: Path, vendor: str, flags: tuple[str, ...] | None, value: str
) -> None:
    assert read(tmp_path, cpu=vendor, cpu_flags=flags).platform.virtualization == value


@pytest.mark.parametrize(
    ("data", "value", "noted"),
    [
        (b"\x06\0\0\0\x01", True, []),
        (b"\x06\0\0\0\x00", False, []),
        (b"\x06\0\0", None, [(f"/{SECURE_BOOT}", "holds 3 bytes, not 5")]),
        (None, None, []),
    ],
)
def test_secure_boot(
    tmp_path: Path, data: bytes | None, value: bool | None, noted: list[tuple[str, str]]
) -> None:
    machine = read(tmp_path, files={} if data is None else {SECURE_BOOT: data})
    assert machine.platform.secure_boot is value
    assert problems(machine) == noted


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"[none] integrity confidentiality\n", "none"),
        (b"none [integrity] confidentiality\n", "integrity"),
        (b"none integrity [confidentiality]\n", "confidentiality"),
        (b"none integrity\n", None),
    ],
)
def test_lockdown(tmp_path: Path, data: bytes, value: str | None) -> None:
    machine = read(tmp_path, files={LOCKDOWN: data})
    assert machine.platform.lockdown == value
    assert bool(machine.problems) == (value is None)


@pytest.mark.parametrize(
    ("word", "value"),
    [("8388608", 8192), ("unlimited", -1), ("65536", 64), ("0", 0), ("much", None)],
)
def test_the_limit_of_locked_memory(tmp_path: Path, word: str, value: int | None) -> None:
    text = f"Limit   Soft Limit\nMax locked memory         {word}    {word}    bytes\nMax x 1 1\n"
    machine = read(tmp_path, files={"proc/self/limits": text.encode()})
    assert machine.platform.memlock_kib == value
    assert bool(machine.problems) == (value is None)


def test_numa_nodes_with_hugepages_of_every_size(tmp_path: Path) -> None:
    node = "sys/devices/system/node/node0/hugepages"
    files = {
        f"{node}/hugepages-1048576kB/nr_hugepages": b"4\n",
        f"{node}/hugepages-1048576kB/free_hugepages": b"3\n",
        f"{node}/hugepages-64kB/nr_hugepages": b"many\n",
        f"{node}/hugepages-64kB/free_hugepages": b"0\n",
        "sys/devices/system/node/node10/cpulist": b"1\n",
        "sys/devices/system/node/online": b"0-1,10\n",
    }
    machine = read(tmp_path, nodes={1: (0, 0), 0: (512, 500)}, files=files)
    assert machine.platform.nodes == (
        NumaNode(0, {2048: (512, 500), 1048576: (4, 3)}),
        NumaNode(1, {2048: (0, 0)}),
        NumaNode(10, {}),
    )
    assert [path for path, _ in problems(machine)] == [
        f"/{node}/hugepages-64kB/nr_hugepages",
    ]


# Aliases as depmod writes them, and who takes the GPU (10de:13f1) and its audio function by them.
ALIASES = (
    ("pci:v000010DEd*sv*sd*bc03sc00i00*", "nouveau"),
    ("pci:v000010DEd*sv*sd*bc03sc00i00*", "nvidia"),
    ("pci:v000010DEd000013F1sv*sd*bc*sc*i*", "nvidiafb"),
    ("pci:v000010DEd000013F0sv*sd*bc*sc*i*", "another"),
    ("pci:v00001002d*sv*sd*bc03sc00i00*", "amdgpu"),
    ("pci:v*d*sv*sd*bc04sc03i00*", "snd_hda_intel"),
    ("usb:v10DEp*", "nousb"),
    ("vfio_pci:v*d*sv*sd*bc*sc*i*", "vfio_pci"),
)
MODALIAS = {
    "0000:01:00.0": "pci:v000010DEd000013F1sv000010DEsd00001153bc03sc00i00",
    "0000:01:00.1": "pci:v000010DEd00000FBBsv000010DEsd00001153bc04sc03i00",
}


def matching(tmp_path: Path, **more: Any) -> list[tuple[str, ...]]:
    files = more.pop("files", {}) | {
        f"sys/devices/pci0000:00/{address}/modalias": text.encode()
        for address, text in MODALIAS.items()
    }
    machine = read(tmp_path, aliases=ALIASES, files=files, **more)
    assert machine.problems == ()
    return [device.drivers_that_match for device in machine.devices]


def test_the_modules_that_would_take_a_function(tmp_path: Path) -> None:
    assert matching(tmp_path) == [("nouveau", "nvidia", "nvidiafb"), ("snd_hda_intel",)]


def test_modules_that_are_blacklisted_take_nothing(tmp_path: Path) -> None:
    files = {
        "etc/modprobe.d/gpu.conf": b"# blacklist nvidia\nblacklist nouveau\n",
        "lib/modprobe.d/gpu.conf": b"blacklist nvidia\n",  # the one in etc counts
        "lib/modprobe.d/fb.conf": b"install nvidiafb /bin/false\nblacklist\n\xe2\x82\xac\n",
        "etc/modprobe.d/README": b"blacklist nvidia\n",
        "etc/modprobe.d/other.conf": b"install nvidia /sbin/modprobe -i nvidia\n",
    }
    cmdline = "quiet modprobe.blacklist=snd-hda-intel,foo"
    assert matching(tmp_path, files=files, cmdline=cmdline) == [("nvidia",), ()]


@pytest.mark.parametrize(("override", "free"), [("vfio-pci", True), ("(null)", False)])
def test_a_function_reserved_for_one_driver_is_taken_by_no_other(
    tmp_path: Path, override: str, free: bool
) -> None:
    files = {"sys/devices/pci0000:00/0000:01:00.0/driver_override": f"{override}\n".encode()}
    gpu, audio = matching(tmp_path, files=files)
    assert gpu == (() if free else ("nouveau", "nvidia", "nvidiafb"))
    assert audio == ("snd_hda_intel",)


def test_other_devices_are_not_asked_for(tmp_path: Path) -> None:
    alone = Machine((AUDIO,), aliases=ALIASES)
    root = write_machine(tmp_path, alone)
    (root / "sys/bus/pci/devices/0000:01:00.1/modalias").write_text(MODALIAS["0000:01:00.1"])
    (audio,) = read_host(root).devices
    assert audio.drivers_that_match == ()


def test_what_an_extract_says_is_not_believed(tmp_path: Path) -> None:
    """A tree with extracts is somebody else's."""
    extracts = {
        "matching-modules": b"0000:01:00.0 nouveau \x1b[31m ../x\nnowhere nvidia\n\n",
        "platform": b"memlock-kib: lots\nkvm: maybe\ninterrupt-remapping: no\nstrange\n",
        "holders": b"unseen\n0000:01:00.0 /dev/dri/card0 17 Xorg\n1 /dev/x 5 y\n\x1b[31m\n",
    }
    machine = read(tmp_path, files={f"extracts/{name}": d for name, d in extracts.items()})
    gpu = machine.device(at("01:00.0"))
    assert gpu is not None and gpu.drivers_that_match == ("nouveau",)
    assert machine.platform.memlock_kib is machine.platform.kvm is None
    assert machine.platform.interrupt_remapping is False
    assert machine.platform.holders_seen is False
    assert [holder.command for holder in machine.holders] == ["Xorg"]
    assert {path for path, _ in problems(machine)} == {
        "/extracts/matching-modules",
        "/extracts/holders",
    }


def test_a_snapshot_gives_the_same_platform_and_tells_no_more(tmp_path: Path) -> None:
    root = write_machine(
        tmp_path / "tree",
        Machine(
            (GPU, AUDIO),
            aliases=ALIASES,
            secure_boot=True,
            lockdown="integrity",
            memlock_kib=8192,
            nodes={0: (4, 2), 1: (0, 0)},
            interrupt_remapping=False,
            cmdline="secret=1 nointremap modprobe.blacklist=nouveau",
            files={UNSAFE: b"Y\n"},
        ),
    )
    for address, text in MODALIAS.items():
        (root / f"sys/bus/pci/devices/{address}/modalias").write_text(text)
    (tmp_path / "host.tar.gz").write_bytes(take_snapshot(root, lambda _: None))
    there, kept = read_host(root), read_machine(tmp_path / "host.tar.gz")
    assert kept == there
    assert kept.platform.memlock_kib == 8192
    assert kept.cmdline == "nointremap modprobe.blacklist=nouveau"


def test_words_that_blacklist_concern_us(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("module_blacklist=nouveau xmodule_blacklist=a b")
    assert concerning_words(Tree(tmp_path)) == "module_blacklist=nouveau"


# What is judged.

IN_A_GROUP = function("01:00.0", M4000, 6)


def judged(cmdline: str = "", machine: str = "x86_64", **fields: Any) -> list[Finding]:
    there = Platform(**fields)
    return list(
        platform_findings(
            host(
                IN_A_GROUP,
                cmdline=cmdline,
                machine=machine,
                kernel_release="6.12",
                platform=there,
            )
        )
    )


def test_what_is_not_known_says_nothing() -> None:
    assert judged() == []
    assert judged(secure_boot=False, lockdown="none", memlock_kib=-1, root=True) == []


# Platform -> code, level, words of the sentence and of the next step
JUDGEMENTS: dict[str, tuple[dict[str, Any], str, Level, tuple[str, ...], tuple[str, ...]]] = {
    "no interrupt remapping": (
        {"interrupt_remapping": False},
        "VK203",
        Level.BLOCK,
        ("does not remap interrupts", "VFIO hands no device out"),
        ("firmware set-up", "allow_unsafe_interrupts=1", "vfio-kit never sets it"),
    ),
    "unsafe, and needed": (
        {"interrupt_remapping": False, "unsafe_interrupts": True},
        "VK204",
        Level.WARN,
        ("a guest can send the host any interrupt",),
        ("trust",),
    ),
    "unsafe as soon as the module is loaded": (
        {"interrupt_remapping": False, "cmdline": "vfio_iommu_type1.allow_unsafe_interrupts=1"},
        "VK204",
        Level.WARN,
        ("a guest can send the host any interrupt",),
        ("trust",),
    ),
    "unsafe on the command line, and switched off since": (
        {
            "interrupt_remapping": False,
            "unsafe_interrupts": False,
            "cmdline": "vfio_iommu_type1.allow_unsafe_interrupts=1",
        },
        "VK203",
        Level.BLOCK,
        ("does not remap interrupts",),
        ("firmware set-up",),
    ),
    "unsafe, and not needed": (
        {"interrupt_remapping": True, "unsafe_interrupts": True},
        "VK204",
        Level.WARN,
        ("need not",),
        ("remove allow_unsafe_interrupts",),
    ),
    "no vfio-pci": (
        {"vfio_pci": False},
        "VK205",
        Level.BLOCK,
        ("kernel 6.12 has no vfio-pci",),
        ("CONFIG_VFIO_PCI", "modprobe vfio-pci"),
    ),
    "no KVM, CPU without": (
        {"kvm": False, "virtualization": ""},
        "VK206",
        Level.BLOCK,
        ("neither vmx nor svm",),
        ("firmware", "nested"),
    ),
    "no KVM, Intel": (
        {"kvm": False, "virtualization": "vmx"},
        "VK206",
        Level.BLOCK,
        ("though the CPU has vmx",),
        ("modprobe kvm_intel",),
    ),
    "no KVM, AMD": (
        {"kvm": False, "virtualization": "svm"},
        "VK206",
        Level.BLOCK,
        ("though the CPU has svm",),
        ("modprobe kvm_amd",),
    ),
    "no KVM, who knows": (
        {"kvm": False},
        "VK206",
        Level.BLOCK,
        ("there is no /dev/kvm",),
        ("modprobe kvm;",),
    ),
    "no KVM, Arm": (
        {"kvm": False, "machine": "aarch64"},
        "VK206",
        Level.BLOCK,
        ("there is no /dev/kvm",),
        ("dmesg | grep -i kvm", "EL2"),
    ),
    "Secure Boot": (
        {"secure_boot": True},
        "VK207",
        Level.INFO,
        ("signed kernel modules alone", "a guest has a firmware of its own"),
        ("DKMS",),
    ),
    "lockdown": (
        {"lockdown": "integrity"},
        "VK208",
        Level.INFO,
        ("(integrity)",),
        ("nothing to do",),
    ),
    "little memory may be locked": (
        {"memlock_kib": 8192, "root": None},
        "VK209",
        Level.INFO,
        ("8 MiB", "9 GiB for a guest of 8 GiB"),
        ("libvirt raises", "ulimit -l 9437184"),
    ),
    "very little": (
        {"memlock_kib": 64},
        "VK209",
        Level.INFO,
        ("64 KiB",),
        ("ulimit",),
    ),
    "not root": (
        {"root": False, "holders_seen": False},
        "VK502",
        Level.INFO,
        ("not run as root", "ACS", "which processes", "and where the firmware's framebuffer lies"),
        ("sudo vfio-kit scan",),
    ),
}


@pytest.mark.parametrize("case", JUDGEMENTS)
def test_the_judgement(case: str) -> None:
    fields, code, level, message, hint = JUDGEMENTS[case]
    (finding,) = judged(**fields)
    assert (finding.code, finding.level, finding.device) == (code, level, None)
    assert [words for words in message if words not in finding.message] == []
    assert [words for words in hint if words not in finding.hint] == []
    assert not finding.acceptable


def test_not_root_and_nothing_to_hold() -> None:
    (finding,) = judged(root=False)
    assert "processes" not in finding.message


@pytest.mark.parametrize("word", ["intremap=off", "nointremap"])
def test_remapping_that_the_command_line_turns_off(word: str) -> None:
    (finding,) = judged(f"quiet {word}", interrupt_remapping=False)
    assert finding.message.startswith(f"{word} on the kernel command line")
    assert f"remove {word}" in finding.hint


def test_without_iommu_groups_interrupts_are_not_the_matter() -> None:
    machine = host(function("01:00.0", M4000), platform=Platform(interrupt_remapping=False))
    assert platform_findings(machine) == ()


@pytest.mark.parametrize(
    ("kib", "root"), [(9 * 1024 * 1024, False), (-1, False), (8192, True), (None, False)]
)
def test_a_limit_that_does_not_matter(kib: int | None, root: bool) -> None:
    assert "VK209" not in [finding.code for finding in judged(memlock_kib=kib, root=root)]


def test_what_blocks_comes_first() -> None:
    found = judged(
        interrupt_remapping=False, vfio_pci=False, kvm=False, secure_boot=True, root=False
    )
    assert [f.code for f in found] == ["VK203", "VK205", "VK206", "VK207", "VK502"]


READ = (
    "proc/interrupts",
    "proc/self/limits",
    "proc/cpuinfo",
    "proc/cmdline",
    "proc/driver/nvidia/gpus/0000:01:00.0/information",
    "proc/sys/kernel/osrelease",
    "etc/modprobe.d/any.conf",
    "lib/modules/6.12.0-amd64/modules.alias",
    "lib/modules/6.12.0-amd64/modules.dep",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    "extracts/platform",
    "extracts/holders",
    "extracts/matching-modules",
    "extracts/cpuinfo",
    LOCKDOWN,
    SECURE_BOOT,
    UNSAFE,
)
torn = st.binary(max_size=200) | st.text(
    alphabet=" \n\t:-,=*abcdefpvx0123456789[]/.", max_size=200
).map(str.encode)


@settings(deadline=None, max_examples=few(15))
@given(st.sampled_from(READ), torn)
def test_whatever_a_file_holds_the_host_is_read_and_judged(name: str, data: bytes) -> None:
    with TemporaryDirectory() as folder:
        machine = read(Path(folder), aliases=ALIASES, files={name: data})
        findings = (*platform_findings(machine), *(f for r in judge(machine) for f in r.findings))
        assert all(finding.message.isprintable() for finding in findings)
