"""`vfio-kit advise`: what it prints, its JSON and the schema of that, and its exit codes."""

import importlib.resources
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from tests.machines import E1000, K80, M4000, Function, Machine, write_machine
from tests.unit.test_compatibility import CARDS, NAMES
from vfio_kit.cli import _cli

T4 = ("10de", "1eb8", "030200")
RADEON = ("1002", "67df", "030000")
NEW = ("10de", "ffff", "030000")
M4000_AUDIO = ("10de", "0fbb", "040300")

# Names that the shipped table does not have, for a machine with a pci.ids.
PCI_IDS = """\
10de  NVIDIA Corporation
\t0fbb  GM204 High Definition Audio Controller
\t11c7  GK106 [GeForce GTX 750 Ti]
\t1db2  GV100GL [Tesla V100 DGXS 16GB]
\t2901  GB100 [B200]
\t20f1  GA100 [A100 PCIe 40GB]
\t0191  G80 [GeForce 8800 GTX]
\t05e1  GT200 [GeForce GTX 280]
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t67df  Ellesmere [Radeon RX 470/480]
"""


def advise(*arguments: str | Path) -> Result:
    words = ["advise", *map(str, arguments)]
    return CliRunner().invoke(_cli, words, prog_name="vfio-kit")


def schema() -> dict[str, Any]:
    text = (importlib.resources.files("vfio_kit") / "schemas/advise-1.schema.json").read_text()
    loaded = json.loads(text)
    assert isinstance(loaded, dict)
    return loaded


def document(result: Result) -> dict[str, Any]:
    """The JSON on stdout, which fits its schema, and whose keys all stand there."""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    Draft202012Validator(schema()).validate(found)
    one = schema()["$defs"]["gpu"]
    for gpu in found.get("gpus", [{key: found[key] for key in found.keys() - {"schema"}}]):
        assert list(undescribed(gpu, one)) == []
    return found


def undescribed(value: Any, part: dict[str, Any]) -> Iterator[str]:
    """The keys of `value` that this part of the schema does not have."""
    if "$ref" in part:
        part = schema()["$defs"][part["$ref"].removeprefix("#/$defs/")] | part
    if isinstance(value, list):
        for item in value:
            yield from undescribed(item, part["items"])
    elif isinstance(value, dict):
        (pattern,) = part.get("patternProperties", {"": None}).values()
        for key, item in value.items():
            inner = part.get("properties", {}).get(key, pattern)
            if inner is None:
                yield key
            else:
                yield from undescribed(item, inner)


def described(part: Any) -> Iterator[dict[str, Any]]:
    """Every property that the schema has."""
    if isinstance(part, dict):
        for properties in ("properties", "patternProperties"):
            yield from part.get(properties, {}).values()
        for inner in part.values():
            yield from described(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from described(inner)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with an M4000, its audio, a T4, a card that nobody knows, and others' hardware."""
    machine = Machine(
        (
            Function("0000:00:02.0", RADEON, 1, "amdgpu", boot_vga=True),
            Function("0000:01:00.0", M4000, 6),
            Function("0000:01:00.1", M4000_AUDIO, 6, "snd_hda_intel"),
            Function("0000:02:00.0", T4, 7),
            Function("0000:03:00.0", NEW, 8),
            Function("0000:04:00.0", E1000, 9, "e1000"),
        ),
        files={"usr/share/misc/pci.ids": PCI_IDS.encode()},
    )
    return write_machine(tmp_path / "tree", machine)


def small(tmp_path: Path, *functions: Function) -> Path:
    return write_machine(tmp_path / "small", Machine(functions))


# The report for people


def test_the_report_on_a_k80(tmp_path: Path) -> None:
    root = small(tmp_path, Function("0000:03:00.0", K80, 1))
    result = advise("--gpu", "03:00.0", "--root", root)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Tesla K80: passthrough, driver 470.256.02 with CUDA 11.4, and nothing newer",
        "  card          0000:03:00.0 10de:102d GK210GL [Tesla K80]",
        "  chip          GK210, Kepler, capability 3.7",
        "  toolkits      CUDA 6.0 to 11.8",
        "  driver            CUDA  builds on, and guest systems with it; or why not",
        "  390           yes 9.1   Linux 2.6 to 6.1; ubuntu-22.04",
        "  418           yes 10.1  Linux 2.6 to 5.10; ubuntu-22.04",
        "  450           yes 11.0  Linux 2.6 to 5.10; ubuntu-22.04",
        "  470           yes 11.4  Linux 2.6 to 6.8; ubuntu-22.04, debian-12",
        "  510           no        470 is the last branch for this card",
        "  535           no        470 is the last branch for this card",
        "  550           no        470 is the last branch for this card",
        "  570           no        470 is the last branch for this card",
        "  580           no        470 is the last branch for this card",
        "  595           no        470 is the last branch for this card",
        "  open modules  no        they begin with Turing",
        "  nouveau       no        CUDA is libcuda, and libcuda speaks to NVIDIA's own",
        "                          modules alone",
        "  Ollama        none on driver 470: stock builds begin with compute capability",
        "                5.0; the fork ollama37 is built for 3.7",
        "  this host     Linux 6.12.0-amd64; driver 470 builds on Linux 6.12 only with",
        "                the patches of Debian unstable",
        "  guest         ubuntu-22.04, where vfio-kit installs driver 470",
        f"next: vfio-kit scan --gpu 0000:03:00.0 --root {root}",
        "sources: every answer's stands in the output of --json",
    ]


@pytest.mark.parametrize("card", CARDS)
def test_the_report_fits_80_columns(root: Path, card: str) -> None:
    result = advise("--device", f"10de:{CARDS[card][0]:04x}", "--root", root)
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if not line.startswith("next: ")]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (("--gpu", "01:00.0"), "vfio-kit scan --gpu 0000:01:00.0 --root ROOT"),
        (("--device", "10de:13f1"), "vfio-kit scan --root ROOT"),
        (("--gpu", "02:00.0"), "nothing; vfio-kit scan --root ROOT, if you want the card isolated"),
    ],
)
def test_the_next_step(root: Path, arguments: tuple[str, str], last: str) -> None:
    result = advise(*arguments, "--root", root)
    assert f"\nnext: {last}\n" in result.stdout.replace(str(root), "ROOT")


def test_a_driver_that_vfio_kit_does_not_install_is_left_out_of_the_plan(tmp_path: Path) -> None:
    root = small(tmp_path, Function("0000:03:00.0", ("10de", "1091", "030200"), 1))
    result = advise("--root", root)
    said = " ".join(result.stdout.split())
    assert "ubuntu-22.04: plan it with --driver none, and install its nvidia-headless-390" in said


def test_a_newer_driver_runs_a_newer_ollama(root: Path) -> None:
    result = advise("--device", "10de:13f1", "--root", root)
    assert "Ollama        0.9.2 on driver 470" in result.stdout
    assert "latest on driver 580" in " ".join(result.stdout.split())


def test_every_nvidia_gpu_of_the_machine(root: Path) -> None:
    result = advise("--root", root)
    assert (result.exit_code, result.stderr) == (0, "")
    paragraphs = result.stdout.split("\n\n")
    assert [paragraph.split(":")[0] for paragraph in paragraphs] == [
        "Quadro M4000",
        "Tesla T4",
        "unknown",
    ]
    assert "0000:03:00.0 10de:ffff: no list of names has this id" in paragraphs[2]


# JSON


def test_the_json_of_an_m4000(root: Path) -> None:
    result = advise("--json", "--device", "10DE:13F1", "--root", root)
    assert (result.exit_code, result.stderr) == (0, "")
    found = document(result)
    branches = found.pop("branches")
    assert {
        key: found[key]
        for key in ("schema", "device", "chip", "architecture", "compute_capability")
    } == {
        "schema": "vfio-kit/advise/1",
        "device": "10de:13f1",
        "chip": "GM204",
        "architecture": "Maxwell",
        "compute_capability": "5.2",
    }
    assert {number: branch["cuda"] for number, branch in branches.items()} == {
        "390": "9.1",
        "418": "10.1",
        "450": "11.0",
        "470": "11.4",
        "510": "11.6",
        "535": "12.2",
        "550": "12.4",
        "570": "12.8",
        "580": "12.9",
        "595": None,
    }
    assert branches["595"]["supported"] is False
    assert found["open_modules"]["supported"] is False
    assert found["nouveau_cuda"] is False
    assert found["ollama"]["version"] == "0.9.2"
    recommendation = found["recommendation"]
    assert recommendation.pop("summary").startswith("Quadro M4000: passthrough")
    assert recommendation == {
        "verdict": "passthrough",
        "driver": "470",
        "release": "470.256.02",
        "cuda": "11.4",
        "guest": "ubuntu-22.04",
        "installed": True,
        "alternatives": [{"driver": "580", "cuda": "12.9"}],
        "notes": [],
    }


@pytest.mark.parametrize("card", CARDS)
def test_the_json_of_each_family_fits_its_schema(root: Path, card: str) -> None:
    found = document(advise("--json", "--device", f"10de:{CARDS[card][0]:04x}", "--root", root))
    assert found["compute_capability"] == card
    for branch in found["branches"].values():
        assert branch["reason"] and branch["source"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "10de:ffff"),
        ("--device", "1002:67df"),
        ("--gpu", "03:00.0"),
        ("--gpu", "00:02.0"),
        ("--name", "Voodoo 2"),
        ("--name", "GeForce GTX 280"),
        (),
    ],
)
def test_all_other_json_fits_the_schema(root: Path, arguments: tuple[str, ...]) -> None:
    document(advise("--json", *arguments, "--root", root))


def test_the_json_of_a_machine_is_a_list(root: Path) -> None:
    result = advise("--json", "--root", root)
    assert result.exit_code == 0
    assert [(gpu["address"], gpu["known"]) for gpu in document(result)["gpus"]] == [
        ("0000:01:00.0", True),
        ("0000:02:00.0", True),
        ("0000:03:00.0", False),
    ]


def test_the_schema_describes_each_of_its_keys() -> None:
    Draft202012Validator.check_schema(schema())
    properties = list(described(schema()))
    assert len(properties) > 50
    assert all("description" in one or "$ref" in one for one in properties)


# Names


def test_a_name_that_stands_for_several_devices_with_the_same_advice(root: Path) -> None:
    result = advise("--json", "--name", "tesla v100", "--root", root)
    assert result.exit_code == 0
    found = document(result)
    matches = [match["device"] for match in found["matches"]]
    assert found["device"] == matches[0]
    assert {"10de:1db1", "10de:1db2", "10de:1db4"} <= set(matches)
    text = advise("--name", "tesla v100", "--root", root).stdout
    assert "  also          10de:1db2, 10de:1db4" in text


def test_a_name_that_stands_for_different_chips_is_no_guess(root: Path) -> None:
    result = advise("--name", "GTX 750 Ti", "--root", root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'GTX 750 Ti' fits several GPUs" in result.stderr
    assert "  hint: 10de:11c7  GK106 [GeForce GTX 750 Ti]\n" in result.stderr
    assert "  hint: 10de:1380  GM107 [GeForce GTX 750 Ti]\n" in result.stderr


def test_a_name_that_stands_for_very_many_is_cut(root: Path) -> None:
    result = advise("--name", "GeForce", "--root", root)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 15
    assert "more: ask for a longer name" in result.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Voodoo 2", "no GPU of NVIDIA's in the lists of names here is called so"),
        ("GeForce GTX 280", "the table does not have the chip GT200"),
    ],
)
def test_a_name_that_is_not_known(root: Path, name: str, reason: str) -> None:
    result = advise("--name", name, "--root", root)
    assert result.exit_code == 3
    assert reason in " ".join(result.stdout.split())
    assert result.stderr.startswith("hint: ")


def test_the_shipped_names_serve_where_there_is_no_list(tmp_path: Path) -> None:
    root = small(tmp_path)
    assert advise("--name", "Tesla K80", "--root", root).exit_code == 0
    assert advise("--device", "10de:102d", "--root", root).exit_code == 0
    assert advise("--device", f"10de:{next(iter(NAMES)):04x}", "--root", root).exit_code == 3


# What is not known, and what cannot be meant


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--device", "10de:ffff"), "10de:ffff: no list of names has this id"),
        (("--device", "10de:0fbb"), "the name begins with no codename of a GPU"),
        (("--device", "1002:67df"), "not a GPU of NVIDIA's, and the table knows those alone"),
        (("--gpu", "00:02.0"), "not a GPU of NVIDIA's, and the table knows those alone"),
        (("--gpu", "03:00.0"), "0000:03:00.0 10de:ffff: no list of names has this id"),
    ],
)
def test_what_is_unknown_is_called_so(root: Path, arguments: tuple[str, str], reason: str) -> None:
    result = advise(*arguments, "--root", root)
    assert result.exit_code == 3
    assert result.stdout.startswith("unknown: ")
    assert reason in " ".join(result.stdout.split())


def test_an_unknown_device_in_json_has_no_advice(root: Path) -> None:
    result = advise("--json", "--device", "10de:ffff", "--root", root)
    assert result.exit_code == 3
    found = document(result)
    assert (found["known"], found["device"]) == (False, "10de:ffff")
    filled = {key for key, value in found.items() if value not in (None, {}, [])}
    assert filled == {"schema", "known", "reason", "device"}


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("functions", [(), (Function("0000:00:02.0", RADEON, 1),)])
def test_a_machine_without_an_nvidia_gpu(
    tmp_path: Path, as_json: tuple[str, ...], functions: tuple[Function, ...]
) -> None:
    result = advise(*as_json, "--root", small(tmp_path, *functions))
    assert result.exit_code == 3
    assert "--device 10de:13f1, --name 'Tesla K80'" in result.stderr
    if as_json:
        assert document(result)["gpus"] == []
    else:
        assert result.stdout == "no GPU of NVIDIA's on this host, and the table knows those alone\n"


@pytest.mark.parametrize("option", [("--device", "10de:13f1"), ("--name", "Tesla K80")])
def test_no_machine_is_needed_to_ask_for_a_card(tmp_path: Path, option: tuple[str, str]) -> None:
    result = advise("--json", *option, "--root", tmp_path)
    assert result.exit_code == 0
    host = document(result)["host"]
    assert (host["kernel"], host["drivable"]) == (None, "kernel-unknown")


def test_a_machine_that_cannot_be_examined_has_no_gpus_to_advise_on(tmp_path: Path) -> None:
    assert advise("--root", tmp_path).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "10de"), "'10de' is no pair of PCI ids"),
        (("--device", "zzzz:1"), "'zzzz:1' is no pair of PCI ids"),
        (("--device", "10de:13f1:0"), "'10de:13f1:0' is no pair of PCI ids"),
        (("--device", ""), "'' is no pair of PCI ids"),
        (("--gpu", "1"), "'1' is not a PCI address"),
        (("--gpu", "09:00.0"), "no PCI device 0000:09:00.0 on this host"),
        (("--gpu", "01:00.1"), "no GPU 0000:01:00.1 on this host"),
        (("--gpu", "01:00.0", "--name", "K80"), "exclude each other"),
        (("--device", "10de:13f1", "--name", ""), "exclude each other"),
        (("--name", " "), "--name is empty"),
    ],
)
def test_what_cannot_be_meant(root: Path, arguments: tuple[str, ...], message: str) -> None:
    result = advise(*arguments, "--root", root)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "exclude" in message or "  hint: " in result.stderr


def test_advise_pays_only_for_itself(root: Path) -> None:
    code = (
        "import sys\n"
        "from vfio_kit.cli import _cli\n"
        f"_cli.main(['advise', '--root', {str(root)!r}], standalone_mode=False)\n"
        "print(*sorted(name.partition('.')[0] for name in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    )
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert loaded & {"pydantic", "jinja2", "paramiko", "libvirt", "pyudev", "jsonschema"} == set()
