"""Every topology of the lab: what its real kernel shows, and what vfio-kit makes of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import LabHost
from .scanning import codes_that_weigh, findings, nvidia_gpus, scan
from .test_main_job import refused
from .topologies import TOPOLOGIES, Seen

CORE = "m4000-isolated"
CORE_AND_LONG = [
    pytest.param(
        name,
        id=name,
        marks=[
            pytest.mark.topology(name),
            pytest.mark.lab if name == CORE else pytest.mark.lab_long,
        ],
    )
    for name in TOPOLOGIES
]
LONG = [
    pytest.param(name, id=name, marks=[pytest.mark.topology(name), pytest.mark.lab_long])
    for name in TOPOLOGIES
]

DEVICES = """cd /sys/bus/pci/devices
for d in *; do
  driver=$(readlink $d/driver)
  group=$(ls $d/iommu_group/devices 2>/dev/null | xargs)
  echo "$d|${driver##*/}|$group|$(cat $d/boot_vga 2>/dev/null)"
done
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """What scan must say of a GPU of NVIDIA's, or of the host (without a verdict)."""

    verdict: str | None = None
    can_go: bool = False
    weighs: tuple[str, ...] = ()
    """The codes of all that blocks or warns, in their order; an emulated card has no MSI."""
    because: dict[str, str | None] = field(default_factory=dict)
    """Findings that say why: their codes, and the devices that they are about."""


HOST = "the host"
M4000 = "0000:01:00.0"
BEHIND_BRIDGE = "0000:02:01.0"
BEHIND_SWITCH = "0000:03:00.0"
FREE_TO_GO = Judged("isolated", can_go=True, weighs=("VK305",))

JUDGED: dict[str, dict[str, Judged]] = {
    "m4000-isolated": {M4000: FREE_TO_GO},
    "m4000-shared-with-nic": {
        BEHIND_BRIDGE: Judged(
            "shared",
            weighs=("VK101", "VK303", "VK305"),
            because={"VK101": "0000:02:02.0", "VK105": "0000:01:00.0"},
        )
    },
    "k80-pair": {
        "0000:03:00.0": Judged(
            "isolated", can_go=True, weighs=("VK305",), because={"VK109": "0000:03:00.0"}
        ),
        "0000:04:00.0": Judged(
            "isolated", can_go=True, weighs=("VK305",), because={"VK109": "0000:04:00.0"}
        ),
    },
    "no-iommu": {M4000: Judged("no-iommu", weighs=("VK201", "VK305"))},
    "iommu-off": {M4000: Judged("no-iommu", weighs=("VK201", "VK305"))},
    "boot-display": {M4000: Judged("isolated", weighs=("VK301", "VK305"))},
    "port-without-acs": {
        BEHIND_SWITCH: Judged(
            "shared",
            weighs=("VK101", "VK305"),
            because={"VK101": "0000:04:00.0", "VK106": "0000:00:01.0"},
        )
    },
    "functions-without-acs": {
        M4000: Judged(
            "shared",
            weighs=("VK101", "VK305"),
            because={"VK101": "0000:02:00.0", "VK107": "0000:00:01.0"},
        )
    },
    "m4000-shared-with-disk": {
        BEHIND_BRIDGE: Judged(
            "shared",
            weighs=("VK101", "VK303", "VK305"),
            because={"VK101": "0000:02:02.0", "VK105": "0000:01:00.0"},
        )
    },
    "two-nodes": {"0000:41:00.0": FREE_TO_GO},
    "no-intremap": {
        HOST: Judged(weighs=("VK203",), because={"VK203": None}),
        M4000: Judged("isolated", weighs=("VK305",)),
    },
    "acs-override": {
        M4000: Judged("overridden", weighs=("VK103", "VK305"), because={"VK103": M4000})
    },
}
"""By topology and address. Of the host nothing is due where it is not named."""

INSIDE = Path(__file__).parent / "inside"


def seen_by_kernel(host: LabHost) -> dict[str, Seen]:
    """Every PCI function of the host, by its address."""
    found = {}
    for line in host.run(DEVICES).stdout.splitlines():
        address, driver, group, boot_vga = line.split("|")
        found[address] = Seen(
            address=address,
            driver=driver or None,
            group=frozenset(group.split()) or None,
            boot_vga=bool(int(boot_vga)) if boot_vga else None,
        )
    return found


@pytest.mark.parametrize("name", CORE_AND_LONG)
def test_kernel_sees_the_topology(host: LabHost, name: str) -> None:
    found = seen_by_kernel(host)
    assert [found.get(seen.address) for seen in host.topology.seen] == list(host.topology.seen)


@pytest.mark.parametrize("name", LONG)
def test_scan_judges_the_topology(gpuhost: LabHost, name: str) -> None:
    document = scan(gpuhost)
    due = JUDGED[name]
    said = {gpu["address"]: gpu for gpu in nvidia_gpus(document)} | {HOST: document}
    assert said.keys() == due.keys() | {HOST}
    found = {where: judged(part, due.get(where, Judged())) for where, part in said.items()}
    assert found == {HOST: Judged(), **due}
    for gpu in nvidia_gpus(document):
        assert gpu["functions"] == functions_at(gpu["address"], gpuhost)


@pytest.mark.parametrize("name", LONG)
def test_vfio_agrees(gpuhost: LabHost, name: str) -> None:
    """The kernel takes the group of an isolated GPU, and refuses as the verdict does.

    What it cannot know is that groups were split by an override.
    """
    script = (INSIDE / "ask_vfio.py").read_text()
    gpus = {where: due for where, due in JUDGED[name].items() if where != HOST}
    for address, due in gpus.items():
        if due.verdict == "no-iommu":
            continue
        functions = " ".join(functions_at(address, gpuhost))
        answer = json.loads(gpuhost.run(f"python3 - {functions}", stdin=script).stdout)
        alone = due.verdict != "shared"
        taken = alone and HOST not in JUDGED[name]
        assert answer == {"viable": alone, "refused": None if taken else "EPERM"}
    after = seen_by_kernel(gpuhost)
    assert [after.get(seen.address) for seen in gpuhost.topology.seen] == [*gpuhost.topology.seen]


def functions_at(address: str, host: LabHost) -> list[str]:
    """The functions of a GPU's slot, by the topology."""
    slot = address.rpartition(".")[0]
    return [seen.address for seen in host.topology.seen if seen.address[:-2] == slot]


def judged(part: dict[str, Any], due: Judged) -> Judged:
    """What was said of a GPU or the host; of its reasons those that are due."""
    devices = {found["code"]: found["device"] for found in part["findings"]}
    return Judged(
        verdict=part.get("verdict"),
        can_go=part.get("can_go", False),
        weighs=tuple(codes_that_weigh(part)),
        because={code: devices.get(code, "not said") for code in due.because},
    )


@pytest.mark.lab_long
@pytest.mark.topology("m4000-shared-with-nic")
def test_shared_names_the_nic_and_not_the_bridge(gpuhost: LabHost) -> None:
    (gpu,) = nvidia_gpus(scan(gpuhost))
    (nic,) = gpu["foreign_endpoints"]
    interface = gpuhost.run(f"ls /sys/bus/pci/devices/{nic['address']}/net").stdout.split()
    assert (nic["class"], nic["driver"], nic["interfaces"]) == ("0200", "e1000", interface)
    (finding,) = findings([gpu], "VK101")
    assert finding["device"] == nic["address"]
    assert all(word in finding["message"] for word in (nic["address"], "e1000", *interface))
    assert gpu["bridges"]


@pytest.mark.lab_long
@pytest.mark.topology("port-without-acs")
def test_the_root_port_is_named_not_the_switch_below_it(gpuhost: LabHost) -> None:
    (why,) = findings(nvidia_gpus(scan(gpuhost)), "VK106")
    for word in ("0000:00:01.0", "root port that has no ACS capability", "0000:04:00.0"):
        assert word in why["message"]


@pytest.mark.lab_long
@pytest.mark.topology("functions-without-acs")
def test_both_functions_of_the_slot_are_named(gpuhost: LabHost) -> None:
    (why,) = findings(nvidia_gpus(scan(gpuhost)), "VK107")
    for word in ("0000:00:01.0 and 0000:00:01.1", "functions of one device", "0000:02:00.0"):
        assert word in why["message"]


@pytest.mark.lab_long
@pytest.mark.topology("no-iommu")
def test_no_iommu_says_what_to_switch_on(gpuhost: LabHost) -> None:
    """The kernel is told to use one, and firmware has none: the set-up comes first."""
    (finding,) = findings(nvidia_gpus(scan(gpuhost)), "VK201")
    assert "firmware announces none" in finding["message"]
    assert "firmware set-up" in finding["hint"]


@pytest.mark.lab_long
@pytest.mark.topology("iommu-off")
def test_iommu_off_names_the_parameter(gpuhost: LabHost) -> None:
    (finding,) = findings(nvidia_gpus(scan(gpuhost)), "VK201")
    assert "intel_iommu=off" in finding["message"]
    assert "remove intel_iommu=off" in finding["hint"]


@pytest.mark.lab_long
@pytest.mark.topology("no-intremap")
def test_no_plan_without_interrupt_remapping(gpuhost: LabHost) -> None:
    refused(gpuhost, "vfio-kit plan --gpu 01:00.0 --driver none", 3, "VK203", "firmware set-up")


@pytest.mark.lab_long
@pytest.mark.topology("acs-override")
def test_plan_takes_an_overridden_gpu_where_that_is_accepted(gpuhost: LabHost) -> None:
    command = "vfio-kit plan --gpu 01:00.0 --driver none"
    refused(gpuhost, command, 3, "VK103", f"--accept-loss {M4000}")
    assert "nothing was changed" in gpuhost.run(f"{command} --accept-loss 01:00.0").stdout


@pytest.mark.lab_long
@pytest.mark.topology("acs-override")
def test_acs_override_is_said_though_this_kernel_ignores_it(gpuhost: LabHost) -> None:
    (finding,) = findings(nvidia_gpus(scan(gpuhost)), "VK103")
    assert "pcie_acs_override=downstream,multifunction" in finding["message"]
    assert f"--accept-loss {M4000}" in finding["hint"]


@pytest.mark.lab_long
@pytest.mark.topology("k80-pair")
class TestBothHalvesOfAK80:
    def test_two_3d_controllers_in_groups_of_their_own(self, gpuhost: LabHost) -> None:
        gpus = nvidia_gpus(scan(gpuhost))
        assert [gpu["class"] for gpu in gpus] == ["0302", "0302"]
        assert len({gpu["iommu_group"] for gpu in gpus}) == 2

    def test_each_half_knows_the_board(self, gpuhost: LabHost) -> None:
        for gpu in nvidia_gpus(scan(gpuhost)):
            assert gpu["board"] == ["0000:03:00.0", "0000:04:00.0"]

    def test_one_vm_takes_both_each_at_a_root_port(self, gpuhost: LabHost) -> None:
        first, second = (gpu["address"] for gpu in nvidia_gpus(scan(gpuhost)))
        options = f"--gpu {first} --gpu {second} --driver none"
        document = json.loads(gpuhost.run(f"vfio-kit plan {options} --json").stdout)
        places = {device["address"]: device["guest_address"] for device in document["devices"]}
        assert places == {first: "0000:01:00.0", second: "0000:02:00.0"}
        gpuhost.run(f"vfio-kit render {options} --output libvirt -o /tmp/both")
        xml = gpuhost.run("virt-xml-validate /tmp/both/domain.xml >&2 && cat /tmp/both/domain.xml")
        gpuhost.run("rm -r /tmp/both")
        assert xml.stdout.count("model='pcie-root-port'") == 2
        assert xml.stdout.count("<hostdev ") == 2
