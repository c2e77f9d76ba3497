"""Reading a machine: sysfs is a tree of files, and not every file is as it should be."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.machines import (
    E1000,
    K80,
    M4000,
    ROOT_PORT,
    Config,
    Function,
    Machine,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from tests.unit.values import at
from vfio_kit.errors import HostError
from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import read_host, read_tree
from vfio_kit.host.tree import LIMIT, Tree
from vfio_kit.model import Host, ReadProblem

GPU = "sys/bus/pci/devices/0000:01:00.0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_machine(tmp_path, m4000_isolated())


def problems(host: Host) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in host.problems]


def test_a_machine_is_read_whole(tree: Path) -> None:
    host = read_host(tree)
    gpu = host.device(at("01:00.0"))
    audio = host.device(at("01:00.1"))
    display = host.device(at("00:02.0"))
    port = host.device(at("00:01.0"))
    assert gpu and audio and display and port
    assert (gpu.ids, gpu.class_code, gpu.driver, gpu.iommu_group) == ("10de:13f1", 0x30000, None, 6)
    assert (gpu.subsystem_vendor_id, gpu.subsystem_device_id) == (0x10DE, 0x1153)
    assert (gpu.boot_vga, display.boot_vga) == (False, True)
    assert (gpu.reset_methods, audio.reset_methods) == (("bus",), None)
    assert (audio.driver, display.driver) == ("snd_hda_intel", "bochs-drm")
    assert gpu.numa_node is None
    assert (port.driver, gpu.upstream) == ("pcieport", (port.address,))
    assert [str(device.address) for device in host.gpus()] == ["0000:00:02.0", "0000:01:00.0"]
    assert host.iommu_groups[6] == (at("01:00.0"), at("01:00.1"))
    assert host.iommus == ("dmar0",)
    assert host.cmdline == ""  # "root=/dev/vda1 ro" concerns nobody
    assert host.cpu_vendor == "GenuineIntel"
    assert host.acpi_tables == {"APIC", "DMAR", "FACP"}
    assert host.kernel_release == "6.12.0-amd64"
    assert host.machine == "x86_64"
    assert host.problems == ()


def test_group_numbers_need_not_be_contiguous_and_sort_as_numbers(tmp_path: Path) -> None:
    functions = [
        Function(f"0000:{bus:02x}:00.0", K80, group)
        for bus, group in enumerate((117, 9, 42, 100, 0), start=1)
    ]
    host = read_host(write_machine(tmp_path, Machine(tuple(functions))))
    assert list(host.iommu_groups) == [0, 9, 42, 100, 117]
    assert host.iommu_groups[117] == (at("01:00.0"),)


def test_the_halves_of_a_k80_are_two_gpus(tmp_path: Path) -> None:
    host = read_host(write_machine(tmp_path, k80_pair()))
    assert [(str(g.address), g.iommu_group, g.pci_class) for g in host.gpus()] == [
        ("0000:03:00.0", 17, "0302"),
        ("0000:04:00.0", 42, "0302"),
    ]


def test_devices_come_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    # As text, 10000: sorts before ffff:.
    functions = tuple(
        Function(address, K80) for address in ("10000:01:00.0", "ffff:01:00.0", "0000:0a:00.0")
    )
    host = read_host(write_machine(tmp_path, Machine(functions)))
    assert [str(d.address) for d in host.devices] == [
        "0000:0a:00.0",
        "ffff:01:00.0",
        "10000:01:00.0",
    ]


def test_network_interfaces_and_numa_nodes_are_read(tmp_path: Path) -> None:
    nic = Function("0000:02:00.0", E1000, 1, "igb", interfaces=("enp2s0f1", "enp2s0"), numa_node=1)
    far = Function("0000:03:00.0", E1000, 2, "igb", interfaces=("enp3s0",), numa_node=1)
    gpu = Function("0000:01:00.0", M4000, 1)
    machine = write_machine(tmp_path, Machine((gpu, nic, far)))
    _, found, unread = read_host(machine).devices
    assert (found.interfaces, found.numa_node) == (("enp2s0", "enp2s0f1"), 1)
    # Only what shares a group with a GPU is looked at closely.
    assert (unread.driver, unread.interfaces, unread.numa_node) == ("igb", (), None)


def test_what_a_machine_may_tell_of_its_command_line(tmp_path: Path) -> None:
    words = "root=UUID=1-2 intel_iommu=on,sm_on iommu=pt myiommu=1 vfio-pci.ids=10de:13f1 secret=x"
    host = read_host(write_machine(tmp_path, Machine((), cmdline=words)))
    assert host.cmdline == "intel_iommu=on,sm_on iommu=pt vfio-pci.ids=10de:13f1"


def test_an_empty_reset_method_is_not_a_missing_one(tmp_path: Path) -> None:
    functions = (
        Function("0000:01:00.0", K80, reset=""),
        Function("0000:02:00.0", K80, reset=None),
        Function("0000:03:00.0", K80, reset="flr bus"),
    )
    host = read_host(write_machine(tmp_path, Machine(functions)))
    assert [d.reset_methods for d in host.devices] == [(), None, ("flr", "bus")]


def test_the_members_of_a_group_that_are_no_pci_functions_are_left_alone(tree: Path) -> None:
    (tree / "sys/kernel/iommu_groups/6/devices/LNXSYSTM:x").symlink_to("/nowhere")
    (tree / "sys/kernel/iommu_groups/6/devices/serial8250").symlink_to("/nowhere")
    host = read_host(tree)
    assert host.iommu_groups[6] == (at("01:00.0"), at("01:00.1"))
    assert problems(host) == [
        ("/sys/kernel/iommu_groups/6/devices/LNXSYSTM:x", "not a PCI address")
    ]


def test_a_directory_that_is_no_group_is_no_group(tree: Path) -> None:
    (tree / "sys/kernel/iommu_groups/power").mkdir()
    assert sorted(read_host(tree).iommu_groups) == [0, 1, 2, 6]


class Order(Tree):
    """Remembers in which order files were read."""

    read: list[str]

    def data(self, name: str, limit: int = LIMIT, *, private: bool = False) -> bytes | None:
        self.read = [*getattr(self, "read", []), name.rpartition("/")[2]]
        return super().data(name, limit, private=private)


def test_no_device_is_woken_before_all_were_asked_how_they_sleep(tmp_path: Path) -> None:
    """Whoever reads a config space wakes the device, and with a port what is below it."""
    port, gpu = "0000:00:01.0", "0000:01:00.0"
    awake = Function(port, ROOT_PORT, 1, "pcieport", power_state="D0", config=Config(pcie_type=4))
    asleep = Function(gpu, M4000, 1, parent=port, power_state="D3cold", config=Config(pcie_type=1))
    tree = Order(write_machine(tmp_path, Machine((awake, asleep))))
    host = read_tree(tree)
    assert [(d.power_state, d.config is None) for d in host.devices] == [
        ("D0", False),
        ("D3cold", True),
    ]
    assert [name for name in tree.read if name in ("power_state", "config")] == [
        "power_state",
        "power_state",
        "config",
    ]


def test_a_group_that_vfio_made_up_is_none(tree: Path) -> None:
    """With enable_unsafe_noiommu_mode: there is no IOMMU behind it."""
    group = tree / "sys/kernel/iommu_groups/6"
    (tree / GPU / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    (group / "name").write_bytes(b"vfio-noiommu\n")
    host = read_host(tree)
    assert sorted(host.iommu_groups) == [0, 1, 2]
    assert [d.iommu_group for d in host.devices if d.address.bus == 1] == [None, None]
    (group / "name").write_bytes(b"another\n")
    assert sorted(read_host(tree).iommu_groups) == [0, 1, 2, 6]


def test_no_sysfs_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        read_host(tmp_path)
    assert str(tmp_path / "sys/bus/pci") in caught.value.message


def test_a_machine_without_any_pci_function_is_a_machine(tmp_path: Path) -> None:
    host = read_host(write_machine(tmp_path, Machine((), acpi=(), iommus=())))
    assert (host.devices, dict(host.iommu_groups), host.iommus) == ((), {}, ())


def test_what_only_explains_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    host = read_host(tmp_path)
    assert host == Host((), {})


@pytest.mark.parametrize(
    ("cpuinfo", "vendor"),
    [
        (b"processor\t: 0\nvendor_id\t: AuthenticAMD\n", "AuthenticAMD"),
        (b"processor\t: 0\nCPU implementer\t: 0x41\n", "0x41"),
        (b"nothing that is known\n", ""),
        (b"", ""),
    ],
)
def test_the_cpu_vendor(tree: Path, cpuinfo: bytes, vendor: str) -> None:
    (tree / "proc/cpuinfo").write_bytes(cpuinfo)
    assert read_host(tree).cpu_vendor == vendor


def test_the_architecture_of_a_tree_is_a_file_in_it(tree: Path) -> None:
    (tree / "proc/sys/kernel/arch").write_bytes(b"aarch64\n")
    assert read_host(tree).machine == "aarch64"


# What can be wrong with an attribute, and the words that a problem names it with.
BROKEN = {
    "empty": (b"", "holds '', not a number"),
    "binary": (b"\x80\xff\x00\x01", "not text"),
    "words": (b"not a number\n", "holds 'not a number', not a number"),
    "a megabyte": (b"0" * 1_000_000, "longer than 65536 bytes"),
}


@pytest.mark.parametrize("attribute", ["vendor", "device", "class"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_function_without_its_ids_is_left_out_and_named(
    tree: Path, attribute: str, broken: str
) -> None:
    data, reason = BROKEN[broken]
    (tree / GPU / attribute).write_bytes(data)
    host = read_host(tree)
    assert host.device(at("01:00.0")) is None
    assert host.device(at("01:00.1")) is not None
    assert problems(host) == [
        (f"/{GPU}/{attribute}", reason),
        (f"/{GPU}", "no vendor, device or class; left out"),
    ]


@pytest.mark.parametrize("attribute", ["vendor", "device", "class"])
def test_a_function_that_lacks_an_id_is_left_out_and_named(tree: Path, attribute: str) -> None:
    (tree / GPU / attribute).unlink()
    host = read_host(tree)
    assert host.device(at("01:00.0")) is None
    assert problems(host) == [(f"/{GPU}", "no vendor, device or class; left out")]


@pytest.mark.parametrize("attribute", ["numa_node", "subsystem_vendor", "subsystem_device"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_attribute_is_named_and_the_function_stays(
    tree: Path, attribute: str, broken: str
) -> None:
    data, reason = BROKEN[broken]
    (tree / GPU / attribute).write_bytes(data)
    host = read_host(tree)
    gpu = host.device(at("01:00.0"))
    assert gpu is not None
    fields = {
        "numa_node": gpu.numa_node,
        "subsystem_vendor": gpu.subsystem_vendor_id,
        "subsystem_device": gpu.subsystem_device_id,
    }
    assert fields[attribute] is None
    assert problems(host) == [(f"/{GPU}/{attribute}", reason)]


def test_a_decimal_attribute_takes_no_hex_digits(tree: Path) -> None:
    (tree / GPU / "numa_node").write_bytes(b"45a\n")
    assert problems(read_host(tree)) == [(f"/{GPU}/numa_node", "holds '45a', not a number")]


@pytest.mark.parametrize(
    "attribute", ["numa_node", "subsystem_vendor", "subsystem_device", "reset_method", "boot_vga"]
)
def test_a_missing_attribute_is_no_problem(tree: Path, attribute: str) -> None:
    (tree / GPU / attribute).unlink()
    host = read_host(tree)
    assert host.device(at("01:00.0")) is not None
    assert host.problems == ()


@pytest.mark.parametrize(
    "attribute", ["vendor", "class", "numa_node", "reset_method", "subsystem_vendor", "boot_vga"]
)
def test_a_directory_in_the_place_of_a_file_is_named(tree: Path, attribute: str) -> None:
    (tree / GPU / attribute).unlink()
    (tree / GPU / attribute).mkdir()
    assert (f"/{GPU}/{attribute}", "Is a directory") in problems(read_host(tree))


@pytest.mark.parametrize("path", ["proc/cmdline", "proc/cpuinfo", "proc/sys/kernel/osrelease"])
@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * 5_000_000], ids=["binary", "5 megabytes"])
def test_a_broken_file_of_procfs_is_named(tree: Path, path: str, data: bytes) -> None:
    (tree / path).write_bytes(data)
    assert [problem.path for problem in read_host(tree).problems] == [f"/{path}"]


def test_a_link_that_leads_to_itself_is_named(tree: Path) -> None:
    (tree / GPU / "numa_node").unlink()
    (tree / GPU / "numa_node").symlink_to("numa_node")
    ((path, reason),) = problems(read_host(tree))
    assert path == f"/{GPU}/numa_node"
    assert "symbolic links" in reason


def test_a_function_whose_link_dangles_is_named(tree: Path) -> None:
    (tree / "sys/bus/pci/devices/0000:09:00.0").symlink_to("../../../devices/gone")
    host = read_host(tree)
    assert host.device(at("09:00.0")) is None
    assert problems(host) == [
        ("/sys/bus/pci/devices/0000:09:00.0", "no vendor, device or class; left out")
    ]


def test_the_name_of_a_driver_is_read_off_a_link_that_dangles(tree: Path) -> None:
    (tree / GPU / "driver").symlink_to("../../../bus/pci/drivers/nouveau")
    gpu = read_host(tree).device(at("01:00.0"))
    assert gpu is not None and gpu.driver == "nouveau"


@pytest.mark.parametrize("name", ["driver", "iommu_group"])
def test_a_file_in_the_place_of_a_link_is_named(tree: Path, name: str) -> None:
    link = tree / GPU / name
    link.unlink(missing_ok=True)
    link.write_bytes(b"6")
    host = read_host(tree)
    gpu = host.device(at("01:00.0"))
    assert gpu is not None
    assert {"driver": gpu.driver, "iommu_group": gpu.iommu_group}[name] is None
    assert problems(host) == [(f"/{GPU}/{name}", "Invalid argument")]


def test_an_iommu_group_that_is_no_number_is_named(tree: Path) -> None:
    (tree / GPU / "iommu_group").unlink()
    (tree / GPU / "iommu_group").symlink_to("../../../kernel/iommu_groups/six")
    host = read_host(tree)
    gpu = host.device(at("01:00.0"))
    assert gpu is not None and gpu.iommu_group is None
    assert problems(host) == [(f"/{GPU}/iommu_group", "points to 'six', not to a group")]


def test_a_name_that_is_no_address_is_named(tree: Path) -> None:
    (tree / "sys/bus/pci/devices/not-an-address").mkdir()
    assert problems(read_host(tree)) == [
        ("/sys/bus/pci/devices/not-an-address", "not a PCI address")
    ]


def test_every_problem_is_a_path_and_a_reason(tree: Path) -> None:
    (tree / GPU / "vendor").write_bytes(b"")
    assert all(
        isinstance(problem, ReadProblem) and problem.path.startswith("/sys/") and problem.reason
        for problem in read_host(tree).problems
    )


PCI_IDS = """\
# a comment
10de  NVIDIA Corporation
\t0fbb  GM204 High Definition Audio Controller
\t13f1  GM204GL [Quadro M4000]
\t\t10de 1153  a subsystem, not a device
8086  Intel Corporation
\t100e  82540EM Gigabit Ethernet Controller
\tzzzz  not a number
C 03  Display controller
\t00  VGA compatible controller
"""


@pytest.mark.parametrize(
    "path", ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids"]
)
def test_names_come_from_the_trees_own_pci_ids(tmp_path: Path, path: str) -> None:
    machine = replace(m4000_shared(), files={path: PCI_IDS.encode()})
    root = write_machine(tmp_path, machine)
    host = read_host(root, name_lookup(root))
    names = {str(device.address): device.name for device in host.devices}
    assert names == {
        # Outside the GPU's slot and groups nobody asks for a name.
        "0000:00:01.0": None,
        "0000:01:00.0": None,
        "0000:02:01.0": "GM204GL [Quadro M4000]",
        "0000:02:01.1": "GM204 High Definition Audio Controller",
        "0000:02:02.0": "82540EM Gigabit Ethernet Controller",
    }


def test_the_shipped_table_names_the_cards_where_there_is_no_pci_ids(tmp_path: Path) -> None:
    root = write_machine(tmp_path, k80_pair())
    host = read_host(root, name_lookup(root))
    assert {gpu.name for gpu in host.gpus()} == {"GK210GL [Tesla K80]"}


def test_a_card_that_nobody_knows_has_no_name(tmp_path: Path) -> None:
    machine = Machine((Function("0000:01:00.0", ("1234", "5678", "030000")),))
    root = write_machine(tmp_path, machine)
    (gpu,) = read_host(root, name_lookup(root)).devices
    assert gpu.name is None


def test_a_pci_ids_in_another_encoding_is_no_obstacle(tmp_path: Path) -> None:
    data = b"10de  NVIDIA \xff\xfe\n\t13f1  GM204GL [Quadro M4000] \xe9\n"
    functions = (Function("0000:01:00.0", M4000, 1), Function("0000:00:01.0", ROOT_PORT, 0))
    machine = Machine(functions, files={"usr/share/misc/pci.ids": data})
    root = write_machine(tmp_path, machine)
    gpu = read_host(root, name_lookup(root)).device(at("01:00.0"))
    assert gpu is not None and gpu.name is not None
    assert gpu.name.startswith("GM204GL [Quadro M4000]")


@pytest.mark.parametrize("size", [64, 256, 4096])
def test_a_card_whose_config_space_is_all_ones_does_not_answer(tree: Path, size: int) -> None:
    (tree / GPU / "config").write_bytes(b"\xff" * size)
    gpu = read_host(tree).device(at("01:00.0"))
    assert gpu and gpu.silent and gpu.config is None
