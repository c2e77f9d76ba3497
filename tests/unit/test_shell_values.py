"""What the shells complete: the answer of vfio-kit to a line up to the cursor."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem

from tests.machines import Machine, k80_pair, m4000_isolated, write_machine
from vfio_kit.cli import _COMMANDS, _cli, shells
from vfio_kit.cli.shells import SHELLS, Bash, Fish, Zsh
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree
from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES
from vfio_kit.knowledge.findings import FINDING_KINDS
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import CUDAS, DRIVERS
from vfio_kit.render import OUTPUTS


@pytest.fixture
def items(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[CompletionItem[str]]]:
    """The items for a line, the last word of which is to be completed."""

    def ask(line: str) -> list[CompletionItem[str]]:
        monkeypatch.setenv("COMP_WORDS", f"vfio-kit {line}")
        shell = Fish(_cli, {}, "vfio-kit", "_VFIO_KIT_COMPLETE")
        return shell.get_completions(*shell.get_completion_args())

    return ask


@pytest.fixture
def values(items: Callable[[str], list[CompletionItem[str]]]) -> Callable[[str], list[str]]:
    return lambda line: [item.value for item in items(line)]


Values = Callable[[str], list[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Machine], Path]:
    return lambda machine: write_machine(tmp_path / "tree", machine)


def test_commands_are_completed_in_the_order_of_the_work(values: Values) -> None:
    assert values("") == list(_COMMANDS)
    assert values("s") == ["scan", "snapshot", "stop", "start"]
    assert values("image ") == ["fetch", "list", "rm"]


def test_an_option_is_completed_with_what_it_does(
    items: Callable[[str], list[CompletionItem[str]]],
) -> None:
    (found,) = items("scan --tr")
    assert (found.value, found.help) == ("--tree", "Draw root ports, switches and functions.")


@pytest.mark.parametrize("command", ["scan", "advise", "plan", "render"])
@pytest.mark.parametrize(("typed", "due"), [("", "01:00.0"), ("0000:0", "0000:01:00.0")])
def test_the_gpus_of_the_machine_are_completed(
    values: Values, tree: Callable[[Machine], Path], command: str, typed: str, due: str
) -> None:
    found = values(f"{command} --root {tree(m4000_isolated())} --gpu {typed}")
    assert due in found
    assert not any(value.endswith("01:00.1") for value in found)  # its audio function is no GPU


def test_a_gpu_has_its_name_beside_it(
    items: Callable[[str], list[CompletionItem[str]]], tree: Callable[[Machine], Path]
) -> None:
    found = items(f"scan --root {tree(m4000_isolated())} --gpu 01")
    assert [(item.value, item.help) for item in found] == [("01:00.0", "GM204GL [Quadro M4000]")]


def test_a_gpu_that_was_given_is_not_offered_again(
    values: Values, tree: Callable[[Machine], Path]
) -> None:
    line = f"scan --root {tree(k80_pair())} --gpu"
    assert values(f"{line} ") == ["03:00.0", "04:00.0"]
    assert values(f"{line} 03:00.0 --gpu ") == ["04:00.0"]


def test_the_gpus_of_a_snapshot_are_completed(
    values: Values, tree: Callable[[Machine], Path], tmp_path: Path
) -> None:
    packed = tmp_path / "snapshot.tar.gz"
    packed.write_bytes(take_snapshot(tree(k80_pair()), lambda _: None))
    assert Tree(tmp_path).exists("snapshot.tar.gz")
    assert values(f"plan --from {packed} --gpu ") == ["03:00.0", "04:00.0"]


def test_another_host_is_not_waited_for(values: Values) -> None:
    assert values("plan --connect qemu+ssh://192.0.2.1/system --gpu ") == []
    assert values("down --connect qemu+ssh://192.0.2.1/system ") == []


def test_the_root_may_stand_in_the_environment(
    values: Values, tree: Callable[[Machine], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_KIT_ROOT", str(tree(k80_pair())))
    assert values("scan --gpu ") == ["03:00.0", "04:00.0"]


def vms(state_dir: Path, *names: str) -> Path:
    for name in names:
        (state_dir / name).mkdir(parents=True)
        (state_dir / name / "vm.json").touch()
    return state_dir


@pytest.mark.parametrize("command", ["up", "down", "start", "stop", "verify", "repair"])
def test_the_names_of_vms_are_completed(values: Values, tmp_path: Path, command: str) -> None:
    vms(tmp_path, "k80", "m4000", "mx")
    (tmp_path / "no-vm").mkdir()
    assert values(f"{command} --state-dir {tmp_path} m") == ["m4000", "mx"]


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_vm_that_was_named_is_not_offered_again(
    values: Values, tmp_path: Path, command: str
) -> None:
    vms(tmp_path, "k80", "m4000")
    assert values(f"{command} --state-dir {tmp_path} k80 ") == ["m4000"]


@pytest.mark.parametrize("where", ["none", "file"])
def test_what_cannot_be_read_completes_nothing(
    values: Values, tmp_path: Path, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / where
    assert values(f"down --state-dir {place} ") == []
    assert values(f"scan --root {place} --gpu ") == values("scan --gpu ")
    assert values(f"scan --from {place} --gpu ") in ([], values("scan --gpu "))
    assert values(f"image rm --dir {place} ") == []
    assert capfd.readouterr() == ("", "")


TABLES: dict[str, list[str]] = {
    "up x --guest ": list(GUESTS),
    "up x --driver ": list(DRIVERS),
    "plan --cuda ": list(CUDAS),
    "render --output ": list(OUTPUTS),
    "image fetch ": list(CLOUD_IMAGES),
    "explain ": [kind.code for kind in FINDING_KINDS],
    "explain VK10": [kind.code for kind in FINDING_KINDS if kind.code.startswith("VK10")],
    "explain vk101": ["vk101"],
    "explain 101": ["101"],
    "completion ": list(SHELLS),
    "up x --boot ": ["direct", "bios", "uefi"],
    "bake x.qcow2 --cc 5.": ["5.0", "5.2"],
    "verify --expect gpu_count=1,c": ["gpu_count=1,cc=", "gpu_count=1,cuda="],
    "verify --until ": ["healthy"],
    "advise --device 10de:13f": ["10de:13f0", "10de:13f1", "10de:13f2", "10de:13f3"],
    "advise --name 'Quadro M40": ["Quadro M4000"],
    "plan --driver=58": ["--driver=580", "--driver=580-open"],
    "up x --no-such-option ": [],
    "up 'x": [],
}


@pytest.mark.parametrize("line", TABLES)
def test_values_come_from_their_tables(
    values: Values, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_KIT_STATE_DIR", str(tmp_path))
    assert values(line) == TABLES[line]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("up x --spec vm.t", "file"),
        ("verify --junit vm.t", "file"),
        ("up x --bundle vm.t", "dir"),
        ("list --state-dir vm.t", "dir"),
        ("up x --image vm.t", "file"),
    ],
)
def test_paths_are_left_to_the_shell(
    items: Callable[[str], list[CompletionItem[str]]], line: str, kind: str
) -> None:
    assert [(item.type, item.value) for item in items(line)] == [(kind, "vm.t")]


def test_images_are_completed_by_path_and_by_name(values: Values, tmp_path: Path) -> None:
    (tmp_path / "golden.qcow2").touch()
    (tmp_path / "other.qcow2").touch()
    (tmp_path / "golden.manifest.json").write_text('{"schema": "vfio-kit/image/1"}')
    assert values(f"image rm --dir {tmp_path} ") == ["golden.qcow2"]
    assert values(f"up x --image-dir {tmp_path} --image ") == [str(tmp_path / "golden.qcow2")]


def test_hosts_are_those_of_ssh_config(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / ".ssh/config"
    config.parent.mkdir()
    config.write_text("Host gpu-01 gpu-02 *.lab !gpu-03\n  User root\nhost other\n\n# Host no\n")
    assert values(f"verify --ssh-config {config} --host ") == ["gpu-01", "gpu-02", "other"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert values("verify --host gpu-01 --host ubuntu@gpu") == ["ubuntu@gpu-01", "ubuntu@gpu-02"]
    for command in ("up x", "list", "scan"):
        uris = values(f"{command} --connect qemu+ssh://root@gpu")
        assert uris == [f"qemu+ssh://root@gpu-0{number}/system" for number in (1, 2)]
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert values("verify --host ") == values("list --connect ") == []


def test_nothing_needs_a_click_whose_items_are_generic() -> None:
    """They are so since 8.2; Debian 12 has 8.1."""
    folder = Path(shells.__file__).parent
    for file in folder.glob("*.py"):
        for line in file.read_text("utf-8").splitlines():
            assert re.search(r'(?<!["[])CompletionItem\[', line) is None, f"{file}: {line}"


# What each shell is told


def test_bash_gets_what_follows_its_last_break_in_the_word(
    monkeypatch: pytest.MonkeyPatch, tree: Callable[[Machine], Path]
) -> None:
    root = tree(k80_pair())
    monkeypatch.setenv("COMP_WORDBREAKS", " \t\n:=")
    for typed, due in (
        ("--gpu 0", ["plain,03:00.0", "plain,04:00.0"]),
        ("--gpu 03:", ["plain,00.0"]),
        ("--gpu 0000:03:0", ["plain,00.0"]),
        ("--gpu=", ["plain,03:00.0", "plain,04:00.0"]),
        ("--gpu=03:00", ["plain,00.0"]),
    ):
        monkeypatch.setenv("COMP_WORDS", f"vfio-kit scan --root {root} {typed}")
        assert Bash(_cli, {}, "vfio-kit", "X").complete().splitlines() == due
    monkeypatch.setenv("COMP_WORDBREAKS", " ")
    assert Bash(_cli, {}, "vfio-kit", "X").complete() == "plain,--gpu=03:00.0"


def test_zsh_gets_three_lines_with_colons_that_end_no_value() -> None:
    shell = Zsh(_cli, {}, "vfio-kit", "X")
    item = CompletionItem("01:00.0", help="a\n card: fine")
    assert shell.format_completion(item) == "plain\n01\\:00.0\na card: fine"
    assert shell.format_completion(CompletionItem("01:00.0")) == "plain\n01:00.0\n_"
    assert shell.format_completion(CompletionItem("", type="file")) == "file\n \n_"
