"""What the real driver 470.256.02 said of cards without silicon, judged rung by rung."""

import json

import pytest

from tests.unit.fixtures import FIXTURES, text
from vfio_kit.analysis.guest.kernel_log import parse_kernel_log
from vfio_kit.analysis.guest.verification import judge_guest
from vfio_kit.model.health import CheckStatus, CommandResult, Planned, VerifyReport

OK, FAILED, NOT_RUN = CheckStatus.OK, CheckStatus.FAILED, CheckStatus.NOT_RUN
PLANNED = Planned(("10de:13f1", "10de:0fbb"), 1, "470")
DRIVER_470 = FIXTURES / "driver-470"
AUDIO = "function 0000:01:00.1\nvendor 0x10de\ndevice 0x0fbb\nclass 0x040300\n"


def recorded(case: str) -> dict[str, CommandResult]:
    """The results of the probes, put together from what was recorded by other commands.

    The situations with another library hold only what could differ from `init-failed`.
    """
    statuses = {
        name: each["status"]
        for folder in ("init-failed", case)
        for name, each in json.loads(text(f"driver-470/{folder}/commands.json")).items()
    }
    whole = (DRIVER_470 / case / "uname.out").exists()

    def said(name: str) -> str:
        folder = case if whole or (DRIVER_470 / case / f"{name}.out").exists() else "init-failed"
        path = DRIVER_470 / folder / f"{name}.out"
        return path.read_text("utf-8") if path.exists() else ""

    def result(name: str) -> CommandResult:
        return CommandResult(statuses[name], said(name), "")

    module = f"kernel {said('uname')}"
    if said("modinfo-file"):
        module += f"built {said('uname')}file nvidia-tesla-470.ko {said('modinfo-file')}"
    module += "".join(f"proc {line}\n" for line in said("proc-version").splitlines())
    module += f"version {said('module-version')}" if said("module-version") else ""
    return {
        "cloud-init": result("cloud-init"),
        "pci": CommandResult(0, _functions(said("sysfs")), ""),
        "module": CommandResult(0, module, ""),
        "nvidia-smi": result("nvidia-smi-xml"),
        "device-query": result("device-query"),
        "kernel-log": CommandResult(0, f"from journalctl\n{said('kernel-log')}", ""),
    }


def _functions(sysfs: str) -> str:
    """`grep -H . vendor …` and `readlink driver`, as the probe writes it; the first four bytes of
    config space, which were recorded as well, are not what the probe looks at."""
    if "vendor:" not in sysfs:
        return ""
    lines = ["function 0000:01:00.0"]
    for line in sysfs.splitlines():
        name, found, value = line.partition(":")
        if not found:
            lines.append(f"driver {line.rpartition('/')[2]}")
        elif name != "config":
            lines.append(f"{'bar' if name == 'resource' else name} {value}")
    return "\n".join(lines) + f"\n{AUDIO}"


def judged(case: str) -> VerifyReport:
    return judge_guest("vm", recorded(case), PLANNED)


# What fails in each situation, and the rung below that explains it; all else holds, but for
# gpu-state, which is not run where nvidia-smi lists nothing.
Failures = dict[str, tuple[str, str | None]]
EXPECTED: dict[str, Failures] = {
    "bar-unassigned": {
        "bar1": ("bar-unassigned", None),
        "module": ("bar0-missing", None),
        "nvidia-smi": ("driver-not-loaded", "bar1"),
        "kernel-log": ("bar0-missing", None),
        "device-query": ("no-device", "bar1"),
    },
    "card-refused": {
        "module": ("unsupported-gpu", None),
        "nvidia-smi": ("driver-not-loaded", "module"),
        "kernel-log": ("unsupported-gpu", None),
        "device-query": ("no-device", "module"),
    },
    "driver-override": {
        "module": ("driver-override", None),
        "nvidia-smi": ("driver-not-loaded", "module"),
        "kernel-log": ("probe-not-called", None),
        "device-query": ("no-device", "module"),
    },
    "gone-before-load": {
        "pci": ("fallen-off-bus", None),
        "module": ("fallen-off-bus", "pci"),
        "nvidia-smi": ("driver-not-loaded", "pci"),
        "kernel-log": ("fallen-off-bus", None),
        "device-query": ("no-device", "pci"),
    },
    "init-failed": {
        "nvidia-smi": ("no-devices", None),
        "kernel-log": ("vbios-unreadable", None),
        "device-query": ("no-device", "nvidia-smi"),
    },
    "libcuda-missing": {
        "nvidia-smi": ("no-devices", None),
        "kernel-log": ("vbios-unreadable", None),
        "device-query": ("no-libcuda", "nvidia-smi"),
    },
    "libraries-535": {
        "nvidia-smi": ("library-mismatch", None),
        "kernel-log": ("library-mismatch", None),
        "device-query": ("no-device", "nvidia-smi"),
    },
    "module-not-built": {
        "module": ("not-installed", None),
        "nvidia-smi": ("driver-not-loaded", "module"),
        "device-query": ("no-device", "module"),
    },
    "no-gpu": {
        "pci": ("no-gpu", None),
        "module": ("not-loaded", "pci"),
        "nvidia-smi": ("driver-not-loaded", "pci"),
        "kernel-log": ("no-gpu", None),
        "device-query": ("no-device", "pci"),
    },
    "no-permission": {
        "nvidia-smi": ("permission", None),
        "device-query": ("no-device", "nvidia-smi"),
    },
    "nvml-missing": {
        "nvidia-smi": ("library-missing", None),
        "kernel-log": ("vbios-unreadable", None),
        "device-query": ("no-device", "nvidia-smi"),
    },
    "off-the-bus": {
        "pci": ("fallen-off-bus", None),
        "nvidia-smi": ("no-devices", "pci"),
        "kernel-log": ("vbios-unreadable", None),
        "device-query": ("unknown-cuda-error", "pci"),
    },
    "other-driver": {
        "module": ("other-driver", None),
        "nvidia-smi": ("driver-not-loaded", "module"),
        "kernel-log": ("probe-not-called", None),
        "device-query": ("no-device", "module"),
    },
    "runtime-newer": {
        "nvidia-smi": ("no-devices", None),
        "kernel-log": ("vbios-unreadable", None),
        "device-query": ("no-libcuda", "nvidia-smi"),
    },
    "userspace-535": {
        "nvidia-smi": ("library-mismatch", None),
        "kernel-log": ("library-mismatch", None),
        "device-query": ("no-device", "nvidia-smi"),
    },
}


@pytest.mark.parametrize("case", EXPECTED)
def test_a_card_without_silicon(case: str) -> None:
    report = judged(case)
    failed = {c.code: (c.cause, c.explained_by) for c in report.checks if c.status is FAILED}
    assert failed == EXPECTED[case]
    assert not report.healthy and report.gpus == ()
    not_run = {c.code for c in report.checks if c.status is NOT_RUN}
    assert not_run == ({"link", "bar1", "gpu-state"} if case == "no-gpu" else {"gpu-state"})
    assert {c.code: c.status for c in report.checks if c.code in ("ssh", "cloud-init")} == {
        "ssh": OK,
        "cloud-init": OK,
    }


def test_every_recording_is_judged() -> None:
    assert {path.name for path in DRIVER_470.iterdir() if path.is_dir()} == set(EXPECTED)


def test_a_driver_that_could_not_start_the_card_says_why() -> None:
    found = {c.code: c for c in judged("init-failed").checks}
    assert found["module"].evidence == "nvidia 470.256.02 is loaded"
    assert found["nvidia-smi"].evidence == (
        "the driver is loaded and found no GPU that it can use (exit 6: No devices were found); "
        "the driver could not read the card's video BIOS"
    )
    assert "RmInitAdapter failed! (0x30:0xffff:874)" in found["kernel-log"].evidence


def test_the_link_of_an_emulated_card_is_no_alarm() -> None:
    (link,) = [c for c in judged("init-failed").checks if c.code == "link"]
    assert (link.status, link.evidence) == (OK, "0000:01:00.0: x16 at 2.5 GT/s of x16")


def test_events_of_a_whole_boot() -> None:
    log = parse_kernel_log(recorded("init-failed")["kernel-log"].stdout)
    assert [(event.cause, event.count) for event in log.events] == [
        ("module-unsigned", 1),
        ("vbios-unreadable", 10),
        ("rm-init-failed", 10),
        ("rm-init-adapter", 10),
    ]
