"""What `scan` prints: for people, for scripts, as a tree, as an exit status alone."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

import vfio_kit
from tests.hosts.load import DESCRIPTIONS, FOLDER, load
from tests.machines import (
    M4000,
    M4000_AUDIO,
    QXL,
    Function,
    Machine,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from tests.unit.test_cli import document
from tests.unit.test_cli import vfio_kit as run

SCHEMA = json.loads(
    (Path(vfio_kit.__file__).parent / "schemas/scan-1.schema.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOLDEN = Path(__file__).parents[1] / "golden/scan"
TOLD = (
    "acs-override",
    "amd-ryzen-root-in-group",
    "intel-desktop-peg-x8x8",
    "no-interrupt-remapping",
    "tesla-k80",
    "tesla-m60",
    "turing-four-functions",
    "vmd",
)
NO_IOMMU = Machine((Function("0000:01:00.0", M4000), Function("0000:01:00.1", M4000_AUDIO)))
NO_GPU = Machine((Function("0000:01:00.1", M4000_AUDIO, 6),))
MACHINES: dict[str, tuple[Callable[[], Machine], list[str], int]] = {
    "isolated": (m4000_isolated, ["isolated", "isolated"], 0),
    "shared": (m4000_shared, ["shared"], 3),
    "k80": (k80_pair, ["isolated", "isolated"], 0),
    "no iommu": (lambda: NO_IOMMU, ["no-iommu"], 3),
    "no gpu": (lambda: NO_GPU, [], 3),
}
every_machine = pytest.mark.parametrize(
    ("machine", "verdicts", "code"), MACHINES.values(), ids=MACHINES
)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Machine], Path]:
    return lambda machine: write_machine(tmp_path / "tree", machine)


Tree = Callable[[Machine], Path]
Machines = Callable[[str], Path]


@every_machine
def test_verdicts_and_exit_status(
    tree: Tree, machine: Callable[[], Machine], verdicts: list[str], code: int
) -> None:
    root = tree(machine())
    result = run("scan", "--json", "--root", root)
    assert [gpu["verdict"] for gpu in document(result)["gpus"]] == verdicts
    assert result.exit_code == code
    for option in ([], ["--tree"], ["--quiet"]):
        again = run("scan", *option, "--root", root)
        assert (again.exit_code, again.stderr) == (code, "")
        assert bool(again.stdout) == (option != ["--quiet"] and not (option and not verdicts))


def too_long(text: str) -> list[str]:
    """Lines of more than 80 columns; a path and a next command are longer, and are not broken."""
    return [
        line
        for line in text.splitlines()
        if len(line) > 80 and " " in line.strip() and not line.startswith("next: ")
    ]


@every_machine
def test_a_report_fits_80_columns(
    tree: Tree, machine: Callable[[], Machine], verdicts: list[str], code: int
) -> None:
    result = run("scan", "--root", tree(machine()))
    assert too_long(result.stdout) == []
    assert result.stdout == click.unstyle(result.stdout)


@every_machine
def test_the_json_is_what_its_schema_says(
    tree: Tree, machine: Callable[[], Machine], verdicts: list[str], code: int
) -> None:
    found = document(run("scan", "--json", "--root", tree(machine())))
    VALIDATOR.validate(found)
    assert undocumented(found, SCHEMA) == []


def undocumented(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Keys of the document that stand in no `properties` of its schema."""
    if "$ref" in schema:
        return undocumented(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    for choice in schema.get("oneOf", []):
        if (value is None) == (choice.get("type") == "null"):
            return undocumented(value, choice, where)
    if isinstance(value, dict):
        known = schema["properties"]
        return [f"{where}.{key}" for key in value if key not in known] + [
            found
            for key in value
            if key in known
            for found in undocumented(value[key], known[key], f"{where}.{key}")
        ]
    if isinstance(value, list):
        return [found for each in value for found in undocumented(each, schema["items"], where)]
    return []


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    silent = []

    def look(schema: dict[str, Any], where: str) -> None:
        for key, below in schema.get("properties", {}).items():
            if not {"description", "$ref"} & below.keys():
                silent.append(f"{where}.{key}")
            look(below, f"{where}.{key}")
        if "items" in schema:
            look(schema["items"], where)

    for name, below in SCHEMA["$defs"].items():
        look(below, name)
    look(SCHEMA, "$")
    assert silent == []


def test_a_wrong_document_fails_the_schema(tree: Tree) -> None:
    found = document(run("scan", "--json", "--root", tree(m4000_shared())))
    found["gpus"][0]["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError, match="perhaps"):
        VALIDATOR.validate(found)


def test_the_json_of_a_shared_gpu(tree: Tree) -> None:
    (gpu,) = document(run("scan", "--json", "--root", tree(m4000_shared())))["gpus"]
    findings = gpu.pop("findings")
    assert (gpu["address"], gpu["vendor_id"], gpu["device_id"], gpu["class"]) == (
        *("0000:02:01.0", "10de", "13f1", "0300"),
    )
    assert (gpu["iommu_group"], gpu["driver"], gpu["can_go"]) == (6, None, False)
    assert gpu["functions"] == ["0000:02:01.0", "0000:02:01.1"]
    assert gpu["foreign_endpoints"] == [
        {
            "address": "0000:02:02.0",
            "class": "0200",
            "vendor_id": "8086",
            "device_id": "100e",
            "name": None,
            "driver": "e1000",
            "interfaces": ["enp2s2"],
        }
    ]
    assert [bridge["address"] for bridge in gpu["bridges"]] == ["0000:01:00.0"]
    assert [above["address"] for above in gpu["upstream"]] == ["0000:00:01.0", "0000:01:00.0"]
    (finding,) = (finding for finding in findings if finding["level"] == "block")
    assert finding.keys() == {"code", "level", "device", "message", "hint", "acceptable"}
    assert (finding["code"], finding["device"]) == ("VK101", "0000:02:02.0")


def test_a_report_has_a_table_the_reasons_and_the_next_command(tree: Tree) -> None:
    root = tree(m4000_isolated())
    lines = run("scan", "--root", root).stdout.splitlines()
    assert lines[0].split() == ["GPU", "NAME", "GROUP", "DRIVER", "VERDICT", "CAN", "GO"]
    assert lines[1].split()[-4:] == ["2", "bochs-drm", "isolated", "no"]
    assert lines[2].startswith("0000:01:00.0  GM204GL [Quadro M4000]  6      -          isolated")
    assert "  goes along  0000:01:00.1 GM204 High Definition Audio Controller [10de:0fbb]" in lines
    assert "  behind      0000:00:01.0" in lines
    assert lines[-2:] == [
        "1 of 2 GPUs can go to a guest",
        f"next: vfio-kit plan --gpu 0000:01:00.0 --root {root}",
    ]


def test_the_hosts_console_is_never_proposed(tree: Tree) -> None:
    console = Function("0000:00:02.0", M4000, 2, boot_vga=True)
    result = run("scan", "--root", tree(Machine((console,))))
    assert result.exit_code == 3
    assert result.stdout.endswith("0 of 1 GPU can go to a guest\nnext: vfio-kit explain VK301\n")


def test_what_stands_in_the_way_is_said(tree: Tree) -> None:
    result = run("scan", "--root", tree(m4000_shared()))
    assert "VK101 block group 6 also holds 0000:02:02.0" in result.stdout


def test_a_host_without_iommu_is_told_what_to_switch_on(tree: Tree) -> None:
    result = run("scan", "--root", tree(NO_IOMMU))
    assert "→ add intel_iommu=on iommu=pt to GRUB_CMDLINE_LINUX" in result.stdout


def test_a_host_without_gpu(tree: Tree) -> None:
    result = run("scan", "--root", tree(NO_GPU))
    assert "no GPU on this host: no display controller (PCI class 03xx)\n" in result.stdout
    assert "next: vfio-kit advise" in result.stdout


def test_what_could_not_be_read_is_named(tree: Tree) -> None:
    root = tree(m4000_isolated())
    (root / "sys/bus/pci/devices/0000:01:00.1/class").write_bytes(b"\xff")
    result = run("scan", "--root", root)
    assert "VK501 warn  /sys/bus/pci/devices/0000:01:00.1/class: not text\n" in result.stdout


# --gpu


def test_gpus_of_one_group_go_to_one_guest_together(machines: Machines) -> None:
    root = machines("intel-desktop-peg-x8x8")
    one, two = ("--gpu", "01:00.0"), ("--gpu", "02:00.0")
    assert run("scan", "-q", *one, "--root", root).exit_code == 3
    both = run("scan", *one, *two, "--root", root)
    assert both.exit_code == 0
    assert f"next: vfio-kit plan --gpu 0000:01:00.0 --gpu 0000:02:00.0 --root {root}" in both.stdout
    planned = run("plan", *one, *two, "--root", root)
    assert planned.exit_code == 0 and "block" not in planned.stdout


def test_a_card_of_another_maker_is_planned_without_a_driver(machines: Machines) -> None:
    root = machines("amd-navi-own-switch")
    said = run("scan", "--root", root).stdout.splitlines()[-1]
    assert said.startswith("next: vfio-kit plan --gpu ") and " --driver none " in said
    assert run(*said.removeprefix("next: vfio-kit ").split()).exit_code == 0


def test_the_next_command_names_the_snapshot(tree: Tree, tmp_path: Path) -> None:
    packed = tmp_path / "my snapshot.tar.gz"
    run("snapshot", "--root", tree(m4000_isolated()), "-o", packed)
    said = run("scan", "--from", packed).stdout
    assert said.endswith(f"next: vfio-kit plan --gpu 0000:01:00.0 --from '{packed}'\n")


@pytest.mark.parametrize(
    ("gpus", "code"), [(["01:00.0"], 0), (["00:02.0"], 3), (["01:00.0", "00:02.0"], 3)]
)
def test_one_gpu_is_judged_alone(tree: Tree, gpus: list[str], code: int) -> None:
    options = [word for gpu in gpus for word in ("--gpu", gpu)]
    result = run("scan", "--json", *options, "--root", tree(m4000_isolated()))
    assert result.exit_code == code
    assert [gpu["address"] for gpu in document(result)["gpus"]] == [f"0000:{gpu}" for gpu in gpus]


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ("01:00.1", "not a GPU: 0000:01:00.1"),
        ("09:00.0", "no PCI device 0000:09:00.0 on this host"),
        ("nonsense", "'nonsense' is not a PCI address"),
    ],
)
def test_a_gpu_that_is_none_is_a_wrong_call(tree: Tree, gpu: str, said: str) -> None:
    result = run("scan", "--gpu", gpu, "--root", tree(m4000_isolated()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and "hint: " in result.stderr


@pytest.mark.parametrize("options", [["--tree", "--json"], ["--quiet", "--tree"]])
def test_one_output_at_a_time(tree: Tree, options: list[str]) -> None:
    result = run("scan", *options, "--root", tree(m4000_isolated()))
    assert (result.exit_code, result.stdout) == (2, "")


# --tree


def test_the_tree_of_a_switch(tree: Tree) -> None:
    lines = run("scan", "--tree", "--root", tree(k80_pair())).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "pci0000:00",
        "└─ 0000:00:01.0",
        "",
    ]
    drawn = [line.rstrip() for line in lines]
    assert drawn[2].startswith("   └─ 0000:01:00.0")
    assert drawn[3].startswith("      ├─ 0000:02:08.0")
    assert drawn[4].startswith(
        "      │  └─ 0000:03:00.0  GK210GL [Tesla K80] [10de:102d]  group 17"
    )
    assert drawn[5].startswith("      └─ 0000:02:10.0")
    assert drawn[6].startswith("         └─ 0000:04:00.0")
    assert drawn[6].endswith("← isolated")
    assert len(drawn) == 7


def test_the_tree_holds_the_bridges_and_strangers_of_a_group(tree: Tree) -> None:
    lines = run("scan", "--tree", "--root", tree(m4000_shared())).stdout.splitlines()
    found = [line.lstrip(" │├└─").split()[0] for line in lines]
    assert found == [
        "pci0000:00",
        *(f"0000:{rest}" for rest in ("00:01.0", "01:00.0", "02:01.0", "02:01.1", "02:02.0")),
    ]


def test_the_tree_of_one_gpu(tree: Tree) -> None:
    root = tree(m4000_isolated())
    result = run("scan", "--tree", "--gpu", "00:02.0", "--root", root)
    assert len(result.stdout.splitlines()) == 2


def test_a_tree_of_several_root_buses(tree: Tree) -> None:
    machine = Machine(
        (Function("0000:80:02.0", QXL, 2), Function("10000:e1:00.0", M4000, 3)),
    )
    lines = run("scan", "--tree", "--root", tree(machine)).stdout.splitlines()
    assert [line for line in lines if line.startswith("pci")] == ["pci0000:80", "pci10000:e1"]


# Machines of every kind, and what is said of some of them word for word.


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """Writes a machine of tests/hosts when it is first asked for."""
    folder = tmp_path_factory.mktemp("machines")

    @cache
    def root(name: str) -> Path:
        return write_machine(folder / name, load(FOLDER / f"{name}.toml").machine)

    return root


@pytest.mark.parametrize("name", [description.stem for description in DESCRIPTIONS])
def test_every_kind_of_machine_is_told_in_every_form(machines: Machines, name: str) -> None:
    root = machines(name)
    found = document(run("scan", "--json", "--root", root))
    VALIDATOR.validate(found)
    assert undocumented(found, SCHEMA) == []
    assert too_long(run("scan", "--root", root).stdout) == []
    drawn = run("scan", "--tree", "--root", root).stdout
    addresses = [gpu["address"] for gpu in found["gpus"]]
    assert all(f"─ {address}  " in drawn for address in addresses)
    assert drawn.count("←") == len(addresses)


@pytest.mark.parametrize("name", TOLD)
def test_what_is_said_of_a_machine(
    machines: Machines, name: str, request: pytest.FixtureRequest
) -> None:
    root = machines(name)
    said = "".join(
        f"$ vfio-kit {' '.join(words)}\n{run(*words, '--root', root).stdout}\n"
        for words in (["scan"], ["scan", "--tree"])
    )
    said = said.replace(str(root), "HOST")
    golden = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-goldens"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")
