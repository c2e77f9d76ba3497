"""The last look before `up` changes anything: the host as it is now against what was planned."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machines import M4000, M4000_AUDIO
from tests.unit.test_rom import image as rom_image
from tests.unit.values import at, function, host, spec
from vfio_kit.cli.preflight import (
    require_as_looked_at,
    require_files,
    require_free_cpus,
    require_no_drift,
)
from vfio_kit.errors import Refused, UsageError, VfioKitError
from vfio_kit.model import Holder, Host
from vfio_kit.model.placement import Claim, CpuTopology, Placement
from vfio_kit.model.vm import UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.plan.document import plan_document

GPU = function("01:00.0", M4000, 6, name="Quadro M4000")
AUDIO = function("01:00.1", M4000_AUDIO, 6, driver="snd_hda_intel")
HOST = host(GPU, AUDIO)


def planned(on: Host = HOST, image: str = "") -> UpPlan:
    plan = make_plan(on, spec("01:00.0", memory=1024, driver="none"))
    return replace(plan, image=image)


def test_the_host_that_was_planned_for_will_do() -> None:
    require_no_drift(planned(), HOST)


def test_all_that_has_changed_is_said_at_once() -> None:
    busy = Holder(at("01:00.0"), "/dev/dri/card1", 77, "Xorg")
    now = host(replace(GPU, driver="nouveau"), replace(AUDIO, driver=None), holders=(busy,))
    with pytest.raises(Refused) as caught:
        require_no_drift(planned(), now)
    message = caught.value.message
    assert message.startswith("the host is not as it was planned for: 0000:01:00.0 (10de:13f1 ")
    assert "has driver nouveau now, had none; " in message
    assert "0000:01:00.1 (10de:0fbb) has no driver now, had snd_hda_intel; " in message
    assert "Xorg (PID 77: /dev/dri/card1)" in message and "(VK310)" in message
    assert caught.value.hint == "systemctl stop display-manager"


def test_a_card_that_is_gone_is_said_and_nothing_is_judged() -> None:
    with pytest.raises(Refused, match=r"there is no 0000:01:00\.0") as caught:
        require_no_drift(planned(), host(function("00:02.0", M4000_AUDIO, 1)))
    assert "vfio-kit plan" in caught.value.hint


def test_a_plan_without_a_gpu_is_compared_with_nothing() -> None:
    none = replace(planned(), gpus=(), devices=())
    require_no_drift(none, Host(devices=(), iommu_groups={}))


def test_a_plan_is_held_against_what_was_looked_at_where_something_was() -> None:
    plan = planned()
    require_as_looked_at(None, plan)
    require_as_looked_at(plan_document(plan), plan)
    with pytest.raises(Refused, match="network is default, was lab") as caught:
        require_as_looked_at({**plan_document(plan), "network": "lab"}, plan)
    assert caught.value.hint == "look at it again: vfio-kit plan, with these options"


def on_cpus(*cpus: int) -> UpPlan:
    plan = planned()
    placement = Placement(CpuTopology(1, len(cpus), 1), vcpus=tuple((cpu,) for cpu in cpus))
    return replace(plan, domain=replace(plan.domain, placement=placement))


def test_cpus_that_another_vm_has_got_meanwhile_are_named() -> None:
    other = Claim("other", cpus=frozenset({4, 5, 6}))
    require_free_cpus(on_cpus(2, 3), [other])
    with pytest.raises(Refused) as caught:
        require_free_cpus(on_cpus(3, 4, 5), [other])
    assert caught.value.message == (
        "the VM 'other' has host CPUs that were planned for 'gpu-vm': 4, 5"
    )


def test_a_vm_that_is_not_pinned_shares_its_cpus_with_all() -> None:
    require_free_cpus(planned(), [Claim("other", cpus=frozenset(range(64)))])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can look into; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="vfio-kit-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def with_rom(path: Path) -> UpPlan:
    return make_plan(
        HOST,
        spec("01:00.0", memory=1024, driver="none", image="/i.qcow2", roms={"01:00.0": str(path)}),
    )


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (None, UsageError, "no option ROM at"),
        (b"no ROM at all", Refused, "is no option ROM: it begins with 6e6f, not 55aa"),
        (
            rom_image(device=0x1B38),
            Refused,
            "is a ROM for 10de:1b38, and the function is 10de:13f1",
        ),
    ],
)
def test_a_rom_is_looked_at_before_anything_is_connected_to(
    open_folder: Path, data: bytes | None, error: type[VfioKitError], words: str
) -> None:
    path = open_folder / "card.rom"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error) as caught:
        require_files(with_rom(path))
    assert words in caught.value.message and str(path) in caught.value.message


def test_the_cards_own_rom_is_taken(open_folder: Path) -> None:
    (open_folder / "card.rom").write_bytes(rom_image())
    require_files(with_rom(open_folder / "card.rom"))


def test_a_key_that_is_not_there_is_refused_before_anything_is_connected_to(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError):
        require_files(replace(planned(image="/some.qcow2"), identity=str(tmp_path / "none")))
