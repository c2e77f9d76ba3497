"""Every topology of the lab: what its real kernel shows, and what vfio-kit makes of it."""

import json
from typing import Any

import pytest

from .conftest import LabHost
from .product import installed_on
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

GPUS = {
    "m4000-isolated": {"0000:01:00.0": ("isolated", [])},
    "m4000-shared-with-nic": {"0000:02:01.0": ("shared", ["VK101"])},
    "k80-pair": {"0000:03:00.0": ("isolated", []), "0000:04:00.0": ("isolated", [])},
    "no-iommu": {"0000:01:00.0": ("no-iommu", ["VK201"])},
    "iommu-off": {"0000:01:00.0": ("no-iommu", ["VK201"])},
    "boot-display": {"0000:01:00.0": ("isolated", ["VK301"])},
}
"""By topology and address: the verdict that scan must give, and the codes of its findings."""


@pytest.fixture
def gpuhost(host: LabHost) -> LabHost:
    """The host with vfio-kit installed from wheels alone; installed once a boot."""
    installed_on(host)
    return host


def scan(host: LabHost) -> list[dict[str, Any]]:
    """What vfio-kit says of NVIDIA's GPUs; the exit status must fit to it."""
    done = host.run("vfio-kit scan --json", check=False)
    gpus = json.loads(done.stdout)["gpus"]
    able = any(gpu["can_go"] for gpu in gpus)
    assert done.returncode == (0 if able else 3), done.stderr
    return [gpu for gpu in gpus if gpu["vendor_id"] == "10de"]


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
    gpus = scan(gpuhost)
    found = {gpu["address"]: (gpu["verdict"], codes(gpu)) for gpu in gpus}
    assert found == GPUS[name]
    for gpu in gpus:
        slot = gpu["address"].rpartition(".")[0]
        functions = [seen.address for seen in gpuhost.topology.seen if seen.address[:-2] == slot]
        assert gpu["functions"] == functions


def codes(gpu: dict[str, Any]) -> list[str]:
    """The codes of what was found, each once."""
    return sorted({finding["code"] for finding in gpu["findings"]})


@pytest.mark.lab_long
@pytest.mark.topology("m4000-shared-with-nic")
def test_shared_names_the_nic_and_not_the_bridge(gpuhost: LabHost) -> None:
    (gpu,) = scan(gpuhost)
    (nic,) = gpu["foreign_endpoints"]
    interface = gpuhost.run(f"ls /sys/bus/pci/devices/{nic['address']}/net").stdout.split()
    assert (nic["class"], nic["driver"], nic["interfaces"]) == ("0200", "e1000", interface)
    (finding,) = gpu["findings"]
    assert finding["device"] == nic["address"]
    assert all(word in finding["message"] for word in (nic["address"], "e1000", *interface))
    assert gpu["bridges"]


@pytest.mark.lab_long
@pytest.mark.topology("no-iommu")
def test_no_iommu_says_what_to_switch_on(gpuhost: LabHost) -> None:
    """The kernel is told to use one, and firmware has none: the set-up comes first."""
    ((finding,),) = (gpu["findings"] for gpu in scan(gpuhost))
    assert "firmware announces none" in finding["message"]
    assert "firmware set-up" in finding["hint"]


@pytest.mark.lab_long
@pytest.mark.topology("iommu-off")
def test_iommu_off_names_the_parameter(gpuhost: LabHost) -> None:
    ((finding,),) = (gpu["findings"] for gpu in scan(gpuhost))
    assert "intel_iommu=off" in finding["message"]
    assert "remove intel_iommu=off" in finding["hint"]


@pytest.mark.lab_long
@pytest.mark.topology("k80-pair")
class TestBothHalvesOfAK80:
    def test_two_3d_controllers_in_groups_of_their_own(self, gpuhost: LabHost) -> None:
        gpus = scan(gpuhost)
        assert [gpu["class"] for gpu in gpus] == ["0302", "0302"]
        assert len({gpu["iommu_group"] for gpu in gpus}) == 2

    def test_one_vm_takes_both_each_at_a_root_port(self, gpuhost: LabHost) -> None:
        first, second = (gpu["address"] for gpu in scan(gpuhost))
        options = f"--gpu {first} --gpu {second} --driver none"
        document = json.loads(gpuhost.run(f"vfio-kit plan {options} --json").stdout)
        places = {device["address"]: device["guest_address"] for device in document["devices"]}
        assert places == {first: "0000:01:00.0", second: "0000:02:00.0"}
        gpuhost.run(f"vfio-kit render {options} --output libvirt -o /tmp/both")
        xml = gpuhost.run("virt-xml-validate /tmp/both/domain.xml >&2 && cat /tmp/both/domain.xml")
        gpuhost.run("rm -r /tmp/both")
        assert xml.stdout.count("model='pcie-root-port'") == 2
        assert xml.stdout.count("<hostdev ") == 2
