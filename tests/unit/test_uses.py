"""What the host does with its devices: from mounts, routes and inputs down to PCI functions."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hosts.files import link, put
from tests.machines import (
    E1000,
    ROOT_PORT,
    Block,
    Function,
    Input,
    Machine,
    Mount,
    VirtualInterface,
    write_machine,
)
from vfio_kit.host.framebuffer import read_framebuffers
from vfio_kit.host.public import public_block, public_interface, public_path
from vfio_kit.host.read import read_host
from vfio_kit.host.tree import Tree
from vfio_kit.host.uses import read_uses
from vfio_kit.host.uses.mounts import unescaped
from vfio_kit.host.uses.stack import function_above
from vfio_kit.model import Framebuffer, PciAddress, Use, UseKind

NVME = ("144d", "a808", "010802")
SATA = ("8086", "a352", "010601")
XHCI = ("8086", "a36d", "0c0330")
A, B, PORT = "0000:03:00.0", "0000:04:00.0", "0000:00:1c.0"
UUID = "11111111-2222-3333-4444-555555555555"


def two_disks() -> tuple[Function, ...]:
    return (
        Function(PORT, ROOT_PORT, 1, parent=None),
        Function(A, NVME, 2, "nvme", parent=PORT),
        Function(B, SATA, 3, "ahci", parent=PORT),
    )


def disk(name: str, number: str, function: str = A) -> Block:
    return Block(name, number, function=function)


def part(name: str, number: str, of: str) -> Block:
    return Block(name, number, partition_of=of)


def ext4(point: str, number: str, source: str = "/dev/x") -> Mount:
    return Mount(point, "ext4", source, number)


def uses(root: Path, machine: Machine | None = None) -> list[str]:
    """Each use as a line: address, kind, what, what lies between."""
    if machine is not None:
        write_machine(root, machine)
    tree = Tree(root)
    found = read_uses(tree)
    assert [p for p in tree.problems if "udev" not in p.path] == []
    return [said(use) for use in found]


def said(use: Use) -> str:
    return " ".join(
        (str(use.device), use.kind.value, use.what, "<", ", ".join(use.through))
    ).strip()


def machine_with(*blocks: Block, mounts: tuple[Mount, ...] = (), **fields: Any) -> Machine:
    return Machine(two_disks(), blocks=blocks, mounts=mounts, **fields)


# Storage


def test_a_partition_is_on_the_controller_of_its_disk(tmp_path: Path) -> None:
    machine = machine_with(
        disk("nvme0n1", "259:0"),
        part("nvme0n1p3", "259:3", "nvme0n1"),
        mounts=(ext4("/", "259:3"),),
    )
    assert uses(tmp_path, machine) == [f"{A} mount / < nvme0n1p3"]


def test_encryption_and_volumes_are_followed_down_and_told_without_their_names(
    tmp_path: Path,
) -> None:
    machine = machine_with(
        disk("nvme0n1", "259:0"),
        part("nvme0n1p1", "259:1", "nvme0n1"),
        part("nvme0n1p3", "259:3", "nvme0n1"),
        Block("dm-0", "254:0", slaves=("nvme0n1p3",), dm=("luks-secret", "CRYPT-LUKS2-abc-x")),
        Block("dm-1", "254:1", slaves=("dm-0",), dm=("acme-root", "LVM-acme")),
        Block("dm-2", "254:2", slaves=("dm-0",), dm=("acme-swap", "LVM-acme")),
        mounts=(ext4("/", "254:1", "/dev/mapper/acme-root"), ext4("/boot/efi", "259:1")),
        swaps=("dm-2",),
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < nvme0n1p3, dm-0 (crypt), dm-1 (lvm)",
        f"{A} mount /boot/efi < nvme0n1p1",
        f"{A} swap dm-2 < nvme0n1p3, dm-0 (crypt), dm-2 (lvm)",
    ]


@pytest.mark.parametrize(
    ("uuid", "words"),
    [
        ("mpath-3600508", "dm-0 (multipath)"),
        ("part1-mpath-3600508", "dm-0 (partition)"),
        ("stratis-1-private", "dm-0 (stratis)"),
        ("ACME-private", "dm-0 (mapped)"),
        ("", "dm-0 (mapped)"),
    ],
)
def test_a_mapped_device_is_told_by_its_type_alone(tmp_path: Path, uuid: str, words: str) -> None:
    machine = machine_with(
        disk("sda", "8:0", B),
        Block("dm-0", "254:0", slaves=("sda",), dm=("customer", uuid)),
        mounts=(ext4("/", "254:0"),),
    )
    assert uses(tmp_path, machine) == [f"{B} mount / < sda, {words}"]


def array(level: str, *members: tuple[str, str], files: Mapping[str, str] = {}) -> Machine:
    disks = [disk(name, f"8:{16 * n}", at) for n, (name, at) in enumerate(members)]
    names = tuple(name for name, _ in members)
    md = Block("md0", "9:0", slaves=names, md_level=level)
    folder = "sys/devices/virtual/block/md0/md"
    return machine_with(
        *disks,
        md,
        mounts=(ext4("/srv", "9:0"),),
        files={f"{folder}/{name}": text.encode() for name, text in files.items()},
    )


def test_a_mirror_says_how_many_members_each_controller_has(tmp_path: Path) -> None:
    machine = array("raid1", ("sda", A), ("sdb", B), ("sdc", B))
    assert uses(tmp_path, machine) == [
        f"{A} mount /srv < sda, md0 (raid1, 1 of 3)",
        f"{B} mount /srv < sdb, sdc, md0 (raid1, 2 of 3)",
    ]


def test_a_spare_counts_for_nothing(tmp_path: Path) -> None:
    root = write_machine(tmp_path, array("raid1", ("sda", A), ("sdb", A), ("sdc", B)))
    folder = root / "sys/devices/virtual/block/md0/md"
    for slot, name in enumerate(("sda", "sdb")):
        (folder / f"dev-{name}").mkdir()
        link(folder / f"rd{slot}", folder / f"dev-{name}")
    assert uses(root) == [
        f"{A} mount /srv < sda, sdb, md0 (raid1, 2 of 2)",
        f"{B} mount /srv < sdc, md0 (raid1, a spare)",
    ]


@pytest.mark.parametrize(
    ("level", "degraded", "words"),
    [
        ("raid1", "1", "md0 (raid1, degraded)"),
        ("raid1", "0", "md0 (raid1, 1 of 2)"),
        ("raid0", "0", "md0 (raid0)"),
        ("linear", "0", "md0 (linear)"),
        ("some\x1bthing", "0", "md0 (md)"),
    ],
)
def test_an_array_without_redundancy_has_no_members_to_lose(
    tmp_path: Path, level: str, degraded: str, words: str
) -> None:
    machine = array(level, ("sda", A), ("sdb", A), files={"degraded": degraded})
    (line,) = uses(tmp_path, machine)
    assert line.endswith(words.replace("1 of 2", "2 of 2"))


def test_a_partition_of_an_array_and_a_named_array(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", B),
        Block("md_acme", "9:0", slaves=("sda",), md_level="raid0"),
        part("md_acmep1", "259:9", "md_acme"),
        mounts=(ext4("/", "259:9"),),
    )
    assert uses(tmp_path, machine) == [f"{B} mount / < sda, md_… (raid0), md_…"]


def test_a_btrfs_is_on_all_its_devices(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", A),
        disk("sdb", "8:16", B),
        disk("sdc", "8:32", B),
        mounts=(
            Mount("/", "btrfs", "/dev/sda", "0:25"),
            Mount("/home", "btrfs", "/dev/sda", "0:26"),
            Mount("/opt", "btrfs", "/dev/sdc", "0:27"),
        ),
        btrfs={UUID: ("sda", "sdb"), UUID.replace("1", "7"): ("sdc",)},
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < sda, a btrfs of 2 devices",
        f"{A} mount /home < sda, a btrfs of 2 devices",
        f"{B} mount / < sdb, a btrfs of 2 devices",
        f"{B} mount /home < sdb, a btrfs of 2 devices",
        f"{B} mount /opt < sdc",
    ]


@pytest.mark.parametrize(
    ("source", "btrfs", "lines"),
    [
        ("/dev/root", {UUID: ("sda",)}, [f"{A} mount / < sda"]),
        ("/dev/root", {}, []),
        ("/dev/sda", {}, [f"{A} mount / < sda"]),
        ("/dev/mapper/acme", {UUID: ("dm-0",)}, [f"{A} mount / < sda, dm-0 (crypt)"]),
        ("/dev/mapper/other", {UUID: ("dm-0",)}, [f"{A} mount / < sda, dm-0 (crypt)"]),
    ],
)
def test_the_device_of_a_btrfs_by_other_names(
    tmp_path: Path, source: str, btrfs: dict[str, tuple[str, ...]], lines: list[str]
) -> None:
    machine = machine_with(
        disk("sda", "8:0"),
        Block("dm-0", "254:0", slaves=("sda",), dm=("acme", "CRYPT-LUKS2-x")),
        mounts=(Mount("/", "btrfs", source, "0:25"),),
        btrfs=btrfs,
    )
    assert uses(tmp_path, machine) == lines


def test_a_path_in_dev_that_is_a_link(tmp_path: Path) -> None:
    root = write_machine(
        tmp_path,
        machine_with(
            disk("sda", "8:0"),
            mounts=(Mount("/", "btrfs", "/dev/disk/by-label/acme", "0:25"),),
        ),
    )
    (root / "dev/disk/by-label").mkdir(parents=True)
    label = root / "dev/disk/by-label/acme"
    label.symlink_to("../../sda")
    assert uses(root) == [f"{A} mount / < sda"]
    label.unlink()
    put(label, "no link")
    tree = Tree(root)
    assert read_uses(tree) == ()
    assert [problem.path for problem in tree.problems] == ["/dev/…"]


def test_a_bcachefs_names_its_devices_itself(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", A),
        disk("sdb", "8:16", B),
        mounts=(Mount("/", "bcachefs", "/dev/sda:/dev/sdb", "0:25"),),
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < sda, a bcachefs of 2 devices",
        f"{B} mount / < sdb, a bcachefs of 2 devices",
    ]


def udev(label: str, kind: str = "zfs_member") -> bytes:
    return f"S:disk/by-id/serial\nE:ID_FS_TYPE={kind}\nE:ID_FS_LABEL={label}\n".encode()


def test_a_zfs_is_on_the_members_of_its_pool(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", A),
        disk("sdb", "8:16", B),
        disk("sdc", "8:32", B),
        mounts=(Mount("/", "zfs", "tank/ROOT/debian", "0:25"),),
        files={
            "run/udev/data/b8:0": udev("tank"),
            "run/udev/data/b8:16": udev("tank"),
            "run/udev/data/b8:32": udev("backup"),
            "run/udev/data/b8:48": udev("tank"),
            "run/udev/data/b8:64": udev("tank", "ext4"),
            "run/udev/data/c13:64": b"E:ID_FS_TYPE=zfs_member",
        },
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < sda, a ZFS pool of 2 devices",
        f"{B} mount / < sdb, a ZFS pool of 2 devices",
    ]


def test_a_zfs_whose_members_nobody_knows_is_said(tmp_path: Path) -> None:
    machine = machine_with(mounts=(Mount("/", "zfs", "acme", "0:25"),))
    tree = Tree(write_machine(tmp_path, machine))
    assert read_uses(tree) == ()
    (problem,) = tree.problems
    assert problem.path == "/run/udev/data" and "ZFS is mounted" in problem.reason


def test_a_volume_of_a_zfs_pool(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", A),
        Block("zd0", "230:0"),
        swaps=("zd0",),
        files={"run/udev/data/b8:0": udev("tank")},
    )
    assert uses(tmp_path, machine) == [f"{A} swap zd0 < sda"]


def test_bcache_has_slaves_too(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0", B),
        disk("nvme0n1", "259:0", A),
        Block("bcache0", "252:0", slaves=("nvme0n1", "sda")),
        mounts=(ext4("/", "252:0"),),
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < nvme0n1, bcache0",
        f"{B} mount / < sda, bcache0",
    ]


def test_a_loop_device_is_on_the_file_system_of_its_file(tmp_path: Path) -> None:
    backing = "sys/devices/virtual/block/loop{}/loop/backing_file"
    machine = machine_with(
        disk("sda", "8:0"),
        *(Block(f"loop{n}", f"7:{n}") for n in range(5)),
        part("loop1p1", "259:7", "loop1"),
        mounts=(
            ext4("/", "8:0"),
            Mount("/snap/core/1", "squashfs", "/dev/loop0", "7:0"),
            Mount("/mnt/a", "squashfs", "/dev/loop1p1", "259:7"),
            Mount("/run/live/medium", "squashfs", "/dev/loop2", "7:2"),
            Mount("/tmp/x", "squashfs", "/dev/loop3", "7:3"),
            Mount("/opt", "squashfs", "/dev/loop4", "7:4"),
        ),
        files={
            backing.format(0): b"/var/lib/snapd/snaps/core.snap\n",
            backing.format(1): b"/srv/acme.img (deleted)\n",
            backing.format(2): b"/run/live/medium/own.img\n",  # nonsense, and no endless loop
            backing.format(4): b"relative.img\n",
        },
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < sda",
        f"{A} mount /mnt/… < sda, loop1, loop1p1",
        f"{A} mount /snap/… < sda, loop0",
    ]


def test_an_overlay_is_on_the_file_system_of_its_upper_layer(tmp_path: Path) -> None:
    number = "31 1 0:60 / {} rw - overlay overlay rw,{}"
    lines = (
        "29 1 8:0 / /media rw - ext4 /dev/sda rw",
        number.format("/", "lowerdir=/media/a:/b,upperdir=/media/u,workdir=/media/w"),
        number.format("/opt", "lowerdir=/media/a:/b"),
        number.format("/srv", "lowerdir=/elsewhere"),
        number.format("/mnt", "nothing=of,use"),
    )
    machine = machine_with(
        disk("sda", "8:0"), files={"proc/self/mountinfo": "\n".join(lines).encode()}
    )
    assert uses(tmp_path, machine) == [
        f"{A} mount / < sda, overlay",
        f"{A} mount /media < sda",
        f"{A} mount /opt < sda, overlay",
        f"{A} mount /srv < sda, overlay",
    ]


@pytest.mark.parametrize(
    ("path", "what"), [("/swapfile", "/swapfile"), (r"/home/me\040too/swap", "/home/…")]
)
def test_a_swap_file_is_on_its_file_system(tmp_path: Path, path: str, what: str) -> None:
    machine = machine_with(
        disk("sda", "8:0"),
        mounts=(ext4("/", "8:0"),),
        files={"proc/swaps": f"Filename Type\n{path} file 1 0 -2\nbroken\n".encode()},
    )
    assert uses(tmp_path, machine) == [f"{A} mount / < sda", f"{A} swap {what} < sda"]


def test_compressed_memory_is_on_nothing(tmp_path: Path) -> None:
    assert uses(tmp_path, machine_with(Block("zram0", "253:0"), swaps=("zram0",))) == []


def test_nvme_multipath_is_on_all_its_controllers(tmp_path: Path) -> None:
    machine = machine_with(
        Block("nvme0n1", "259:0", function=A, multipath=True),
        part("nvme0n1p1", "259:1", "nvme0n1"),
        mounts=(ext4("/", "259:1"),),
    )
    assert uses(tmp_path, machine) == [f"{A} mount / < nvme0, nvme0n1, nvme0n1p1"]


def network_machine(*functions: Function, **fields: Any) -> Machine:
    nics = (
        Function(A, E1000, 2, "e1000", interfaces=("eth0",)),
        Function(B, E1000, 3, "e1000", interfaces=("eth1",)),
    )
    return Machine((*nics, *functions), **fields)


def test_a_disk_across_the_network_is_on_the_interface_that_leads_there(tmp_path: Path) -> None:
    machine = network_machine(default_route="eth0")
    root = write_machine(tmp_path, machine)
    session = root / "sys/devices/platform/host3/session1/target3:0:0/3:0:0:0/block/sda"
    put(session / "size", "1")
    link(root / "sys/class/block/sda", session)
    link(root / "sys/dev/block/8:0", session)
    address = "sys/class/iscsi_connection/connection1:0/persistent_address"
    put(root / address, "203.0.113.9")
    fabric = root / "sys/devices/virtual/nvme-fabrics/ctl/nvme0"
    put(fabric / "address", "traddr=192.0.2.77,trsvcid=4420")
    put(fabric / "nvme0n1/size", "1")
    link(root / "sys/class/nvme/nvme0", fabric)
    link(root / "sys/class/block/nvme0n1", fabric / "nvme0n1")
    link(root / "sys/dev/block/259:0", fabric / "nvme0n1")
    lines = (
        "29 1 8:0 / / rw - ext4 /dev/sda rw",
        "30 1 259:0 / /srv rw - ext4 /dev/nvme0n1 rw",
        "31 1 0:50 / /home rw - nfs4 nas.acme.example:/home rw,addr=192.0.2.9,clientaddr=192.0.2.2",
        "32 1 0:51 / /opt rw - nfs4 localhost:/opt rw,addr=127.0.0.1",
        "33 1 0:52 / /mnt rw - cifs //nas/mnt rw,addr=not-an-address",
        "34 1 0:53 / /usr rw - nfs nas:/usr rw",
    )
    put(root / "proc/self/mountinfo", "\n".join(lines))
    assert uses(root) == [
        f"{A} default-route eth0 <",
        f"{A} mount / < eth0, iSCSI, sda",
        f"{A} mount /home < eth0, nfs4",
        f"{A} mount /srv < eth0, NVMe over Fabrics, nvme0n1",
    ]
    put(fabric / "address", "nothing")
    put(root / address, "")
    assert [line for line in uses(root) if "nfs" not in line] == [f"{A} default-route eth0 <"]


def test_a_disk_on_usb_is_on_the_usb_controller(tmp_path: Path) -> None:
    root = write_machine(tmp_path, machine_with(mounts=(ext4("/media/me/stick", "8:0"),)))
    folder = root / f"sys/devices/pci0000:00/{PORT}/{A}/usb2/2-1/2-1:1.0/host6/block/sdx"
    put(folder / "size", "1")
    link(root / "sys/dev/block/8:0", folder)
    link(root / "sys/class/block/sdx", folder)
    assert uses(root) == [f"{A} mount /media/… < sdx"]


def test_a_disk_without_a_pci_function_is_nobodys(tmp_path: Path) -> None:
    machine = machine_with(Block("mmcblk0", "179:0"), mounts=(ext4("/", "179:0"),))
    assert uses(tmp_path, machine) == []


def test_what_init_sees_counts_as_well_as_what_we_see(tmp_path: Path) -> None:
    machine = machine_with(
        disk("sda", "8:0"),
        mounts=(ext4("/", "8:0"),),
        files={"proc/1/mountinfo": b"9 1 8:0 / /boot rw - ext4 /dev/sda rw\n"},
    )
    assert uses(tmp_path, machine) == [f"{A} mount / < sda", f"{A} mount /boot < sda"]


def test_lines_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    lines = (
        b"",
        b"29",
        b"29 1 8:0 / / rw ext4 /dev/sda rw",
        b"29 1 8:0 / / rw - ext4",
        b"29 1 77:0 / /boot rw - ext4 /dev/gone rw",
        b"29 1 8:0 / /home/\xff\xfe\\000 rw shared:1 master:2 - ext4 /dev/sda rw",
        b"29 1 0:5 / /dev rw - devtmpfs udev rw",
    )
    machine = machine_with(disk("sda", "8:0"), files={"proc/self/mountinfo": b"\n".join(lines)})
    assert uses(tmp_path, machine) == [f"{A} mount /home/… < sda"]


def test_slaves_in_a_circle_and_slaves_without_end(tmp_path: Path) -> None:
    root = write_machine(
        tmp_path,
        machine_with(
            disk("sda", "8:0"),
            Block("dm-0", "254:0", slaves=("sda",)),
            *(Block(f"dm-{n}", f"254:{n}", slaves=(f"dm-{n - 1}",)) for n in range(1, 200)),
            mounts=(ext4("/", "254:5"), ext4("/srv", "254:199")),
        ),
    )
    folder = root / "sys/devices/virtual/block"
    link(folder / "dm-0/slaves/dm-5", folder / "dm-5")
    (line,) = uses(root)
    assert line.startswith(f"{A} mount / < sda, dm-0 (mapped), dm-1 (mapped)")


@pytest.mark.unit_long
def test_an_array_of_thousands_is_read_in_no_time_and_told_in_few_words(tmp_path: Path) -> None:
    names = tuple(f"sd{n}" for n in range(4000))
    folder = tmp_path / "sys/devices/virtual/block/md0"
    for name in names:
        put(folder / "slaves" / name, "")
        link(tmp_path / "sys/class/block" / name, tmp_path / f"sys/devices/{A}/block/{name}")
    put(folder / "md/level", "raid6")
    link(tmp_path / "sys/class/block/md0", folder)
    link(tmp_path / "sys/dev/block/9:0", folder)
    put(tmp_path / "proc/self/mountinfo", "9 1 9:0 / /srv rw - xfs /dev/md0 rw")
    begin = time.perf_counter()
    (line,) = uses(tmp_path)
    assert time.perf_counter() - begin < 2
    assert line.endswith("sd1003, …, md0 (raid6, 4000 of 4000)")
    assert len(line) < 120


def test_thousands_of_mounts_of_one_file_system_are_one(tmp_path: Path) -> None:
    mounts = tuple(ext4(f"/var/lib/kubelet/pods/{n}/etc-hosts", "8:0") for n in range(5000))
    machine = machine_with(disk("sda", "8:0"), mounts=mounts)
    begin = time.perf_counter()
    assert uses(tmp_path, machine) == [f"{A} mount /var/lib/kubelet/… < sda"]
    assert time.perf_counter() - begin < 2


# Network


def test_the_default_route_is_on_its_interface(tmp_path: Path) -> None:
    machine = network_machine(default_route="eth0")
    assert uses(tmp_path, machine) == [f"{A} default-route eth0 <"]


def test_bridges_bonds_and_vlans_are_followed_down(tmp_path: Path) -> None:
    machine = network_machine(
        virtual_interfaces=(
            VirtualInterface("bond0", "bond", ("eth0", "eth1")),
            VirtualInterface("bond0.7", "vlan", ("bond0",)),
            VirtualInterface("br0", "bridge", ("bond0.7",)),
        ),
        default_route="br0",
    )
    assert uses(tmp_path, machine) == [
        f"{A} default-route br0 < eth0, bond0 (bond, 1 of 2), bond0.7",
        f"{B} default-route br0 < eth1, bond0 (bond, 1 of 2), bond0.7",
    ]


def test_a_port_of_open_vswitch_reaches_the_uplinks_of_its_datapath(tmp_path: Path) -> None:
    root = write_machine(tmp_path, network_machine(default_route="ovsbr0"))
    folder = root / "sys/devices/virtual/net"
    for name, links in {
        "ovsbr0": ("upper_ovs-system",),
        "ovs-system": ("lower_eth0", "lower_ovsbr0"),
    }.items():
        for one in links:
            put(folder / name / one, "")
        link(root / "sys/class/net" / name, folder / name)
    assert uses(root) == [f"{A} default-route ovsbr0 < eth0, ovs-system"]


def ipv6_route(network: str, length: int, interface: str, flags: int) -> str:
    return f"{network} {length:02x} {'0' * 32} 00 {'0' * 32} 00000400 1 0 {flags:08x} {interface}"


def test_the_default_route_of_ipv6_and_routes_that_reject(tmp_path: Path) -> None:
    rows = (
        ipv6_route("0" * 32, 0, "eth1", 3),
        ipv6_route("0" * 32, 0, "lo", 0x200200),
        ipv6_route("0" * 32, 0, "eth0", 0x201),
        ipv6_route("0" * 32, 0, "eth0", 2),
        ipv6_route("fd" + "0" * 30, 64, "eth0", 1),
        ipv6_route("fd" + "0" * 30, 255, "eth0", 1),
        ipv6_route("-1", 0, "eth0", 1),
        "short row",
    )
    head = "Iface\tDestination\n"
    route = (
        "eth0 00000000 00000000 0200 0 0 0 00000000\neth0 zz 0 1 0 0 0 0\neth0 1\n"
        "eth0 00000000 00000000 0002 0 0 0 00000000\neth0 123456789 0 1 0 0 0 0\n"
    )
    files = {
        "proc/net/ipv6_route": "\n".join(rows).encode(),
        "proc/net/route": (head + route).encode(),
    }
    assert uses(tmp_path, network_machine(files=files)) == [f"{B} default-route eth1 <"]


def test_a_virtual_function_goes_with_its_physical_function(tmp_path: Path) -> None:
    virtual = Function("0000:03:10.0", E1000, 4, "iavf", interfaces=("eth9",), physfn=A)
    machine = network_machine(virtual, default_route="eth9")
    assert uses(tmp_path, machine) == [
        f"{A} default-route eth9 < virtual function 0000:03:10.0",
        f"0000:03:10.0 default-route eth9 < virtual function of {A}",
    ]


def test_a_mac_address_in_a_name_is_not_told(tmp_path: Path) -> None:
    nic = Function(A, E1000, 2, "e1000", interfaces=("enx001122334455",))
    machine = Machine((nic,), default_route="enx001122334455")
    assert uses(tmp_path, machine) == [f"{A} default-route enx… <"]


# The SSH session

ROUTES = (
    "Iface\tDestination\tGateway\tFlags\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n"  # default
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"  # 192.0.2.0/24
    "eth1\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"  # 198.51.100.0/24
    "eth1\t000071CB\t016433C6\t0003\t0\t0\t0\t0000FFFF\n"  # 203.113.0.0/16 by a gateway
)


def session(server: str, **fields: Any) -> Machine:
    files = {
        "proc/net/route": ROUTES.encode(),
        "proc/self/environ": b"TERM=xterm\0SSH_CONNECTION=192.0.2.50 40022 %s 22\0"
        % server.encode(),
        "proc/net/if_inet6": (
            f"fd{'0' * 29}2 02 40 00 80     eth1\nfe80{'0' * 27}1 02 40 20 80     eth1\n"
            f"{'0' * 31}1 01 80 10 80       lo\nshort\n"
        ).encode(),
    }
    return network_machine(files=files, **fields)


def sessions(root: Path, machine: Machine | None = None) -> list[str]:
    return [line for line in uses(root, machine) if "ssh-session" in line]


@pytest.mark.parametrize(
    ("server", "lines"),
    [
        ("198.51.100.2", [f"{B} ssh-session eth1 <"]),
        ("::ffff:198.51.100.2", [f"{B} ssh-session eth1 <"]),
        ("192.0.2.2", [f"{A} ssh-session eth0 <"]),
        # In no connected network, as an address on the loopback: by the default route.
        ("203.113.0.1", [f"{A} ssh-session eth0 <"]),
        ("fd00::2", [f"{B} ssh-session eth1 <"]),
        ("fd00::99", [f"{A} ssh-session eth0 <"]),
        ("fe80::1%eth1", [f"{B} ssh-session eth1 <"]),
        ("127.0.0.1", []),
        ("::1", []),
        ("nonsense", []),
        ("fe80::1%../../x", []),
        ("192.0.2.2 more", []),
    ],
)
def test_a_session_is_on_the_interface_that_has_the_servers_address(
    tmp_path: Path, server: str, lines: list[str]
) -> None:
    assert sessions(tmp_path, session(server)) == lines


def test_sudo_hides_a_session_and_its_parents_know_it(tmp_path: Path) -> None:
    root = write_machine(tmp_path, session("198.51.100.2"))
    environment = (root / "proc/self/environ").read_bytes()
    put(root / "proc/self/environ", b"TERM=xterm\0")
    put(root / "proc/self/stat", b"903 (python) S 902 903 1\n")
    put(root / "proc/902/stat", b"902 (sudo) x) S 901 1\n")  # a name may hold anything
    put(root / "proc/901/environ", environment)
    assert sessions(root) == [f"{B} ssh-session eth1 <"]


@pytest.mark.parametrize("stat", [b"", b"902 (x", b"902 (x) S", b"902 (x) S 1 ", b"9 (x) S no no"])
def test_ancestors_end_where_they_make_no_sense(tmp_path: Path, stat: bytes) -> None:
    root = write_machine(tmp_path, session("198.51.100.2"))
    (root / "proc/self/environ").unlink()
    put(root / "proc/self/stat", stat)
    put(root / "proc/1/environ", b"SSH_CONNECTION=192.0.2.50 1 192.0.2.2 22")
    assert sessions(root) == []


def test_ancestors_in_a_circle_end(tmp_path: Path) -> None:
    root = write_machine(tmp_path, network_machine())
    put(root / "proc/self/stat", b"9 (x) S 9 9\n")
    put(root / "proc/9/stat", b"9 (x) S 9 9\n")
    assert sessions(root) == []


def test_a_session_in_a_tunnel_is_on_what_carries_the_tunnel(tmp_path: Path) -> None:
    machine = session("10.9.0.1")
    root = write_machine(tmp_path, machine)
    put(root / "proc/net/route", ROUTES + "wg0\t0000090A\t0\t0001\t0\t0\t0\t00FFFFFF\n")
    link(root / "sys/class/net/wg0", root / "sys/devices/virtual/net/wg0")
    put(root / "sys/devices/virtual/net/wg0/type", "65534")
    # Routes by a gateway lead out of both NICs, and nothing says which of them the tunnel takes.
    assert sessions(root) == [
        f"{A} ssh-session wg0 < eth0",
        f"{B} ssh-session wg0 < eth1",
    ]
    put(root / "sys/devices/virtual/net/wg0/type", "1")  # a bridge for guests: nothing is below
    assert sessions(root) == []


# Keyboards


def usb(address: str, *inputs: Input) -> Function:
    return Function(address, XHCI, 5, "xhci_hcd", inputs=inputs)


KEYBOARD = Input("Logitech USB Keyboard", 3)
OTHER = Input("Cherry GmbH CHERRY Corded Device", 4)
MOUSE = Input("Logitech USB Optical Mouse", 5, keyboard=False)
BMC = Input("American Megatrends Inc. Virtual Keyboard and Mouse", 6)


@pytest.mark.parametrize(
    ("machine", "lines"),
    [
        (Machine((usb(A, KEYBOARD, MOUSE),)), [f"{A} keyboard the only keyboard <"]),
        (Machine((usb(A, KEYBOARD, OTHER),)), [f"{A} keyboard the only keyboard <"]),
        (Machine((usb(A, KEYBOARD), usb(B, OTHER))), []),
        (Machine((usb(A, KEYBOARD), usb(B, MOUSE))), [f"{A} keyboard the only keyboard <"]),
        (Machine((usb(A, KEYBOARD),), ps2_keyboard=True), []),
        (Machine((), ps2_keyboard=True), []),
        (Machine((usb(A, MOUSE),)), []),
        (Machine((usb(A, KEYBOARD), usb(B, BMC))), [f"{A} keyboard the only keyboard <"]),
        (Machine((usb(B, BMC),)), [f"{B} keyboard the only keyboard (the BMC's) <"]),
        (Machine((usb(A, Input("Yubico YubiKey OTP+FIDO+CCID", 9)),)), []),
    ],
)
def test_the_only_keyboard(tmp_path: Path, machine: Machine, lines: list[str]) -> None:
    assert uses(tmp_path, machine) == lines


def test_keyboards_of_programs_and_radios_do_not_count(tmp_path: Path) -> None:
    root = write_machine(tmp_path, Machine((usb(A, KEYBOARD),)))
    real = root / "sys/class/input/input3"
    for number, (folder, bus) in enumerate(
        (("virtual/input", "0003"), (f"pci0000:00/{B}/usb1/bluetooth", "0005")), 20
    ):
        made = root / "sys/devices" / folder / f"input{number}"
        for name in ("capabilities/ev", "capabilities/key"):
            put(made / name, (real / name).read_text())
        put(made / "id/bustype", bus)
        link(root / "sys/class/input" / made.name, made)
    assert uses(root) == [f"{A} keyboard the only keyboard <"]


@pytest.mark.parametrize(
    ("events", "keys", "counts"),
    [
        ("120013", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe", True),
        ("120013", "fffffffe", True),  # words of 32 bits
        ("13", "fffffffffffffffe", False),  # nothing repeats
        ("100001", "fffffffffffffffe", False),  # no keys at all
        ("120013", "fffe000000000000 0", False),
        ("120013", "", False),
        ("3", "10000000000000 0", False),  # a power button
    ],
)
def test_a_keyboard_has_letters_and_they_repeat(
    tmp_path: Path, events: str, keys: str, counts: bool
) -> None:
    root = write_machine(tmp_path, Machine((usb(A, KEYBOARD),)))
    put(root / "sys/class/input/input3/capabilities/ev", events)
    put(root / "sys/class/input/input3/capabilities/key", keys)
    assert bool(uses(root)) is counts


def test_capabilities_that_are_no_bitmap_are_noted(tmp_path: Path) -> None:
    root = write_machine(tmp_path, Machine((usb(A, KEYBOARD),)))
    put(root / "sys/class/input/input3/capabilities/ev", "what\there")
    tree = Tree(root)
    assert read_uses(tree) == ()
    (problem,) = tree.problems
    assert problem.path.endswith("input3/capabilities/ev") and "not a bitmap" in problem.reason


# The text in a snapshot


def everything(root: Path) -> Path:
    """A machine whose every name is its owner's secret."""
    root = write_machine(
        root,
        network_machine(
            Function("0000:05:00.0", NVME, 6),
            Function("0000:06:00.0", XHCI, 7, inputs=(KEYBOARD,)),
            blocks=(
                disk("nvme0n1", "259:0", "0000:05:00.0"),
                Block("dm-0", "254:0", slaves=("nvme0n1",), dm=("secret-vg", "LVM-secret")),
                Block("md_secret", "9:0", slaves=("dm-0",), md_level="raid1"),
            ),
            mounts=(
                ext4("/", "9:0", "/dev/mapper/secret-vg"),
                ext4("/home/secret", "9:0"),
                ext4("/secret/secret", "9:0"),
                Mount("/srv", "btrfs", "/dev/mapper/secret", "0:30"),
                Mount("/opt", "zfs", "secret/secret", "0:31"),
            ),
            btrfs={UUID: ("dm-0",)},
            default_route="eth0",
        ),
    )
    put(root / "proc/swaps", "Filename\n/home/secret/swap file 1 0 -2\n/dev/secret partition 1\n")
    put(root / "proc/self/environ", "SSH_CONNECTION=192.0.2.50 4 192.0.2.2 22")
    return root


def extracts(root: Path) -> dict[str, str]:
    """What a snapshot would keep."""
    kept: dict[str, str] = {}

    class Recording(Tree):
        def extract(self, name: str, compute: Callable[[], str | None]) -> str | None:
            text = super().extract(name, compute)
            kept[name] = text or ""
            return text

    read_uses(Recording(root))
    return kept


def test_a_snapshot_gives_the_same_uses_and_problems_and_no_secret(tmp_path: Path) -> None:
    live = Tree(everything(tmp_path / "live"))
    found = read_uses(live)
    kept = extracts(tmp_path / "live")
    for name, text in kept.items():
        put(tmp_path / "kept/extracts" / name, text)
    snapshot = Tree(tmp_path / "kept")
    assert read_uses(snapshot) == found
    assert snapshot.problems == live.problems != []
    assert {use.kind for use in found} == set(UseKind)
    everything_kept = "\n".join(kept.values()) + repr(found) + repr(live.problems)
    for secret in ("secret", UUID, "192.0.2", "LVM-"):
        assert secret not in everything_kept
    assert len(kept) == 4


@pytest.mark.parametrize(
    "line",
    [
        "0000:01:00.0\tmount",
        "0000:01:00.0\tmagic\t/",
        "nowhere\tmount\t/",
        "!\ttoo few",
        "x",
    ],
)
def test_a_line_that_makes_no_sense_is_noted(tmp_path: Path, line: str) -> None:
    put(tmp_path / "extracts/uses-storage", f"{line}\n0000:02:00.0\tmount\t/|/boot\tsda")
    tree = Tree(tmp_path)
    assert [said(use) for use in read_uses(tree)] == [
        "0000:02:00.0 mount / < sda",
        "0000:02:00.0 mount /boot < sda",
    ] or line.startswith("!")
    assert len(tree.problems) == 1


def test_more_uses_than_are_kept_are_said(tmp_path: Path) -> None:
    functions = [f"{bus:04x}:{device:02x}:00.0" for bus in range(5) for device in range(256)]
    for number, function in enumerate(functions):
        folder = tmp_path / f"sys/devices/pci0000:00/{function}/block/sd{number}"
        link(tmp_path / f"sys/class/block/sd{number}", folder)
        put(tmp_path / f"sys/devices/virtual/block/dm-0/slaves/sd{number}", "")
    link(tmp_path / "sys/class/block/dm-0", tmp_path / "sys/devices/virtual/block/dm-0")
    link(tmp_path / "sys/dev/block/254:0", tmp_path / "sys/devices/virtual/block/dm-0")
    put(tmp_path / "proc/self/mountinfo", "9 1 254:0 / / rw - xfs /dev/dm-0 rw")
    tree = Tree(tmp_path)
    assert 500 < len(read_uses(tree)) < len(functions)
    assert [problem.reason for problem in tree.problems] == ["more is in use than is kept"]


@given(st.binary(max_size=300), st.sampled_from(range(6)))
def test_no_content_of_any_file_is_fatal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, which: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = ("self/mountinfo", "swaps", "net/route", "net/ipv6_route", "self/environ", "self/stat")
    head = (b"29 1 8:0 / ", b"x\n", b"x\n", b"", b"SSH_CONNECTION=", b"1 (")
    put(root / "proc" / names[which], head[which] + data)
    read_uses(Tree(root))


# Names that may be told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/", "/"),
        ("", "/"),
        ("/boot/efi", "/boot/efi"),
        ("//boot//efi/", "/boot/efi"),
        ("/var/lib/libvirt/images", "/var/lib/libvirt/images"),
        ("/var/lib/libvirt/images/acme", "/var/lib/libvirt/images/…"),
        ("/home/alice", "/home/…"),
        ("/run/media/alice/stick", "/run/media/…"),
        ("/run/user/1000/doc", "/run/user/…"),
        ("/acme/data", "/…"),
        ("/mnt/home", "/mnt/…"),
        ("/varlib", "/…"),
    ],
)
def test_a_mount_point_is_told_up_to_its_last_well_known_folder(path: str, told: str) -> None:
    assert public_path(path) == told


@given(st.text(max_size=40))
def test_nothing_unknown_of_a_path_is_told(path: str) -> None:
    told = public_path(f"/home/{path}")
    assert told in ("/home", "/home/…")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("enx001122334455", "enx…"),
        ("wlx001122aabbcc", "wlx…"),
        ("enp3s0", "enp3s0"),
        ("enX0", "enX0"),
        ("br0\x1b", "br…"),
        ("wg-alice", "wg…"),
        ("customer", "…"),
        ("bond0.100", "bond0.100"),
        ("br-0a1b2c3d4e5f", "br-0a1b2c3d4e5f"),
    ],
)
def test_an_interface_is_told_without_its_mac_address(name: str, told: str) -> None:
    assert public_interface(name) == told


def test_the_name_of_an_array_is_not_told() -> None:
    assert [public_block(name) for name in ("md0", "md127p1", "md_acme", "sda")] == [
        "md0",
        "md127p1",
        "md_…",
        "sda",
    ]


def test_interfaces_of_functions_are_told_the_same_way(tmp_path: Path) -> None:
    nic = Function("0000:01:00.1", E1000, 2, interfaces=("enx001122334455",))
    gpu = Function("0000:01:00.0", ("10de", "13f1", "030000"), 2)
    host = read_host(write_machine(tmp_path, Machine((gpu, nic))))
    assert [device.interfaces for device in host.devices] == [(), ("enx…",)]


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("../devices/pci0000:00/0000:00:02.0/virtio1/block/vda", "0000:00:02.0"),
        ("../devices/pci0000:00/0000:00:1c.0/0000:03:00.0/nvme/nvme0/nvme0n1", A),
        ("pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/x", "10000:e1:00.0"),
        ("0000:00:14.0/usb1/1-2/1-2:1.0/0003:046D:C31C.0001/input/input5", "0000:00:14.0"),
        ("../devices/pnp0/00:05/00:05:0.0/tty", None),
        ("0000:zz:00.0/x", None),
        ("../devices/virtual/block/dm-0", None),
        ("", None),
    ],
)
def test_the_nearest_function_above_a_device(path: str, address: str | None) -> None:
    found = function_above(path)
    assert found == (None if address is None else PciAddress.parse(address))


@pytest.mark.parametrize(
    ("text", "plain"), [(r"/a\040b", "/a b"), (r"\134040", r"\040"), (r"\999\04", r"\999\04")]
)
def test_octal_escapes(text: str, plain: str) -> None:
    assert unescaped(text) == plain


# The framebuffer


def test_framebuffers_are_found_in_iomem(tmp_path: Path) -> None:
    text = (
        "00000000-00000fff : Reserved\n"
        "80000000-ffffffff : PCI Bus 0000:00\n"
        "  c0000000-cfffffff : 0000:01:00.0\n"
        "    c0000000-c07e8fff : BOOTFB\n"
        "      c0000000-c07e8fff : simplefb\n"
        "  d0000000-d00fffff : simple-framebuffer.0\n"
        "  e0000000-e00fffff : efifb-like\n"
        "  f0000000-e0000000 : efifb\n"
        "nonsense : efifb\n"
    )
    put(tmp_path / "proc/iomem", text)
    assert read_framebuffers(Tree(tmp_path)) == (
        Framebuffer("BOOTFB", 0xC0000000, 0xC07E8FFF),
        Framebuffer("simplefb", 0xC0000000, 0xC07E8FFF),
        Framebuffer("simple-framebuffer.0", 0xD0000000, 0xD00FFFFF),
    )


@pytest.mark.parametrize("text", [None, "", "00000000-00000000 : BOOTFB\n"])
def test_who_is_not_root_sees_no_framebuffer(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        put(tmp_path / "proc/iomem", text)
    assert read_framebuffers(Tree(tmp_path)) == ()
