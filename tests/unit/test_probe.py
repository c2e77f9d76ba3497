"""The commands that verification runs on a machine, run by real shells on trees made for it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fixtures import text
from tests.unit.values import said
from vfio_kit.analysis.guest.driver_state import parse_driver_state
from vfio_kit.analysis.guest.kernel_log import parse_kernel_log
from vfio_kit.analysis.guest.ladder.cloud_init import cloud_init_check
from vfio_kit.analysis.guest.pci import parse_functions
from vfio_kit.guest.local import LocalRunner
from vfio_kit.guest.probe import BURN, COMMANDS, TIMED_OUT, probe
from vfio_kit.guest.runner import CommandTimeout
from vfio_kit.model.health import CheckStatus, CommandResult

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., CommandResult]:
    """Runs a probe's command on the tree below tmp_path, with only the tools of its bin/."""
    shell = [request.param, *(["sh"] if request.param == "busybox" else [])]

    def run(code: str, *tools: str) -> CommandResult:
        command = COMMANDS[code]
        for folder in ("/usr/local/", "/sys/", "/proc/", "/lib/modules/", "/var/lib/"):
            command = command.replace(folder, f"{tmp_path}{folder}")
        bin_folder = tmp_path / "bin"
        bin_folder.mkdir(exist_ok=True)
        for tool in tools:
            link = bin_folder / tool
            if not link.exists():
                link.symlink_to(shutil.which(tool) or "/nonexistent")
        done = subprocess.run(
            [*map(str, (shutil.which(shell[0]), *shell[1:])), "-c", command],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": str(bin_folder), "CDPATH": "/", "HOME": str(tmp_path / "home")},
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    return run


Run = Callable[..., CommandResult]


def tool(root: Path, name: str, body: str) -> None:
    """A program of the machine."""
    path = root / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sysfs(root: Path, place: str, driver: str | None, **attributes: str | bytes) -> None:
    """A PCI function, at its place below /sys/devices, with a link to it and to its driver."""
    folder = root / "sys/devices" / place
    for name, content in attributes.items():
        write(folder / name, content)
    links = root / "sys/bus/pci/devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / folder.name).symlink_to(os.path.relpath(folder, links))
    if driver:
        target = root / "sys/bus/pci/drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(os.path.relpath(target, folder))


LINK = {
    "current_link_speed": "2.5 GT/s PCIe\n",
    "current_link_width": "16\n",
    "max_link_speed": "8.0 GT/s PCIe\n",
    "max_link_width": "16\n",
}
ZERO = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"


def machine_with_a_gpu(root: Path) -> None:
    sysfs(
        root, "pci0000:00/0000:00:01.0", "pcieport",
        vendor="0x1b36\n", **{"class": "0x060400\n"}, device="0x000c\n", **LINK,
    )  # fmt: skip
    sysfs(
        root, "pci0000:00/0000:00:01.0/0000:01:00.0", "nvidia",
        vendor="0x10de\n", **{"class": "0x030000\n"}, device="0x13f1\n", enable="1\n",
        config=bytes.fromhex("de10f11300000000a1000003") + bytes(52), **LINK,
        resource="0x00000000fc000000 0x00000000fcffffff 0x0000000000040200\n"
        "0x0000000800000000 0x000000080fffffff 0x000000000014220c\n" + 15 * ZERO,
    )  # fmt: skip
    sysfs(
        root, "pci0000:00/0000:00:02.0", None,
        vendor="0x1af4\n", **{"class": "0x038000\n"}, device="0x1050\n", config=bytes(64),
        resource=17 * ZERO,
    )  # fmt: skip
    sysfs(
        root, "pci0000:00/0000:00:03.0", None,
        vendor="0x1af4\n", **{"class": "0x020000\n"}, device="0x1000\n",
    )  # fmt: skip


def test_the_functions_of_a_machine(run: Run, tmp_path: Path) -> None:
    machine_with_a_gpu(tmp_path)
    result = run("pci", "od")
    assert (result.exit_status, result.stderr) == (0, "")
    port, other, network, gpu = parse_functions(result.stdout)
    assert (other.ids, other.driver, other.is_gpu, other.port) == ("1af4:1050", None, False, None)
    assert (port.ids, network.ids) == ("1b36:000c", "1af4:1000")
    assert (gpu.address, gpu.ids, gpu.driver, gpu.is_gpu) == (
        "0000:01:00.0",
        "10de:13f1",
        "nvidia",
        True,
    )
    assert (gpu.answers, gpu.link.width, gpu.link.max_speed) == (True, 16, 8.0)
    assert [bar.size >> 20 for bar in gpu.bars] == [16, 256, 0, 0, 0, 0]
    assert gpu.port is not None
    assert (gpu.port.address, gpu.port.emulated) == ("0000:00:01.0", True)


def test_a_function_that_has_fallen_off_the_bus(run: Run, tmp_path: Path) -> None:
    machine_with_a_gpu(tmp_path)
    config = tmp_path / "sys/bus/pci/devices/0000:01:00.0/config"
    config.write_bytes(bytes.fromhex("de10f113") + b"\xff" * 60)
    assert [f.answers for f in parse_functions(run("pci", "od").stdout)] == [*[True] * 3, False]


@pytest.mark.parametrize(
    ("state", "answers"),
    [("suspended", True), ("active", False), ("unsupported", False), ("error", False)],
)
def test_a_gpu_that_sleeps_has_not_fallen_off_the_bus(
    run: Run, tmp_path: Path, state: str, answers: bool
) -> None:
    machine_with_a_gpu(tmp_path)
    gpu = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    write(gpu / "power/runtime_status", f"{state}\n")
    for which in ("current", "max"):
        write(gpu / f"{which}_link_width", "63\n")
    found = parse_functions(run("pci", "od").stdout)[-1]
    assert (found.answers, found.link.width, len(found.bars)) == (answers, None, 6)


def test_without_od_nobody_says_that_it_has(run: Run, tmp_path: Path) -> None:
    machine_with_a_gpu(tmp_path)
    result = run("pci")
    assert (result.exit_status, result.stderr) == (0, "")
    assert [f.answers for f in parse_functions(result.stdout)] == [True] * 4


def test_a_machine_without_a_pci_bus(run: Run) -> None:
    assert run("pci", "od").exit_status == 1


def test_a_machine_without_functions(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    assert run("pci", "od") == said("")


def test_the_module_of_debians_packages(run: Run, tmp_path: Path) -> None:
    module = "updates/dkms/nvidia-tesla-470.ko"
    drm = "updates/dkms/nvidia-tesla-470-drm.ko"
    peer = "updates/dkms/nvidia-tesla-470-peermem.ko"
    fb = "kernel/drivers/video/fbdev/nvidia/nvidiafb.ko"
    for kernel in ("6.1.0-49", "6.1.0-50"):
        folder = tmp_path / "lib/modules" / kernel
        for name in (module, drm, peer, fb):
            write(folder / name, "")
        write(folder / "modules.dep", f"{fb}: x.ko\n{peer}: {module}\n{module}:\n{drm}: {module}\n")
    tool(tmp_path, "uname", "echo 6.1.0-50")
    tool(tmp_path, "modinfo", "echo 470.256.02")
    result = run("module", "grep", "sort", "od")
    assert (result.exit_status, result.stderr) == (0, "")
    assert result.stdout.count("file ") == 1
    state = parse_driver_state(result.stdout)
    assert (state.kernel, state.installed) == ("6.1.0-50", "470.256.02")
    assert state.built_for == ("6.1.0-49", "6.1.0-50")
    assert not state.is_loaded


@pytest.mark.parametrize(
    "name",
    [
        "updates/dkms/nvidia.ko.zst",
        "kernel/drivers/video/nvidia.ko",
        "extra/nvidia/nvidia.ko.xz",
        "updates/dkms/nvidia-current.ko",
        "nvidia/legacy-390xx/nvidia-legacy-390xx.ko",
    ],
)
def test_the_module_of_other_packages(run: Run, tmp_path: Path, name: str) -> None:
    write(tmp_path / "lib/modules/6.1.0-50" / name, "")
    write(tmp_path / "lib/modules/6.1.0-50/modules.dep", f"{name}:\n")
    tool(tmp_path, "uname", "echo 6.1.0-50")
    state = parse_driver_state(run("module", "grep", "sort").stdout)
    assert (state.installed, state.built_for) == ("", ("6.1.0-50",))


def test_the_module_that_is_loaded(run: Run, tmp_path: Path) -> None:
    write(
        tmp_path / "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n",
    )
    write(tmp_path / "sys/module/nvidia/version", "470.256.02\n")
    write(
        tmp_path / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        b"\x06\0\0\0\x01",
    )
    write(tmp_path / "sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    tool(tmp_path, "uname", "echo 6.1.0-50")
    state = parse_driver_state(run("module", "grep", "sort", "od").stdout)
    assert (state.version, state.open) == ("470.256.02", False)
    assert state.loaded == {"nvidia"}
    assert (state.secure_boot, state.lockdown) == (True, "integrity")


def test_a_machine_without_a_module(run: Run, tmp_path: Path) -> None:
    tool(tmp_path, "uname", "echo 6.1.0-50")
    assert run("module", "grep", "sort") == said("kernel 6.1.0-50\n")


LOG = "[    1.000000] NVRM: Xid (PCI:0000:01:00): 79, pid=0, gone\n[    2.000000] other words"


@pytest.mark.parametrize(
    ("journal", "dmesg", "sudo", "source"),
    [
        (f"echo '{LOG}'", "exit 1", "exit 1", "journalctl"),
        ("exit 1", f"echo '{LOG}'", "exit 1", "dmesg"),
        ("exit 0", f"echo '{LOG}'", "exit 1", "dmesg"),
        ("echo '-- No entries --'", f"echo '{LOG}'", "exit 1", "dmesg"),
        ("exit 1", "exit 1", f"echo '{LOG}'", "sudo"),
        ("exit 1", "echo refused >&2; exit 1", "exit 1", None),
    ],
)
def test_the_kernel_log_is_read_by_who_may(
    run: Run, tmp_path: Path, journal: str, dmesg: str, sudo: str, source: str | None
) -> None:
    tool(tmp_path, "journalctl", journal)
    tool(tmp_path, "dmesg", dmesg)
    tool(tmp_path, "sudo", sudo)
    result = run("kernel-log", "grep", "tail")
    assert result.exit_status == 0
    log = parse_kernel_log(result.stdout)
    assert (log.source or "").partition(" ")[0] == (source or "")
    assert [event.cause for event in log.events] == (["xid-79"] if source else [])
    assert "other words" not in result.stdout


@pytest.mark.parametrize(
    "place",
    [
        "bin",
        "usr/local/cuda/extras/demo_suite",
        "usr/local/cuda/samples/1_Utilities/deviceQuery",
        "usr/local/cuda/samples/bin/x86_64/linux/release",
        "home/NVIDIA_CUDA-11.4_Samples/bin/x86_64/linux/release",
        "home/cuda-samples/Samples/1_Utilities/deviceQuery",
        "home/cuda-samples/build/Samples/1_Utilities/deviceQuery",
    ],
)
def test_device_query_is_found_where_it_is_built(run: Run, tmp_path: Path, place: str) -> None:
    assert run("device-query").exit_status == 127
    program = tmp_path / place / "deviceQuery"
    write(program, "#!/bin/sh\necho Result = PASS\n")
    assert run("device-query").exit_status == 127
    program.chmod(0o755)
    assert run("device-query") == said("Result = PASS\n")


def test_a_machine_without_any_log(run: Run) -> None:
    assert run("kernel-log", "grep", "tail") == said("from nothing\n")


def test_all_that_the_table_knows_passes_the_probes_filter(run: Run, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "fixtures/kernel-log"
    texts = [text(f"kernel-log/{path.name}") for path in folder.iterdir()]
    lines = [line for each in texts for line in each.splitlines() if line.startswith("[")]
    write(tmp_path / "log", "\n".join(lines))
    tool(tmp_path, "dmesg", f"exec /bin/cat {tmp_path}/log")
    log = parse_kernel_log(run("kernel-log", "grep", "tail").stdout)
    assert {event.cause for event in log.events} == {
        p.name.partition(".")[0] for p in folder.iterdir()
    }


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("""echo '{"status": "done", "errors": []}'""", CheckStatus.OK),
        # An exit status says little: degraded is 2 since 23.4, and was 0.
        ("""echo '{"status": "done", "errors": []}'; exit 2""", CheckStatus.OK),
        ('[ "$2" = --long ] && echo "status: done" || exit 2', CheckStatus.OK),
        ("exit 1", CheckStatus.FAILED),
    ],
)
def test_cloud_init_is_asked(run: Run, tmp_path: Path, script: str, status: CheckStatus) -> None:
    tool(tmp_path, "cloud-init", script)
    assert cloud_init_check(run("cloud-init", "cat")).status is status


def test_a_machine_without_cloud_init_that_vfio_kit_provisions(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "var/lib/vfio-kit/provision.state", "state=failed\nstep=dkms\nreason=no\n")
    result = run("cloud-init", "cat")
    assert result.stdout.startswith("absent\n--- provision\nstate=failed\n")
    assert cloud_init_check(result).cause == "provisioning-failed"


# One after the other


class Recorder:
    """Answers every command with its first line, and hangs where it is told to."""

    def __init__(self, hangs: str = "no such command") -> None:
        self.asked: list[tuple[str, float, str]] = []
        self._hangs = hangs

    def run(self, command: str, timeout: float = 60, *, stdin: str = "") -> CommandResult:
        self.asked.append((command, timeout, stdin))
        if command.startswith(self._hangs):
            raise CommandTimeout(f"no end within {timeout:.0f} s")
        return said(command.splitlines()[0])


def test_a_tool_that_hangs_costs_the_others_nothing() -> None:
    recorder = Recorder("nvidia-smi")
    results = probe(recorder, 7)
    assert list(results) == list(COMMANDS)
    assert results["nvidia-smi"] == said("", TIMED_OUT, "no end within 7 s")
    assert [(timeout, stdin) for _, timeout, stdin in recorder.asked] == [(7, "")] * len(COMMANDS)


def test_a_burn_is_sent_on_stdin_and_the_kernel_log_is_asked_after_it() -> None:
    recorder = Recorder()
    assert list(probe(recorder, 7, burn="program", burn_seconds=30))[-2:] == [BURN, "kernel-log"]
    command, timeout, stdin = recorder.asked[-2]
    assert (timeout, stdin) == (90, "program")
    assert "exec python3 - 30" in command


def test_a_burn_runs_on_this_machine() -> None:
    results = probe(LocalRunner(), burn="import sys; print(sys.argv[1])", burn_seconds=3)
    assert results[BURN] == said("3\n")
