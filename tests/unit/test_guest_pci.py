"""The rungs of the guest's PCI bus and of the module: what sysfs and /proc say, judged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import healthy, result, text
from tests.unit.values import said
from vfio_kit.analysis.guest.driver_state import parse_driver_state
from vfio_kit.analysis.guest.pci import GuestBar, parse_functions
from vfio_kit.analysis.guest.verification import NOT_PLANNED, judge_guest
from vfio_kit.model.health import Check, CheckStatus, CommandResult, LinkHealth, Planned

OK, WARN, FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED
M4000_PCI = text("healthy/m4000-pci.txt")
M4000 = Planned(("10de:13f1", "10de:0fbb"), 1, "470")
VGA = "function 0000:00:02.0\nvendor 0x1b36\ndevice 0x0100\nclass 0x030000\ndriver qxl\n"


def rung(
    code: str, planned: Planned = NOT_PLANNED, card: str = "m4000", **other: CommandResult | None
) -> Check:
    report = judge_guest("vm", healthy(card, **other), planned)
    (found,) = [check for check in report.checks if check.code == code]
    return found


def changed(code: str, old: str, new: str, count: int = 1) -> Check:
    """The rung of an M4000 with one thing of its sysfs changed."""
    assert old in M4000_PCI
    return rung(code, pci=said(M4000_PCI.replace(old, new, count)))


# What the probe lists


def test_functions_are_read() -> None:
    vga, gpu, audio = parse_functions(M4000_PCI)
    assert (str(vga), vga.is_gpu, vga.port) == ("0000:00:02.0 [1b36:0100]", False, None)
    assert (str(audio), audio.driver, audio.is_gpu) == (
        "0000:01:00.1 [10de:0fbb]",
        "snd_hda_intel",
        False,
    )
    assert (str(gpu), gpu.driver, gpu.is_gpu, gpu.answers) == (
        "0000:01:00.0 [10de:13f1]",
        "nvidia",
        True,
        True,
    )
    assert gpu.link == LinkHealth(2.5, 16, 8.0, 16)
    assert gpu.bars[:3] == (
        GuestBar(0xFC000000, 16 << 20),
        GuestBar(0x800000000, 256 << 20, is_64bit=True),
        GuestBar(0, 0),
    )
    assert gpu.port is not None and gpu.port.emulated
    assert gpu.port.link == LinkHealth(2.5, 16, 16.0, 32)


@pytest.mark.parametrize("base", ["0x030000", "0x030200", "0x038000"])
def test_gpus_are_display_controllers_of_every_kind(base: str) -> None:
    (gpu,) = parse_functions(f"function 0000:01:00.0\nvendor 0x10de\ndevice 0x13f1\nclass {base}\n")
    assert gpu.is_gpu


@pytest.mark.parametrize(
    ("speed", "width", "expected"),
    [
        ("8 GT/s", "16", (8.0, 16)),
        ("16.0 GT/s PCIe", "4", (16.0, 4)),
        ("Unknown speed", "0", (None, None)),
        ("Unknown", "255", (None, None)),
        ("Unknown", "63", (None, None)),
        ("", "", (None, None)),
    ],
)
def test_a_link_as_old_and_new_kernels_write_it(
    speed: str, width: str, expected: tuple[float | None, int | None]
) -> None:
    (found,) = parse_functions(
        "function 0000:01:00.0\nvendor 0x10de\ndevice 0x13f1\nclass 0x030000\n"
        f"current_link_speed {speed}\ncurrent_link_width {width}\n"
    )
    assert (found.link.speed, found.link.width) == expected


@pytest.mark.parametrize("address", ["", "x", "0000:01:00.8"])
def test_a_function_without_an_address_is_none(address: str) -> None:
    function = f"function {address}\nvendor 0x10de\ndevice 0x13f1\nclass 0x030000\n"
    assert parse_functions(function) == ()


@given(st.text() | st.text(alphabet="function 0x10de:.\nbarclse ", max_size=200))
def test_any_text_is_a_list_of_functions(words: str) -> None:
    parse_functions(words)
    parse_functions(M4000_PCI + words)
    parse_driver_state(words)


# pci


@pytest.mark.parametrize(
    ("output", "planned", "cause", "evidence"),
    [
        ("", NOT_PLANNED, "no-gpu", "no NVIDIA display controller"),
        (
            VGA,
            NOT_PLANNED,
            "no-gpu",
            "no NVIDIA display controller; there is 0000:00:02.0 [1b36:0100]",
        ),
        ("", M4000, "no-gpu", "missing: 10de:0fbb, 10de:13f1; there: nothing"),
        (
            M4000_PCI,
            Planned(("10de:13f1",), 1),
            "function-not-planned",
            "there, and not planned: 10de:0fbb",
        ),
        (
            M4000_PCI,
            Planned(("10de:13f1", "10de:0fbb", "10de:13f1")),
            "function-missing",
            "missing: 10de:13f1; there: 10de:0fbb, 10de:13f1",
        ),
        (
            M4000_PCI,
            Planned(gpu_count=2),
            "function-missing",
            "1 of 2 GPUs: 0000:01:00.0 [10de:13f1]",
        ),
        (
            M4000_PCI.replace("config a1 00 00 03", "config ff ff ff ff", 2),
            M4000,
            "fallen-off-bus",
            "no longer answers on the bus: 0000:01:00.0 [10de:13f1]",
        ),
    ],
)
def test_functions_that_are_not_as_planned(
    output: str, planned: Planned, cause: str, evidence: str
) -> None:
    found = rung("pci", planned, pci=said(output))
    assert (found.status, found.cause, found.evidence) == (FAILED, cause, evidence)


def test_a_link_of_ones_is_a_card_that_has_gone() -> None:
    """VFIO answers for the header, also where the card no longer does."""
    pci = M4000_PCI.replace("link_width 16", "link_width 63", 2)
    assert rung("pci", pci=said(pci)).cause == "fallen-off-bus"
    assert parse_functions(pci)[1].link.width is None


def test_half_a_k80_is_missing() -> None:
    pci = text("healthy/k80-pci.txt")
    half = said(pci[: pci.rindex("function ")])
    found = rung("pci", Planned(("10de:102d",) * 2, 2), "k80", pci=half)
    assert found.evidence == "missing: 10de:102d; there: 10de:102d"


def test_cards_of_another_vendor_are_ours_if_they_were_planned() -> None:
    amd = "function 0000:01:00.0\nvendor 0x1002\ndevice 0x73bf\nclass 0x030000\n"
    assert rung("pci", pci=said(amd)).cause == "no-gpu"
    audio = "function 0000:01:00.1\nvendor 0x1002\ndevice 0xab28\nclass 0x040300\n"
    planned = Planned(("1002:73bf", "1002:ab28"), 1)
    assert rung("pci", planned, pci=said(amd + audio)).status is OK
    assert rung("pci", planned, pci=said(amd)).evidence == "missing: 1002:ab28; there: 1002:73bf"


def test_what_is_no_display_is_not_told() -> None:
    network = "function 0000:00:03.0\nvendor 0x1af4\ndevice 0x1000\nclass 0x020000\n"
    assert rung("pci", pci=said(network + VGA)).evidence == (
        "no NVIDIA display controller; there is 0000:00:02.0 [1b36:0100]"
    )


@pytest.mark.parametrize(
    "result",
    [
        said("", 1, "sh: cannot open"),
        said(M4000_PCI, 124, "no end within 60 s"),
    ],
)
def test_a_list_that_broke_off(result: CommandResult) -> None:
    found = rung("pci", pci=result)
    assert (found.status, found.cause) == (FAILED, "unknown")
    assert found.evidence == f"exit {result.exit_status}: {result.stderr}"


# link


def test_an_idle_gpu_has_a_slow_link_and_nothing_is_wrong() -> None:
    assert rung("link").status is OK


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_link_speed 8.0 GT/s PCIe", "max_link_speed Unknown"),
        ("max_link_width 16", "max_link_width 255"),
        ("current_link_width 16", "current_link_width 0"),
    ],
)
def test_a_link_that_is_not_to_be_seen_is_no_alarm(old: str, new: str) -> None:
    assert changed("link", old, new).status is OK


def test_a_narrow_link() -> None:
    found = changed("link", "current_link_width 16", "current_link_width 8")
    assert (found.status, found.cause) == (WARN, "narrow-link")
    assert found.evidence == "0000:01:00.0: x8 at 2.5 GT/s of x16 at 8 GT/s"


def test_a_slot_that_has_no_more_lanes() -> None:
    pci = M4000_PCI.replace("\ncurrent_link_width 16", "\ncurrent_link_width 8", 1)
    pci = pci.replace("port_device 0x000c", "port_device 0x1901")
    found = rung("link", pci=said(pci.replace("port_max_link_width 32", "port_max_link_width 8")))
    assert found.evidence.endswith(", which is all that the port 0000:00:01.0 has")


def test_a_port_of_qemu_explains_nothing() -> None:
    pci = M4000_PCI.replace("\ncurrent_link_width 16", "\ncurrent_link_width 8", 1)
    found = rung("link", pci=said(pci.replace("port_max_link_width 32", "port_max_link_width 8")))
    assert "port" not in found.evidence


def test_a_slow_link_of_a_gpu_at_work() -> None:
    smi = text("healthy/m4000-smi.xml").replace("<gpu_util>0 %", "<gpu_util>97 %")
    found = rung("link", nvidia_smi=said(smi))
    assert (found.status, found.cause) == (WARN, "slow-link")


# bar1


def test_a_bar_without_an_address() -> None:
    found = changed(
        "bar1",
        "bar 0x0000000800000000 0x000000080fffffff",
        "bar 0x0000000000000000 0x000000000fffffff",
    )
    assert (found.status, found.cause) == (FAILED, "bar-unassigned")
    assert found.evidence == "0000:01:00.0: BAR 1 (256 MiB) has no address"
    assert "MMIO" in found.remedy


def hopper(aperture: str) -> str:
    """The BARs of an H100: the first has 64 bits as well, so that NVIDIA's BAR 1 is the third."""
    none = "bar 0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    first = "bar 0x000004e042000000 0x000004e042ffffff 0x000000000014220c\n"
    lines = M4000_PCI.splitlines(True)
    begin = next(n for n, line in enumerate(lines) if line.startswith("bar 0x00000000fc"))
    lines[begin : begin + 6] = [
        first,
        none,
        f"bar {aperture} 0x000000000014220c\n",
        none,
        none,
        none,
    ]
    return "".join(lines).replace("device 0x13f1", "device 0x2330")


def test_from_hopper_on_the_memory_is_behind_the_third_line() -> None:
    found = rung("bar1", pci=said(hopper("0x000004c000000000 0x000004dfffffffff")))
    assert (found.status, found.evidence) == (
        OK,
        "0000:01:00.0: BAR 1 has 131072 MiB (nvidia-smi: 256)",
    )
    found = rung("bar1", pci=said(hopper("0x0000000000000000 0x0000001fffffffff")))
    assert (found.status, found.evidence) == (
        FAILED,
        "0000:01:00.0: BAR 1 (131072 MiB) has no address",
    )


def test_a_bar_that_the_kernel_gave_up() -> None:
    zero = "bar 0x0000000000000000 0x0000000000000000 0x0000000000000000"
    found = changed("bar1", "bar 0x0000000800000000 0x000000080fffffff 0x000000000014220c", zero)
    assert (found.cause, found.evidence) == ("bar-unassigned", "0000:01:00.0: BAR 1 is missing")


def test_no_bars_at_all() -> None:
    pci = "".join(line for line in M4000_PCI.splitlines(True) if not line.startswith("bar "))
    assert rung("bar1", pci=said(pci)).evidence == "0000:01:00.0: the kernel names no BARs"


@pytest.mark.parametrize(
    ("bar", "status"),
    [
        ("0x0000000800000000 0x00000008ffffffff", OK),
        ("0x0000000000000000 0x00000000ffffffff", FAILED),
    ],
)
def test_bars_of_another_vendors_gpu(bar: str, status: CheckStatus) -> None:
    amd = "function 0000:01:00.0\nvendor 0x1002\ndevice 0x73bf\nclass 0x030000\n"
    amd += f"bar {bar} 0x000000000014220c\n"
    assert rung("bar1", Planned(("1002:73bf",), 1), pci=said(amd)).status is status


def test_a_size_on_which_nvidia_smi_differs_is_told() -> None:
    smi = text("healthy/m4000-smi.xml").replace("<total>256 MiB", "<total>64 MiB")
    found = rung("bar1", nvidia_smi=said(smi))
    assert found.evidence == "0000:01:00.0: BAR 1 has 256 MiB (nvidia-smi: 64)"


# module

KERNEL = "kernel 5.15.0-119-generic\n"
BUILT = "built 5.15.0-119-generic updates/dkms/nvidia.ko\nfile updates/dkms/nvidia.ko 470.256.02\n"
OTHER = "built 5.15.0-116-generic updates/dkms/nvidia.ko\n"
UNBOUND = said(M4000_PCI.replace("driver nvidia\n", ""))


@pytest.mark.parametrize(
    ("output", "cause", "evidence"),
    [
        (KERNEL, "not-installed", "the nvidia module is not installed"),
        (
            KERNEL + "loaded nouveau\n",
            "not-installed",
            "the nvidia module is not installed, and nouveau is loaded",
        ),
        (
            KERNEL + OTHER,
            "other-kernel",
            "nvidia is built for 5.15.0-116-generic, and 5.15.0-119-generic runs",
        ),
        (
            KERNEL + BUILT + OTHER,
            "not-loaded",
            "nvidia 470.256.02 is built for 5.15.0-119-generic, and not loaded",
        ),
        (
            KERNEL + BUILT + "secure-boot 1\n",
            "not-loaded",
            "nvidia 470.256.02 is built for 5.15.0-119-generic, and not loaded; Secure Boot is on, "
            "which wants it signed",
        ),
    ],
)
def test_a_module_that_is_not_loaded(output: str, cause: str, evidence: str) -> None:
    found = rung("module", pci=UNBOUND, module=said(output))
    assert (found.status, found.cause, found.evidence) == (FAILED, cause, evidence)


@pytest.mark.parametrize(
    "cause", ["version-magic", "lockdown", "open-module", "unsupported-gpu", "bar-empty"]
)
def test_the_kernel_log_says_why_it_is_not_loaded(cause: str) -> None:
    log = result(f"kernel-log/{cause}.text.txt")
    found = rung("module", pci=UNBOUND, module=said(KERNEL + BUILT), kernel_log=log)
    assert (found.status, found.cause) == (FAILED, cause)


@pytest.mark.parametrize("driver", ["nouveau", "vfio-pci", "pci-stub", "nova-core"])
def test_another_driver_holds_the_card(driver: str) -> None:
    found = changed("module", "driver nvidia\n", f"driver {driver}\n")
    assert (found.status, found.cause) == (FAILED, "other-driver")
    assert found.evidence == f"{driver} holds 0000:01:00.0 [10de:13f1]"


def test_a_card_that_is_kept_for_another_driver() -> None:
    found = changed("module", "(null)\ndriver nvidia\n", "vfio-pci\n")
    assert (found.status, found.cause) == (FAILED, "driver-override")
    assert found.evidence == "driver_override keeps 0000:01:00.0 [10de:13f1] for vfio-pci"


def test_a_loaded_module_that_does_not_take_the_card() -> None:
    found = rung("module", pci=UNBOUND)
    assert (found.status, found.cause) == (FAILED, "not-bound")
    assert found.evidence == (
        "nvidia 470.256.02 is loaded, and does not drive 0000:01:00.0 [10de:13f1]"
    )


@pytest.mark.parametrize(
    ("branch", "status"),
    [("470", OK), ("470.256.02", OK), (None, OK), ("580", FAILED), ("47", FAILED)],
)
def test_the_branch_that_was_planned(branch: str | None, status: CheckStatus) -> None:
    found = rung("module", Planned(driver=branch))
    assert (found.status, found.cause) == (status, "wrong-branch" if status is FAILED else None)


def test_the_kernel_log_says_why_it_does_not_take_the_card() -> None:
    log = result("kernel-log/bar-unassigned.text.txt")
    found = rung("module", pci=UNBOUND, kernel_log=log)
    assert (found.status, found.cause) == (FAILED, "bar-unassigned")


def test_the_open_module_is_named() -> None:
    proc = (
        "proc NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    )
    state = parse_driver_state(KERNEL + proc)
    assert (state.open, state.version, state.is_loaded) == (True, "580.65.06", True)
    assert rung("module", module=said(KERNEL + proc)).evidence == (
        "nvidia, open module, 580.65.06 is loaded"
    )


def test_the_lock_that_holds() -> None:
    state = parse_driver_state("lockdown none [integrity] confidentiality\nsecure-boot 1\n")
    assert (state.lockdown, state.secure_boot) == ("integrity", True)
    assert parse_driver_state("lockdown [none] integrity\nsecure-boot 0\n").lockdown is None


def test_a_probe_that_broke_off() -> None:
    found = rung("module", module=said("", 124, "no end within 60 s"))
    assert (found.status, found.cause) == (FAILED, "unknown")
