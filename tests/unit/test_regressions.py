"""What went wrong once and shall not again: hostile, torn and monstrous input."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import K80, M4000, Machine, m4000_isolated, m4000_shared, write_machine
from tests.unit.ssh_server import SshServer, answer
from tests.unit.test_cli import vfio_kit
from tests.unit.test_journal import RECORD
from tests.unit.test_verification import check, judged
from tests.unit.values import TEST_KEYS, function, host, public_key, said, spec
from vfio_kit.analysis.guest.cloud_init import parse_status
from vfio_kit.analysis.isolation import judge
from vfio_kit.analysis.readiness.iommu import explain_no_iommu
from vfio_kit.apply.files import make_folder
from vfio_kit.apply.hugepages import pool_size
from vfio_kit.apply.journal import VmFolder
from vfio_kit.errors import GuestError, HostError, UsageError
from vfio_kit.guest.ssh import Connection, Target
from vfio_kit.host.read import read_host
from vfio_kit.host.snapshot.layout import MANIFEST, PROBLEMS, VERSION
from vfio_kit.host.snapshot.replay import SnapshotTree
from vfio_kit.host.tree import MOST_PROBLEMS
from vfio_kit.model.health import CheckStatus, CommandResult
from vfio_kit.model.vm import StepKind
from vfio_kit.plan import make_plan
from vfio_kit.render import port_slot, render
from vfio_kit.spec import line_of, load_spec

# journal


@pytest.fixture
def vm(tmp_path: Path) -> VmFolder:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(RECORD)
    return folder


def test_a_torn_line_does_not_swallow_what_is_written_behind_it(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    with (vm.path / "journal.jsonl").open("a") as stream:
        stream.write('{"version": 1, "st')
    vm.undone(StepKind.DISK)
    assert vm.outstanding() == []


@pytest.mark.parametrize(
    "line",
    [
        b"42",
        b"null",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "step": "nothing", "phase": "begin", "data": {}}',
        b'{"version": 1, "step": "disk", "phase": "begin"}',
        b'{"version": 1, "step": [], "phase": "begin", "data": {}}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_json_and_makes_no_sense_is_damaged(vm: VmFolder, line: bytes) -> None:
    (vm.path / "journal.jsonl").write_bytes(line + b"\n")
    with pytest.raises(HostError):
        vm.outstanding()


@pytest.mark.parametrize(
    ("key", "value"), [("gpus", 5), ("gpus", "abc"), ("gpus", [1]), ("address", 7), ("name", None)]
)
def test_a_record_with_values_of_other_types_is_damaged(
    vm: VmFolder, key: str, value: object
) -> None:
    path = vm.path / "vm.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(HostError):
        vm.record()


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """`down vm --state-dir /srv/shared` takes /srv/shared away from everybody else."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    make_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


# isolation


@pytest.mark.parametrize(
    ("machine", "gpu", "broken"),
    [
        (m4000_shared, "0000:02:01.0", "0000:02:02.0"),  # a foreign endpoint
        (m4000_isolated, "0000:01:00.0", "0000:01:00.1"),  # a companion
    ],
)
def test_a_member_of_the_group_that_cannot_be_read_is_in_the_way(
    tmp_path: Path, machine: Callable[[], Machine], gpu: str, broken: str
) -> None:
    root = write_machine(tmp_path, machine())
    (root / "sys/bus/pci/devices" / broken / "class").write_bytes(b"")
    reports = {str(report.gpu.address): report for report in judge(read_host(root))}
    assert not reports[gpu].can_go


def test_a_group_that_is_not_listed_is_known_by_the_links_into_it(tmp_path: Path) -> None:
    root = write_machine(tmp_path, m4000_shared())
    shutil.rmtree(root / "sys/kernel/iommu_groups/6")
    (report,) = judge(read_host(root))
    assert not report.can_go


# render


@pytest.mark.parametrize("comment", ["me@\U0001f600", "\U00020000"])
def test_yaml_gives_back_characters_beyond_ffff(comment: str) -> None:
    key = public_key(comment)
    plan = make_plan(
        host(function("01:00.0", M4000, 6)), spec("01:00.0", ssh={"authorized_keys": [key]})
    )
    keys = replace(TEST_KEYS, authorized=plan.authorized_keys)
    user_data = render("cloud-init", plan, keys)[0].text
    assert yaml.safe_load(user_data)["users"][0]["ssh_authorized_keys"] == [key]


def test_root_ports_stay_clear_of_the_chipset() -> None:
    cards = [function(f"{bus:02x}:00.0", K80, bus) for bus in range(1, 30)]
    try:
        plan = make_plan(host(*cards), spec(*[str(card.address) for card in cards]))
    except UsageError:
        return
    assert max(map(port_slot, plan.domain.root_ports)) < 0x1F


def test_a_path_of_two_lines_does_not_leave_its_comment(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    result = vfio_kit(
        *("render", "--gpu", "01:00.0", "--root", root, "-o", tmp_path / "out"),
        *("--output", "qemu", "--image-dir", "/srv/a\ntouch /tmp/harm; #"),
    )
    if result.exit_code == 0:
        lines = (tmp_path / "out/run.sh").read_text().splitlines()
        assert not [line for line in lines if line.startswith("touch")]


# verification


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "sh: 1: syntax error",
        "function 0000:01:00.0\nvendor 0x10de\ndevice 0x13f1\nclass zz",
        "function 0000:01:00.0\nvendor 0x\ndevice 0x1\nclass 0x030000",
    ],
)
def test_a_function_list_that_is_none_is_a_failed_check(line: str) -> None:
    assert check(judged(pci=said(line)), "pci").status is CheckStatus.FAILED


@given(st.builds(CommandResult, st.integers(0, 255), st.text(), st.text()))
def test_no_function_list_ends_in_an_exception(result: CommandResult) -> None:
    judged(pci=result)


@pytest.mark.parametrize(
    "line",
    [
        "Total amount of global memory: {} MBytes",
        "Device PCI Domain ID / Bus ID / location ID:   0 / {} / 0",
    ],
)
def test_a_number_without_end_is_no_exception(line: str) -> None:
    text = f'Device 0: "x"\n{line.format("9" * 5000)}\nResult = PASS\n'
    judged(device_query=said(text))


# cloud_init_status


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "done", "recoverable_errors": ["x"]}',
        '{"status": "done", "recoverable_errors": {"WARNING": null}}',
        '{"status": "done", "errors": 1}',
        '{"a":' * 100_000,
    ],
    ids=["list", "null", "number", "deep"],
)
def test_a_status_of_another_shape_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not cloud-init's status"):
        parse_status(text)


# ssh


def test_a_command_that_speaks_for_ever_ends_in_time(tmp_path: Path) -> None:
    def trickle(channel: paramiko.Channel) -> None:
        for _ in range(50):
            channel.sendall(b".")
            time.sleep(0.1)
        channel.close()

    with SshServer(tmp_path, {"x": trickle}) as server, Connection(server.target()) as connection:
        begin = time.monotonic()
        with pytest.raises(GuestError, match="no end within"):
            connection.run("x", timeout=0.5)
        assert time.monotonic() - begin < 3


def test_much_on_stderr_does_not_hang_the_command(tmp_path: Path) -> None:
    flood = answer(said("done", 0, "e" * 5_000_000))

    def stderr_first(channel: paramiko.Channel) -> None:
        channel.sendall_stderr(b"e" * 5_000_000)
        flood(channel)

    commands = {"x": stderr_first}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        assert connection.run("x", timeout=5).stdout == "done"


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\n", b"h ssh-ed25519 AAA\n", b"h ssh-rsa AAAAB3NzaC1yc2E=\n", b"x y z\n"]
)
def test_known_hosts_that_make_no_sense_are_a_guest_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(data)
    with pytest.raises(GuestError):
        Connection(Target("127.0.0.1", 1, "root", None, path))


def test_an_identity_that_is_no_text_is_a_guest_error(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        target = server.target()
        server.identity.write_bytes(b"\xff\xfe\n")
        with pytest.raises(GuestError):
            Connection(target)


def test_an_identity_with_a_passphrase_is_named_as_such(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        target = server.target()
        server.identity.chmod(0o600)
        change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(server.identity)]
        subprocess.run(change, check=True, capture_output=True)
        with pytest.raises(GuestError) as caught:
            Connection(target)
    assert "accepts none of our keys" not in caught.value.message


# read


@pytest.mark.parametrize("value", ["-1", "0x10de0000", "0x1_0", "\u0663"])
def test_an_id_that_is_no_id_is_named(tmp_path: Path, value: str) -> None:
    root = write_machine(tmp_path, m4000_isolated())
    path = root / "sys/bus/pci/devices/0000:01:00.0/vendor"
    path.write_text(f"{value}\n", encoding="utf-8")
    assert read_host(root).problems


def test_a_broken_boot_vga_is_named(tmp_path: Path) -> None:
    root = write_machine(tmp_path, m4000_isolated())
    (root / "sys/bus/pci/devices/0000:01:00.0/boot_vga").write_bytes(b"45a\n")
    assert read_host(root).problems


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices").touch()
    assert read_host(tmp_path).problems


EVIL = "\x9b31m\x07\x08\x7f\u202e\u2028\x85"
"""What moves a terminal's cursor, or ends a line, and click takes out of nothing."""


@pytest.mark.parametrize("options", [(), ("--tree",), ("--json",)])
def test_a_stranger_does_not_write_on_the_terminal(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    files = {
        "usr/share/misc/pci.ids": f"10de  NVIDIA\n\t13f1  GM204 [Quadro {EVIL}]\n",
        "proc/cmdline": f"iommu=pt{EVIL} pcie_acs_override={EVIL}",
        "proc/cpuinfo": f"vendor_id\t: Genuine{EVIL}\n",
        f"sys/class/iommu/dmar{EVIL}": "",
        "sys/bus/pci/devices/0000:01:00.0/power_state": f"D0{EVIL}",
        "sys/bus/pci/devices/0000:01:00.0/reset_method": f"flr{EVIL}",
        f"sys/kernel/iommu_groups/6/devices/{EVIL}:": "",
    }
    machine = replace(m4000_isolated(), files={n: text.encode() for n, text in files.items()})
    root = write_machine(tmp_path / "tree", machine)
    (root / "sys/bus/pci/devices/0000:01:00.1/driver").unlink()
    (root / "sys/bus/pci/devices/0000:01:00.1/driver").symlink_to(f"../snd{EVIL}")
    snapshot = tmp_path / "s.tar.gz"
    assert vfio_kit("snapshot", "--root", root, "-o", snapshot).exit_code == 0
    here = vfio_kit("scan", *options, "--root", root)
    there = vfio_kit("scan", *options, "--from", snapshot)
    assert here.stdout == there.stdout
    assert "01:00.0" in here.stdout
    assert [line for line in here.stdout.split("\n") if not line.isprintable()] == []


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("0000:01:00.1/driver", "../" * 30 + "etc/snd_hda_intel"),
        ("0000:01:00.1/driver", "/"),
        ("0000:01:00.1/driver", ".."),
        ("0000:00:02.0", "0000:00:01.0"),
    ],
    ids=["above the root", "root", "up", "a link to a link"],
)
def test_a_snapshot_of_odd_links_is_none_that_we_refuse(tmp_path: Path, link: str, to: str) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    (root / "sys/bus/pci/devices" / link).unlink()
    (root / "sys/bus/pci/devices" / link).symlink_to(to)
    snapshot = tmp_path / "s.tar.gz"
    vfio_kit("snapshot", "--root", root, "-o", snapshot)
    one, two = (vfio_kit("scan", "--json", *o) for o in (("--root", root), ("--from", snapshot)))
    assert (one.exit_code, one.stdout) == (two.exit_code, two.stdout)


def test_problems_without_number_are_told_up_to_a_thousand(tmp_path: Path) -> None:
    """A snapshot of 20 KiB unpacked to a JSON of 170 MiB."""
    root = write_machine(tmp_path / "tree", m4000_isolated())
    for number in range(MOST_PROBLEMS + 10):
        (root / f"sys/bus/pci/devices/{number}").touch()
    snapshot = tmp_path / "s.tar.gz"
    vfio_kit("snapshot", "--root", root, "-o", snapshot)
    one, two = (vfio_kit("scan", "--json", *o) for o in (("--root", root), ("--from", snapshot)))
    assert one.stdout == two.stdout
    assert len(read_host(root).problems) == MOST_PROBLEMS + 1
    with tarfile.open(snapshot, "w:gz") as archive:
        for name, text in ((MANIFEST, VERSION), (PROBLEMS, "/a\tb\n" * 100_000)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    assert len(SnapshotTree(snapshot).problems) == MOST_PROBLEMS + 1


@pytest.mark.parametrize("name", ["usr/share/misc/pci.ids", "proc/sys/kernel/osrelease"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    root = write_machine(tmp_path, m4000_isolated())
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    command = [sys.executable, "-m", "vfio_kit", "scan", "--root", str(root)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0


# spec


@pytest.mark.parametrize(
    "text", ["cpus = " + "1" * 5000, "a = " + "[" * 5000 + "]" * 5000], ids=["digits", "deep"]
)
def test_a_monstrous_spec_is_a_usage_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "vm.toml"
    file.write_text(text + "\n")
    with pytest.raises(UsageError):
        load_spec(file, {})


def test_a_spec_without_end_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="longer than"):
        load_spec(Path("/dev/zero"), {})


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_lines_are_counted_as_editors_count_them(separator: str) -> None:
    assert line_of(f"# a{separator}b\ncpus = 1\n", ["cpus"]) == 2


# iommu


def test_the_last_word_on_the_command_line_counts() -> None:
    found = explain_no_iommu(
        host(
            acpi_tables=frozenset({"DMAR"}),
            cpu_vendor="GenuineIntel",
            cmdline="intel_iommu=off intel_iommu=on",
        )
    )
    assert "remove intel_iommu=off" not in found.hint


def test_a_parameter_for_the_other_vendor_is_no_reason() -> None:
    found = explain_no_iommu(
        host(acpi_tables=frozenset({"DMAR"}), cpu_vendor="GenuineIntel", cmdline="amd_iommu=off")
    )
    assert "intel_iommu=on" in found.hint


# hugepages


def test_a_pool_that_holds_no_number_is_a_host_error(tmp_path: Path) -> None:
    pool = tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB"
    pool.mkdir(parents=True)
    (pool / "nr_hugepages").touch()
    with pytest.raises(HostError):
        pool_size(2048, root=tmp_path)


# cli


def test_a_reader_that_goes_away_is_no_bug_of_ours(tmp_path: Path) -> None:
    """main() means exit code 0 for it; click ends with 1, which is documented as a bug."""
    root = write_machine(tmp_path, m4000_isolated())
    command = f"{sys.executable} -m vfio_kit scan --root {root} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 0


def run(*options: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vfio_kit", *map(str, options)]
    return subprocess.run(
        command, check=False, capture_output=True, env=os.environ | environment, timeout=20
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437"])
@pytest.mark.parametrize("options", [("scan",), ("scan", "--tree"), ("advise",)])
def test_a_locale_without_arrows_is_no_bug_of_ours(
    tmp_path: Path, encoding: str, options: tuple[str, ...]
) -> None:
    root = write_machine(tmp_path, m4000_shared())
    done = run(*options, "--root", root, PYTHONIOENCODING=encoding)
    assert done.returncode in (0, 3) and b"02:01.0" in done.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_json_says_the_same_in_every_locale(tmp_path: Path, encoding: str) -> None:
    root = write_machine(tmp_path, m4000_shared())
    ids = root / "usr/share/misc/pci.ids"
    ids.parent.mkdir(parents=True)
    ids.write_text("10de  NVIDIA\n\t13f1  GM204 [Квадро]\n", encoding="utf-8")
    one, two = (
        run("scan", "--json", "--root", root, PYTHONIOENCODING=e) for e in (encoding, "utf-8")
    )
    assert json.loads(one.stdout.decode(encoding)) == json.loads(two.stdout)
    assert "Квадро" in two.stdout.decode()


@pytest.mark.parametrize(
    "command", ["scan --root {}", "scan --json --root {}", "explain", "--help"]
)
def test_a_full_disk_is_the_hosts_fault(tmp_path: Path, command: str) -> None:
    root = write_machine(tmp_path, m4000_isolated())
    line = f"{sys.executable} -m vfio_kit {command.format(root)} > /dev/full"
    done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert done.stderr.startswith("error: cannot write the output")


def test_a_snapshot_replaces_no_device_and_no_link(tmp_path: Path) -> None:
    """As root `snapshot -o /dev/null` put a file in its place."""
    root = write_machine(tmp_path / "tree", m4000_isolated())
    pipe, link, file = (tmp_path / name for name in ("pipe", "link", "file"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    link.symlink_to(file)
    for output in (pipe, link, Path("/dev/full")):
        result = vfio_kit("snapshot", "--root", root, "-o", output)
        assert result.exit_code == (4 if output.is_char_device() else 0)
    assert pipe.is_fifo() and link.is_symlink() and Path("/dev/full").is_char_device()
    assert os.read(reader, 1 << 16) == file.read_bytes()
    os.close(reader)


@pytest.mark.parametrize("name", ["loop", "x" * 300, "missing/x", "."])
def test_a_place_where_nothing_can_be_written_is_said(tmp_path: Path, name: str) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    (tmp_path / "loop").symlink_to("loop")
    result = vfio_kit("snapshot", "--root", root, "-o", tmp_path / name)
    assert result.exit_code in (2, 4) and str(tmp_path) in result.stderr.replace("\n", "")


def test_ids_may_be_written_as_sysfs_writes_them() -> None:
    one, two = (vfio_kit("advise", "--device", d) for d in ("0x10de:0x13f1", "10de:13f1"))
    assert (one.exit_code, one.stdout) == (0, two.stdout)
