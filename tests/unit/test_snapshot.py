"""A snapshot is judged elsewhere as the machine is judged here, and tells no more than that."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machines import (
    E1000,
    K80,
    M4000,
    M4000_AUDIO,
    ROOT_PORT,
    Function,
    Machine,
    k80_pair,
    m4000_isolated,
    m4000_shared,
    write_machine,
)
from vfio_kit.analysis.isolation import host_findings, judge
from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import read_host
from vfio_kit.host.snapshot import take_snapshot

NO_IOMMU = Machine(
    (Function("0000:01:00.0", M4000), Function("0000:01:00.1", M4000_AUDIO)),
    cmdline="root=UUID=secret intel_iommu=off quiet",
)
MIXED = Machine(
    (
        Function("0000:00:01.0", ROOT_PORT, 1, "pcieport"),
        Function("10000:01:00.0", K80, 117, reset="", numa_node=1),
        Function("10000:02:00.0", E1000, 117, "igb", interfaces=("enp2s0",)),
        Function("0000:03:00.0", M4000, 9, "nouveau", boot_vga=True, reset=None),
    ),
    cmdline="BOOT_IMAGE=/vmlinuz root=UUID=secret pcie_acs_override=downstream",
    cpu="AuthenticAMD",
    acpi=("IVRS",),
    files={"usr/share/misc/pci.ids": b"10de  NVIDIA Corporation\n\t102d  GK210GL [Tesla K80]\n"},
)


def unpack(data: bytes, folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        # The links only look like sysfs: they lead nowhere, also for a careful tar.
        archive.extractall(folder, filter="tar")
    return folder


@pytest.mark.parametrize(
    "machine",
    [m4000_isolated, m4000_shared, k80_pair, lambda: NO_IOMMU, lambda: MIXED],
    ids=["isolated", "shared", "k80", "no iommu", "mixed"],
)
def test_what_is_judged_there_is_what_was_judged_here(
    tmp_path: Path, machine: Callable[[], Machine]
) -> None:
    here = write_machine(tmp_path / "here", machine())
    there = unpack(take_snapshot(here), tmp_path / "there")
    one, two = (read_host(root, name_lookup(root)) for root in (here, there))
    assert judge(two) == judge(one)
    assert replace(two, cmdline=one.cmdline) == one


def test_a_broken_attribute_does_not_keep_the_rest_from_being_packed(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    (here / "sys/bus/pci/devices/0000:01:00.1/class").write_bytes(b"\xff\xfe")
    there = unpack(take_snapshot(here), tmp_path / "there")
    one, two = (read_host(root, name_lookup(root)) for root in (here, there))
    assert two.devices == one.devices
    assert host_findings(one) and host_findings(two)


def test_the_same_machine_gives_the_same_bytes(tmp_path: Path) -> None:
    one = take_snapshot(write_machine(tmp_path / "one", MIXED))
    assert take_snapshot(write_machine(tmp_path / "two", MIXED)) == one


def test_a_snapshot_of_a_snapshot_is_the_same(tmp_path: Path) -> None:
    data = take_snapshot(write_machine(tmp_path / "here", MIXED))
    assert take_snapshot(unpack(data, tmp_path / "there")) == data


def test_what_concerns_nobody_is_left_out(tmp_path: Path) -> None:
    machine = replace(
        MIXED,
        files={
            "etc/hostname": b"secret-host\n",
            "proc/cpuinfo": b"processor\t: 0\nvendor_id\t: AuthenticAMD\nserial\t: secret\n",
            "sys/devices/pci0000:00/0000:03:00.0/vpd": b"secret serial",
            "sys/devices/pci0000:00/10000:02:00.0/net/enp2s0/address": b"52:54:00:00:00:01\n",
        },
    )
    root = write_machine(tmp_path / "here", machine)
    with tarfile.open(fileobj=io.BytesIO(take_snapshot(root)), mode="r:gz") as archive:
        texts = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive.getmembers()
            if member.isfile()
        }
    assert texts["proc/cmdline"] == b"pcie_acs_override=downstream\n"
    assert texts["proc/cpuinfo"] == b"vendor_id\t: AuthenticAMD\n"
    assert not [name for name, data in texts.items() if b"secret" in data or b"52:54" in data]
    assert not [name for name in texts if "hostname" in name or "vpd" in name]


def test_owners_and_times_are_nobodys(tmp_path: Path) -> None:
    data = take_snapshot(write_machine(tmp_path / "here", MIXED))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in archive.getmembers()} == {
            (0, 0, "", "", 0)
        }
        assert not [m.name for m in archive.getmembers() if m.name.startswith(("/", ".."))]
