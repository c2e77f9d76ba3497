"""The document of `plan --json`, its schema, and a saved one against the plan of now."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vfio_kit
from tests.hosts.load import FOLDER, load
from tests.machines import K80, M4000, M4000_AUDIO, k80_pair, m4000_isolated, write_machine
from tests.unit.test_cli import document
from tests.unit.test_cli import vfio_kit as run
from tests.unit.values import function, host, spec
from vfio_kit.cli.plan_command import plan_json, saved_plan
from vfio_kit.errors import UsageError
from vfio_kit.model.placement import CpuTopology, Placement
from vfio_kit.model.vm import UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.plan.document import differences

SCHEMA = json.loads(
    (Path(vfio_kit.__file__).parent / "schemas/plan-2.schema.json").read_text("utf-8")
)
GPU = function("01:00.0", M4000, 6, name="Quadro M4000", numa_node=0)
AUDIO = function("01:00.1", M4000_AUDIO, 6, driver="snd_hda_intel")


def planned(**fields: Any) -> UpPlan:
    return make_plan(host(GPU, AUDIO), spec("01:00.0", memory=1024, driver="none", **fields))


def placed(plan: UpPlan, **fields: Any) -> UpPlan:
    placement = Placement(CpuTopology(1, 2, 2), **fields)
    return replace(plan, domain=replace(plan.domain, placement=placement))


PLACED = placed(
    planned(), nodes=(1,), pages=((1, 512),), vcpus=((2,), (3,), (6,), (7,)), emulator=(0, 4)
)


def described(value: Any, schema: dict[str, Any], where: str) -> None:
    """Every key of a document stands in the schema, with a description."""
    if isinstance(value, dict) and where != ".spec":
        for key, inner in value.items():
            assert key in schema.get("properties", {}), f"{where}.{key}"
            assert "description" in schema["properties"][key], f"{where}.{key}"
            described(inner, schema["properties"][key], f"{where}.{key}")
    for inner in value if isinstance(value, list) else ():
        described(inner, schema["items"], where)


@pytest.mark.parametrize(
    "plan",
    [
        planned(),
        planned(hugepages="off"),
        PLACED,
        planned(boot={"kernel": "/k", "initrd": "/i"}, autostart=True),
    ],
)
def test_the_schema_describes_every_key(plan: UpPlan) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = json.loads(json.dumps(plan_json(plan, spec("01:00.0"))))
    jsonschema.validate(found, SCHEMA)
    described(found, SCHEMA, "")


def test_the_command_prints_it_for_a_host_with_two_nodes(tmp_path: Path) -> None:
    machine = load(FOLDER / "epyc-two-nodes-eight-p40.toml").machine
    root = write_machine(tmp_path / "tree", machine)
    found = document(run("plan", "--json", "--gpu", "41:00.0", "--cpus", "2", "--root", root))
    jsonschema.validate(found, SCHEMA)
    (device,) = found["devices"]
    assert (device["numa_node"], device["class"], device["rom"]) == (0, "030200", None)
    placement = found["placement"]
    assert placement["nodes"] == [device["numa_node"]]
    assert sum(pages["count"] for pages in placement["pages"]) == found["hugepages"]["count"]
    assert len(placement["vcpus"]) == 2
    assert found["memlock_mib"] == found["memory_mib"] + 1024
    assert found["mmio_window"] >= 64 << 30
    assert found["spec"]["gpus"] == ["0000:41:00.0"] and found["spec"]["cpus"] == 2


def test_the_text_says_where_the_vm_runs(tmp_path: Path) -> None:
    machine = load(FOLDER / "epyc-two-nodes-eight-p40.toml").machine
    root = write_machine(tmp_path / "tree", machine)
    said = run("plan", "--gpu", "41:00.0", "--cpus", "2", "--memory", "4096", "--root", root)
    lines = said.stdout.splitlines()
    assert "  hugepages of 2 MiB: 2048 on node 0" in lines
    assert "  QEMU may lock 5120 MiB" in lines
    assert any(line.startswith("  CPUs 1,65 of the host, each vCPU on one of") for line in lines)


# A plan that was looked at, and saved.


def saved(plan: UpPlan) -> dict[str, Any]:
    return dict(json.loads(json.dumps(plan_json(plan))))


@pytest.mark.parametrize("plan", [planned(), PLACED])
def test_the_same_plan_differs_in_nothing(plan: UpPlan) -> None:
    assert differences(saved(plan), plan) == ()


def test_findings_and_words_do_not_count() -> None:
    assert differences(saved(planned()), replace(planned(), findings=(), steps=())) == ()


@pytest.mark.parametrize(
    ("now", "sentences"),
    [
        (planned(cpus=2), ("cpus is 2, was 4", "hugepages.threads is 2, was 4",
                           "topology.cores is 2, was 4")),
        (replace(planned(), image="/b.img"), ("image is /b.img, was none",)),
        (replace(planned(), autostart=True), ("autostart is true, was false",)),
        (planned(network={"name": "lan"}), ("network is lan, was default",)),
    ],
)  # fmt: skip
def test_what_is_planned_otherwise_is_said(now: UpPlan, sentences: tuple[str, ...]) -> None:
    assert differences(saved(planned()), now) == sentences


def test_another_place_on_the_host_is_said() -> None:
    now = placed(planned(), nodes=(0,), pages=((0, 512),), vcpus=((2,), (3,), (6,), (8,)))
    assert differences(saved(PLACED), now) == (
        "placement.nodes is [0], was [1]",
        'placement.pages is [{"node": 0, "count": 512}], was [{"node": 1, "count": 512}]',
        "placement.vcpus is [[2], [3], [6], [8]], was [[2], [3], [6], [7]]",
        "placement.emulator is none, was [0, 4]",
    )


def test_a_device_that_changed_and_one_that_is_another() -> None:
    other = make_plan(
        host(replace(GPU, driver="nouveau", iommu_group=7), function("01:00.2", M4000_AUDIO, 7)),
        spec("01:00.0", memory=1024, driver="none"),
    )
    assert differences(saved(planned()), other) == (
        "0000:01:00.1 goes no more",
        "0000:01:00.2 goes, and did not",
        "driver of 0000:01:00.0 is nouveau, was none",
        'iommu_group of 0000:01:00.0 is ["0000:01:00.0", "0000:01:00.2"], '
        'was ["0000:01:00.0", "0000:01:00.1"]',
    )


def grouped(first: int, second: int) -> UpPlan:
    machine = host(replace(GPU, iommu_group=first), replace(AUDIO, iommu_group=second))
    return make_plan(machine, spec("01:00.0", memory=1024, driver="none"))


def test_a_reboot_that_numbers_the_same_groups_otherwise_is_no_difference() -> None:
    then = saved(grouped(6, 6))
    assert [device["iommu_group"] for device in then["devices"]] == [6, 6]
    assert differences(then, grouped(17, 17)) == ()


def test_a_group_that_has_other_members_under_its_old_number_is_one() -> None:
    assert differences(saved(grouped(6, 6)), grouped(6, 7)) == (
        'iommu_group of 0000:01:00.0 is ["0000:01:00.0"], was ["0000:01:00.0", "0000:01:00.1"]',
        'iommu_group of 0000:01:00.1 is ["0000:01:00.1"], was ["0000:01:00.0", "0000:01:00.1"]',
    )


def test_another_card_in_the_place() -> None:
    now = make_plan(host(function("01:00.0", K80, 6)), spec("01:00.0", memory=1024, driver="none"))
    said = differences(saved(planned()), now)
    assert "ids of 0000:01:00.0 is 10de:102d, was 10de:13f1" in said
    assert "0000:01:00.1 goes no more" in said


@pytest.mark.parametrize(
    "broken",
    [{}, {"devices": None}, {"devices": [1, {}]}, {"placement": 7}, {"cpus": {"a": []}}],
)
def test_whatever_a_file_holds_it_is_compared(broken: dict[str, Any]) -> None:
    assert differences({**saved(PLACED), **broken}, PLACED) == () or broken
    assert differences(broken, PLACED) != ()


# The file.


def test_a_saved_plan_is_read_back(tmp_path: Path, tree: Callable[[Any], Path]) -> None:
    options = ("--gpu", "03:00.0", "--driver", "none", "--root", tree(k80_pair()))
    (tmp_path / "plan.json").write_text(run("plan", "--json", *options).stdout)
    found = saved_plan(tmp_path / "plan.json")
    assert found["spec"]["gpus"] == ["0000:03:00.0"]
    assert found == document(run("plan", "--json", *options))


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Any], Path]:
    return lambda machine: write_machine(tmp_path / "tree", machine)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read the plan"),
        ("not json", "is no plan: "),
        ("[" * 100000, "is no plan: "),
        ("\udcff", "is no plan: "),
        ("[]", "its schema is None"),
        ('{"schema": "vfio-kit/plan/1"}', "its schema is 'vfio-kit/plan/1', not 'vfio-kit/plan/2'"),
    ],
)
def test_a_file_that_is_no_plan_of_this_version(
    tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "p").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as caught:
        saved_plan(tmp_path / "p")
    assert words in caught.value.message


def test_a_plan_of_the_isolated_card_needs_no_spec_to_be_shown(
    tree: Callable[[Any], Path],
) -> None:
    found = document(run("plan", "--json", "--gpu", "01:00.0", "--root", tree(m4000_isolated())))
    assert found["schema"] == "vfio-kit/plan/2"
