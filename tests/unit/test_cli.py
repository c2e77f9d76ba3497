"""The command line: what it prints where, and its exit codes, which are public."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.machines import (
    E1000,
    M4000,
    M4000_AUDIO,
    Function,
    Machine,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from vfio_kit import __version__
from vfio_kit.cli import _COMMANDS, _cli
from vfio_kit.model.vm import StepKind

NO_IOMMU = Machine((Function("0000:01:00.0", M4000), Function("0000:01:00.1", M4000_AUDIO)))
NO_GPU = Machine((Function("0000:02:00.0", E1000, 1),))


def vfio_kit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Machine], Path]:
    return lambda machine: write_machine(tmp_path / "tree", machine)


def document(result: Result) -> dict[str, Any]:
    """The JSON on stdout; that there is nothing else is part of the contract."""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


# scan: test_scan.py


def test_a_tree_without_sysfs_cannot_be_examined(tmp_path: Path) -> None:
    result = vfio_kit("scan", "--root", tmp_path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith(f"error: no PCI bus in {tmp_path}/sys/bus/pci\n  hint: ")


# Both libraries and time: what a command does not need it does not import.


def imported_by(*arguments: str | Path) -> set[str]:
    """The top-level modules that are loaded when a command has ended."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
        "from vfio_kit.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    assert "click" in modules, done.stderr
    return {name.partition(".")[0] for name in modules}


def test_scan_pays_only_for_itself(tree: Callable[[Machine], Path]) -> None:
    dear = {"paramiko", "jinja2", "libvirt", "pydantic", "pycdlib", "defusedxml", "cryptography"}
    assert imported_by("scan", "--root", tree(m4000_isolated())) & dear == set()


def test_plan_does_not_pay_for_ssh_and_libvirt(tree: Callable[[Machine], Path]) -> None:
    loaded = imported_by("plan", "--gpu", "01:00.0", "--root", tree(m4000_isolated()))
    assert loaded & {"paramiko", "libvirt", "jinja2", "pycdlib", "cryptography"} == set()


# plan


def test_plan_prints_the_steps_and_changes_nothing(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    root = tree(m4000_isolated())
    before = sorted(tmp_path.rglob("*"))
    result = vfio_kit("plan", "--gpu", "01:00.0", "--image", "/images/jammy.img", "--root", root)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "gpu-vm: ubuntu-22.04, 4 CPUs, 8192 MiB, boot bios, driver 470, CUDA 11.4 by packages",
        "  0000:01:00.0 GM204GL [Quadro M4000] [10de:13f1] → guest 01:00.0",
        "  0000:01:00.1 GM204 High Definition Audio Controller [10de:0fbb] → guest 01:00.1",
    ]
    assert "  1. record the VM in /var/lib/vfio-kit/gpu-vm" in lines
    assert "     undo: give back the pages that were added" in lines
    assert lines[-1].startswith("nothing was changed; next: sudo vfio-kit up gpu-vm")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_json_of_plan(tree: Callable[[Machine], Path]) -> None:
    result = vfio_kit(
        *("plan", "--json", "--gpu", "03:00.0", "--gpu", "04:00.0", "--name", "k80"),
        *("--hugepages", "1G", "--memory", "16384", "--guest", "debian-12", "--driver", "none"),
        *("--cpus", "8", "--boot", "uefi", "--root", tree(k80_pair())),
    )
    assert result.exit_code == 0
    found = document(result)
    steps = found.pop("steps")
    assert {finding["level"] for finding in found.pop("findings")} == {"info"}
    placement = found.pop("placement")
    assert placement is None or not placement["vcpus"]
    assert found.pop("spec")["gpus"] == ["0000:03:00.0", "0000:04:00.0"]
    assert found == {
        "schema": "vfio-kit/plan/2",
        "name": "k80",
        "guest": "debian-12",
        "driver": "none",
        "cuda": None,
        "cuda_way": None,
        "capabilities": ["3.7"],
        "packages": [],
        "bundle": None,
        "baked": False,
        "image": None,
        "cpus": 8,
        "memory_mib": 16384,
        "memlock_mib": 17408,
        "hugepages": {"size_kib": 1048576, "count": 16, "threads": 8},
        "topology": {"sockets": 1, "cores": 8, "threads": 1},
        "mmio_window": None,
        "disk_gib": None,
        "boot": "uefi",
        "kernel": None,
        "initrd": None,
        "network": "default",
        "autostart": False,
        "user": "debian",
        "identity": None,
        "authorized_keys": [],
        "devices": [
            {
                "address": f"0000:0{bus}:00.0",
                "ids": "10de:102d",
                "name": "GK210GL [Tesla K80]",
                "driver": None,
                "subsystem": "10de:1153",
                "class": "030200",
                "iommu_group": group,
                "upstream": ["0000:00:01.0", "0000:01:00.0", f"0000:02:{port}.0"],
                "numa_node": None,
                "guest_address": f"0000:0{number}:00.0",
                "rom": None,
            }
            for number, bus, group, port in ((1, 3, 17, "08"), (2, 4, 42, "10"))
        ],
    }
    assert [step["step"] for step in steps] == [
        kind.value for kind in StepKind if kind is not StepKind.AUTOSTART
    ]
    assert all(step.keys() == {"step", "what", "undo"} for step in steps)


def test_plan_says_which_software_it_decided_on(tree: Callable[[Machine], Path]) -> None:
    options = (
        *("plan", "--gpu", "01:00.0", "--root", tree(m4000_isolated()), "--driver", "auto"),
        *("--cuda", "11.4", "--cuda-way", "runfile", "--package", "nvtop", "--package", "mc=4"),
        *("--bundle", "/srv/bundle"),
    )
    assert vfio_kit(*options).stdout.splitlines()[0] == (
        "gpu-vm: ubuntu-22.04, 4 CPUs, 8192 MiB, boot bios, driver 580, CUDA 11.4 by runfile, "
        "nvtop, mc=4, from /srv/bundle"
    )
    found = document(vfio_kit(*options, "--json"))
    keys = ("driver", "cuda", "cuda_way", "capabilities", "packages", "bundle", "baked")
    assert {key: found[key] for key in keys} == {
        "driver": "580",
        "cuda": "11.4",
        "cuda_way": "runfile",
        "capabilities": ["5.2"],
        "packages": ["nvtop", "mc=4"],
        "bundle": "/srv/bundle",
        "baked": False,
    }


def test_plan_refuses_a_driver_that_is_none_for_the_card(tree: Callable[[Machine], Path]) -> None:
    result = vfio_kit("plan", "--gpu", "03:00.0", "--driver", "580", "--root", tree(k80_pair()))
    assert result.exit_code == 3
    assert "470 is the last branch for this card" in result.stderr
    assert "possible in ubuntu-22.04: --driver 470 with --cuda 11.4" in result.stderr


def test_plan_takes_a_spec_and_options_over_it(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    spec = tmp_path / "vm.toml"
    spec.write_text('name = "lab"\ngpus = ["01:00.0"]\nmemory = 4096\nhugepages = "off"\n')
    result = vfio_kit(
        *("plan", "--json", "--spec", spec, "--memory", "2048"),
        *("--root", tree(m4000_isolated())),
    )
    found = document(result)
    assert (found["name"], found["memory_mib"], found["hugepages"]) == ("lab", 2048, None)


def test_warnings_are_part_of_the_plan(tree: Callable[[Machine], Path]) -> None:
    root = tree(m4000_isolated())
    place = ("--accept-loss", "00:02.0", "--root", root)
    arguments = ("plan", "--gpu", "00:02.0", "--driver", "none", *place)
    assert "VK301 warn  accepted: 0000:00:02.0 is the display" in vfio_kit(*arguments).stdout
    findings = document(vfio_kit(*arguments, "--json"))["findings"]
    assert "VK301" in [finding["code"] for finding in findings]


def test_the_boot_display_goes_only_where_its_loss_is_accepted(
    tree: Callable[[Machine], Path],
) -> None:
    place = ("--root", tree(m4000_isolated()))
    arguments = ("plan", "--gpu", "00:02.0", "--driver", "none", *place)
    result = vfio_kit(*arguments)
    assert result.exit_code == 3
    assert "--accept-loss 0000:00:02.0" in result.stderr
    assert vfio_kit(*arguments, "--accept-loss", "01:00.0").exit_code == 2  # it does not go
    assert vfio_kit(*arguments, "--accept-loss", "00:02.0").exit_code == 0


def test_plan_says_no_with_the_reason(tree: Callable[[Machine], Path]) -> None:
    result = vfio_kit("plan", "--json", "--gpu", "02:01.0", "--root", tree(m4000_shared()))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(
        "error: 0000:02:01.0 (GM204GL [Quadro M4000]) cannot go to a guest: group 6 also holds "
        "0000:02:02.0 Ethernet controller"
    )
    assert "\n  hint: put the GPU into a slot with a root port of its own" in result.stderr


# Wrong inputs: the arguments behind `plan`, the exit code, what is said.
WRONG: dict[str, tuple[list[str], str]] = {
    "no GPU": ([], "gpus is missing"),
    "no address": (["--gpu", "gpu0"], "'gpu0' is not a PCI address"),
    "no such device": (["--gpu", "09:00.0"], "no PCI device 0000:09:00.0 on this host"),
    "no GPU at that address": (["--gpu", "01:00.1"], "not a GPU: 0000:01:00.1 audio device"),
    "twice the same GPU": (
        ["--gpu", "01:00.0", "--gpu", "0000:01:00.0"],
        "gpus: the same address is there twice",
    ),
    "name": (["--gpu", "01:00.0", "--name", "My VM"], "name = 'My VM'"),
    "memory": (["--gpu", "01:00.0", "--memory", "1"], "memory = 1: "),
    "memory in halves of a page": (
        ["--gpu", "01:00.0", "--memory", "8193"],
        "memory: 8193 MiB are no whole pages of 2M",
    ),
    "memory that is no number": (["--gpu", "01:00.0", "--memory", "8G"], "'8G' is not a valid int"),
    "cpus": (["--gpu", "01:00.0", "--cpus", "0"], "cpus = 0: "),
    "guest": (["--gpu", "01:00.0", "--guest", "windows"], "guest = 'windows': "),
    "driver": (["--gpu", "01:00.0", "--driver", "390"], "'390' is not one of"),
    "hugepages": (["--gpu", "01:00.0", "--hugepages", "4M"], "'4M' is not one of"),
    "boot": (["--gpu", "01:00.0", "--boot", "pxe"], "'pxe' is not one of"),
    "a kernel alone": (["--gpu", "01:00.0", "--kernel", "/k"], "kernel and initrd go together"),
    "a kernel for UEFI": (
        ["--gpu", "01:00.0", "--kernel", "/k", "--initrd", "/i", "--boot", "uefi"],
        "mode uefi takes the image's own kernel",
    ),
    "a spec that is not there": (["--spec", "/no/spec.toml"], "cannot read the spec /no/spec.toml"),
    "an option that there is not": (["--gpus", "01:00.0"], "no such option --gpus"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_named_and_is_exit_code_2(
    tree: Callable[[Machine], Path], wrong: str
) -> None:
    arguments, message = WRONG[wrong]
    result = vfio_kit("plan", *arguments, "--root", tree(m4000_isolated()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_every_wrong_input_has_words_of_its_own() -> None:
    messages = [message for _, message in WRONG.values()]
    assert len(set(messages)) == len(messages)


def test_a_mistake_in_a_spec_is_named_by_its_line(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    spec = tmp_path / "vm.toml"
    spec.write_text('name = "lab"\ngpus = ["01:00.0"]\nmemroy = 4096\n')
    result = vfio_kit("plan", "--spec", spec, "--root", tree(m4000_isolated()))
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: {spec}:3: unknown key 'memroy'\n  hint: did you mean memory?\n"
    )


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    result = vfio_kit("scan", "--root", tmp_path / "none")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


# render

RENDER = ("render", "--gpu", "01:00.0", "--image", "/images/jammy.img")


def test_render_writes_the_files_with_their_modes(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = vfio_kit(
        *(*RENDER, "--root", tree(m4000_isolated()), "-o", out),
        *("--output", "libvirt", "--output", "qemu", "--output", "cloud-init"),
    )
    assert (result.exit_code, result.stdout) == (0, "")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert modes == {
        "domain.xml": 0o644,
        "run.sh": 0o755,
        "user-data": 0o600,
        "meta-data": 0o600,
        "network-config": 0o600,
        "id_ed25519": 0o600,
        "known_hosts": 0o600,
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {line.split()[-1] for line in result.stderr.splitlines()} >= {
        str(out / "domain.xml"),
        str(out / "run.sh"),
    }


def test_what_is_rendered_lets_its_own_key_in_and_no_other(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    root, out = tree(m4000_isolated()), tmp_path / "out"
    result = vfio_kit(*RENDER, "--root", root, "-o", out, "--output", "cloud-init")
    assert result.exit_code == 0
    data = yaml.safe_load((out / "user-data").read_text())
    (authorized,) = data["users"][0]["ssh_authorized_keys"]
    done = subprocess.run(
        ["ssh-keygen", "-y", "-f", out / "id_ed25519"], check=True, capture_output=True, text=True
    )
    assert authorized.split()[:2] == done.stdout.split()[:2]
    name, kind, key = (out / "known_hosts").read_text().split()[:3]
    assert (name, [kind, key]) == ("gpu-vm", data["ssh_keys"]["ed25519_public"].split()[:2])


def test_every_rendering_has_fresh_keys(tree: Callable[[Machine], Path], tmp_path: Path) -> None:
    root = tree(m4000_isolated())
    for out in ("one", "two"):
        vfio_kit(*RENDER, "--root", root, "-o", tmp_path / out, "--output", "cloud-init")
    for name in ("id_ed25519", "known_hosts", "user-data"):
        one, two = (tmp_path / out / name for out in ("one", "two"))
        assert one.read_bytes() != two.read_bytes()


KEYS = ("id_ed25519", "known_hosts")


@pytest.mark.parametrize("there", KEYS)
def test_keys_that_are_there_are_not_written_over(
    tree: Callable[[Machine], Path], tmp_path: Path, there: str
) -> None:
    """One of them may be the only key that opens a VM."""
    (tmp_path / there).write_text("precious")
    arguments = (*RENDER, "--root", tree(m4000_isolated()), "-o", tmp_path)
    result = vfio_kit(*arguments, "--output", "cloud-init")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path / there} is there already\n  hint: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["tree", there])
    assert (tmp_path / there).read_text() == "precious"
    # A machine alone has no keys.
    assert vfio_kit(*arguments, "--output", "libvirt").exit_code == 0
    assert (tmp_path / there).read_text() == "precious"


def test_keys_are_replaced_all_together_where_that_is_asked_for(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (*RENDER, "--root", tree(m4000_isolated()), "-o", out, "--output", "cloud-init")
    assert vfio_kit(*arguments).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert vfio_kit(*arguments).exit_code == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert vfio_kit(*arguments, "--force").exit_code == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {*KEYS, "user-data"}


def test_only_what_was_asked_for_is_written(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("untouched")
    root = tree(m4000_isolated())
    assert vfio_kit(*RENDER, "--root", root, "-o", out, "--output", "libvirt").exit_code == 0
    assert {path.name for path in out.iterdir()} == {"mine", "domain.xml"}


@pytest.mark.parametrize("autostart", [True, False])
def test_that_autostart_is_in_no_file_is_said(
    tree: Callable[[Machine], Path], tmp_path: Path, autostart: bool
) -> None:
    option = "--autostart" if autostart else "--no-autostart"
    where = ("--root", tree(m4000_isolated()), "-o", tmp_path / "out", "--output", "libvirt")
    result = vfio_kit(*RENDER, option, *where)
    assert result.exit_code == 0
    assert ("autostart is in none of these files" in result.stderr) == autostart


def test_render_says_no_before_it_writes(tree: Callable[[Machine], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = vfio_kit(
        *("render", "--gpu", "02:01.0", "--root", tree(m4000_shared()), "-o", out),
        *("--output", "libvirt"),
    )
    assert result.exit_code == 3
    assert not out.exists()


def test_a_directory_that_cannot_be_made_is_exit_code_4(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    root = tree(m4000_isolated())
    result = vfio_kit(*RENDER, "--root", root, "-o", tmp_path / "file/x", "--output", "libvirt")
    assert result.exit_code == 4
    assert f"cannot make the folder {tmp_path / 'file/x'}" in result.stderr


@pytest.mark.parametrize("output", ["vmware", "libvirt,qemu", ""])
def test_an_output_that_there_is_not(
    tree: Callable[[Machine], Path], tmp_path: Path, output: str
) -> None:
    root = tree(m4000_isolated())
    result = vfio_kit(*RENDER, "--root", root, "-o", tmp_path / "out", "--output", output)
    assert result.exit_code == 2
    assert "is not one of 'libvirt', 'qemu', 'microvm', 'cloud-init'" in result.stderr


# verify: test_verify_command.py


# snapshot


def test_a_snapshot_is_scanned_as_the_machine_is(
    tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    root, packed, there = tree(m4000_shared()), tmp_path / "s.tar.gz", tmp_path / "there"
    result = vfio_kit("snapshot", "--root", root, "-o", packed)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"wrote {packed}, {packed.stat().st_size} bytes" in result.stderr
    there.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", there], check=True)
    here = vfio_kit("scan", "--json", "--root", root)
    assert vfio_kit("scan", "--json", "--root", there).stdout == here.stdout


def test_a_snapshot_that_cannot_be_written(tree: Callable[[Machine], Path], tmp_path: Path) -> None:
    root = tree(m4000_shared())
    result = vfio_kit("snapshot", "--root", root, "-o", tmp_path / "none" / "s.tar.gz")
    assert result.exit_code == 4
    assert f"cannot write {tmp_path / 'none' / 's.tar.gz'}" in result.stderr


# A reader that goes away: head, less.


def to_nobody(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and stderr of a program whose stdout has no reader."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vfio_kit", *map(str, arguments)],
            check=False,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(theirs)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments", [("scan",), ("scan", "--json"), ("plan", "--gpu", "01:00.0")], ids=" ".join
)
def test_what_only_prints_has_done_its_work_when_nobody_reads_on(
    tree: Callable[[Machine], Path], arguments: tuple[str, ...]
) -> None:
    assert to_nobody(*arguments, "--root", tree(m4000_isolated())) == (0, "")


def test_a_list_that_nobody_reads_is_no_failure(tmp_path: Path) -> None:
    assert to_nobody("list", "--state-dir", tmp_path) == (0, "")


def test_a_judgement_that_nobody_reads_is_the_same_judgement() -> None:
    """`verify … | grep -q` under pipefail; 1 would be a bug of ours."""
    arguments = ("verify", "--host", "127.0.0.1", "--jump", "none", "--port", "1")
    assert to_nobody(*arguments) == (6, "")


LONG = "/tmp/" + "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "--gpu", "01:00.0", "--output", "qemu", "-o", LONG),
        ("bake", f"{LONG}.qcow2"),
        ("down", "vm", "--state-dir", LONG),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_that_is_too_long_is_exit_code_2(
    tree: Callable[[Machine], Path], arguments: tuple[str, ...]
) -> None:
    root = ("--root", tree(m4000_isolated())) if arguments[0] == "render" else ()
    result = vfio_kit(*arguments, *root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "too long" in result.stderr


# list and the rest


def test_no_vm_is_up(tmp_path: Path) -> None:
    result = vfio_kit("list", "--state-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "no VM is up\n")
    result = vfio_kit("list", "--json", "--state-dir", tmp_path / "none")
    assert document(result) == {"schema": "vfio-kit/list/1", "vms": []}


def test_a_damaged_vm_is_listed_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "journal.jsonl").write_text("no journal\n")
    result = vfio_kit("list", "--state-dir", tmp_path)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "STATE", "ADDRESS", "GPUS"],
        ["broken", "damaged", "-", "-"],
    ]
    assert "warning: broken: " in result.stderr and "vfio-kit repair --check" in result.stderr
    (vm,) = document(vfio_kit("list", "--json", "--state-dir", tmp_path))["vms"]
    assert (vm["name"], vm["state"], vm["condition"]) == ("broken", "not defined", "damaged")


def test_a_vm_that_is_unknown_cannot_be_taken_down(tmp_path: Path) -> None:
    result = vfio_kit("down", "../vm", "--state-dir", tmp_path)
    assert (result.exit_code, "is no name for a VM" in result.stderr) == (2, True)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = vfio_kit(name, "-h")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: vfio-kit {name} ")


def test_a_command_that_there_is_not() -> None:
    result = vfio_kit("destroy")
    assert result.exit_code == 2
    assert "no command 'destroy'" in result.stderr


def test_the_version() -> None:
    assert vfio_kit("--version").stdout.startswith(f"vfio-kit {__version__}")


def test_the_module_runs_as_a_program(tree: Callable[[Machine], Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vfio_kit", "scan", "--root", tree(NO_GPU)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert "no GPU on this host" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="down needs root")
def test_down_clears_what_a_kill_left_before_anything_was_written(tmp_path: Path) -> None:
    """`up` makes the VM's folder first; killed then, it leaves it empty, or with a torn record."""
    for torn in ((), (".vm.json.tmp",)):
        folder = tmp_path / "vm"
        folder.mkdir()
        for name in torn:
            (folder / name).touch()
        result = vfio_kit("down", "vm", "--purge", "--state-dir", tmp_path)
        assert result.exit_code == 0, result.stderr
        assert not folder.exists()
    assert vfio_kit("down", "vm", "--state-dir", tmp_path).exit_code == 2


# up: test_up.py


# bake: test_bake.py, and what is wrong before there is a VM


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--image-dir", "/tmp/a\nb"), "the path '/tmp/a\\nb' holds a control character"),
        (("--state-dir", "/tmp/a\x1b"), "the path '/tmp/a\\x1b' holds a control character"),
        (("--bundle", "/" + "x" * 300), "no folder /xxx"),
        (("--kernel", "/" + "x" * 300, "--initrd", "/i", "--image", "/i"), "no kernel at /xxx"),
    ],
)
def test_a_wrong_path_for_bake_is_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gets so far")
    result = vfio_kit("bake", tmp_path / "golden.qcow2", "--state-dir", tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
