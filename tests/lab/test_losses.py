"""What the host would lose with a GPU's group, and who holds a GPU: real storage, real routes."""

import pytest

from .conftest import LabHost
from .scanning import findings, nvidia_gpus, scan

pytestmark = pytest.mark.lab_long

DISK = "0000:02:02.0"
PART = "/dev/disk/by-id/virtio-LABSERIAL0001"
ELSEWHERE = "/dev/disk/by-id/virtio-LABSERIAL0002"

FILL = f"""set -e
sgdisk -n 1:0:+256M -n 2:0:+64M -n 3:0:+64M {PART} > /dev/null
udevadm settle
printf 'not a secret' > /root/acme.key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {PART}-part1 /root/acme.key
cryptsetup open --key-file /root/acme.key {PART}-part1 acme-crypt
vgcreate -qq acme-vg /dev/mapper/acme-crypt
lvcreate -qq -n acme-books -L 64M acme-vg
mkfs.ext4 -q /dev/acme-vg/acme-books
mkdir -p /var/lib/postgresql && mount /dev/acme-vg/acme-books /var/lib/postgresql
mdadm -q --create /dev/md/acme --run --assume-clean --metadata=1.2 --level=1 --raid-devices=2 \\
  {PART}-part2 {ELSEWHERE}
mkfs.ext4 -q /dev/md/acme
mkdir -p /srv/acme && mount /dev/md/acme /srv/acme
mkswap {PART}-part3 > /dev/null && swapon {PART}-part3
udevadm settle
"""
"""LVM on encryption, half of a mirror, and swap: all on the disk in the GPU's group."""

LET_GO = f"""
swapoff {PART}-part3
umount /srv/acme; mdadm -q --stop /dev/md/acme
umount /var/lib/postgresql; vgchange -qq -an acme-vg; cryptsetup close acme-crypt
rmdir /srv/acme /var/lib/postgresql; rm /root/acme.key
mdadm -q --zero-superblock {PART}-part2 {ELSEWHERE}
wipefs -qa {PART}-part1 {PART}-part3; sgdisk -Z {PART} > /dev/null
udevadm settle
"""


def losses(host: LabHost) -> list[str]:
    """The codes of all that would be lost with NVIDIA's GPUs."""
    found = [found for gpu in nvidia_gpus(scan(host)) for found in gpu["findings"]]
    return [one["code"] for one in found if one["code"].startswith("VK4")]


def chain(host: LabHost, device: str) -> list[str]:
    """What a block device rests on by lsblk, from the disk up: `name type`, without the disk."""
    lines = host.run(f"lsblk -snro KNAME,TYPE {device}").stdout.splitlines()
    return [line for line in lines if not line.endswith(" disk")][::-1]


@pytest.mark.topology("m4000-shared-with-disk")
class TestADiskInTheGroup:
    """The tests build on each other: the disk is empty, in use, and empty again."""

    def test_an_empty_disk_is_in_the_way_and_no_loss(self, gpuhost: LabHost) -> None:
        assert losses(gpuhost) == []
        (gpu,) = nvidia_gpus(scan(gpuhost))
        assert [device["address"] for device in gpu["foreign_endpoints"]] == [DISK]

    def test_filesystem_on_lvm_on_encryption(self, gpuhost: LabHost) -> None:
        gpuhost.run(FILL, timeout=300)
        (found,) = findings(nvidia_gpus(scan(gpuhost)), "VK401")
        partition, crypt, lvm = chain(gpuhost, "/dev/acme-vg/acme-books")
        assert (found["level"], found["device"]) == ("block", DISK)
        assert "/var/lib/postgresql" in found["message"]
        assert partition.endswith(" part")
        assert f"{partition.split()[0]}, {_named(crypt)}, {_named(lvm)}" in found["message"]

    def test_half_of_a_mirror(self, gpuhost: LabHost) -> None:
        """The host would go on with the other half, on a disk elsewhere."""
        (found,) = findings(nvidia_gpus(scan(gpuhost)), "VK401")
        array = gpuhost.run("basename $(readlink -f /dev/md/acme)").stdout.strip()
        assert f"{array} (raid1, 1 of 2)" in found["message"]
        assert f"{array} loses 1 of 2 members and lives on" in found["message"]

    def test_swap(self, gpuhost: LabHost) -> None:
        (found,) = findings(nvidia_gpus(scan(gpuhost)), "VK402")
        partition = gpuhost.run(f"basename $(readlink -f {PART}-part3)").stdout.strip()
        assert (found["level"], found["device"]) == ("block", DISK)
        assert partition in found["message"]

    def test_the_owners_names_are_not_told(self, gpuhost: LabHost) -> None:
        for options in ("--json", "", "--tree"):
            said = gpuhost.run(f"vfio-kit scan {options}", check=False)
            assert "acme" not in said.stdout + said.stderr

    def test_an_ordinary_user_sees_the_same_losses(self, gpuhost: LabHost) -> None:
        mine, roots = (nvidia_gpus(scan(gpuhost, user)) for user in ("tester", "root"))
        for code in ("VK401", "VK402"):
            assert findings(mine, code) == findings(roots, code)

    def test_nothing_is_lost_once_it_is_let_go(self, gpuhost: LabHost) -> None:
        gpuhost.run(LET_GO, timeout=300)
        assert losses(gpuhost) == []


def _named(line: str) -> str:
    """A line of lsblk's in scan's words: `dm-0 crypt` becomes `dm-0 (crypt)`."""
    name, kind = line.split()
    return f"{name} ({kind})"


@pytest.mark.topology("m4000-shared-with-nic")
class TestANicInTheGroup:
    NIC = "0000:02:02.0"

    def interface(self, host: LabHost) -> str:
        return host.run(f"ls /sys/bus/pci/devices/{self.NIC}/net").stdout.strip()

    def test_a_nic_with_an_address_and_no_more_is_no_loss(self, gpuhost: LabHost) -> None:
        """This session is an SSH session, by the management NIC, which no GPU's group holds."""
        assert "10.9.9." in gpuhost.run(f"ip -br addr show {self.interface(gpuhost)}").stdout
        assert gpuhost.run("echo $SSH_CONNECTION").stdout.split()
        assert losses(gpuhost) == []

    def test_default_route(self, gpuhost: LabHost) -> None:
        interface = self.interface(gpuhost)
        gpuhost.run(f"ip route add default via 10.9.9.2 dev {interface}")
        try:
            (found,) = findings(nvidia_gpus(scan(gpuhost)), "VK403")
        finally:
            gpuhost.run(f"ip route del default via 10.9.9.2 dev {interface}")
        assert (found["level"], found["device"]) == ("block", self.NIC)
        assert interface in found["message"]
        assert losses(gpuhost) == []

    def test_default_route_over_a_vlan_on_a_bond(self, gpuhost: LabHost) -> None:
        interface = self.interface(gpuhost)
        gpuhost.run(
            f"set -e; ip link add bond9 type bond mode active-backup; ip link set {interface} down;"
            f"ip link set {interface} master bond9; ip link set bond9 up;"
            "ip link add link bond9 name bond9.7 type vlan id 7; ip link set bond9.7 up;"
            "ip addr add 10.9.7.15/24 dev bond9.7; ip route add default via 10.9.7.2 dev bond9.7"
        )
        try:
            (found,) = findings(nvidia_gpus(scan(gpuhost)), "VK403")
        finally:
            gpuhost.run(
                f"ip link del bond9.7; ip link del bond9; ip link set {interface} up;"
                f"networkctl reload; networkctl reconfigure {interface};"
                # The address comes back by DHCP.
                f"timeout 60 sh -c 'until ip -4 -br addr show {interface} | grep -q 10.9.9; do "
                "sleep 0.2; done'"
            )
        assert f"bond9.7, through {interface}, bond9 (bond, 1 of 1)" in found["message"]
        assert losses(gpuhost) == []

    def test_a_session_by_that_nic(self, gpuhost: LabHost) -> None:
        """With the variable that sshd would set, and the host's real routes."""
        ours = gpuhost.run(f"ip -4 -br addr show {self.interface(gpuhost)}").stdout.split()[2]
        variable = f"SSH_CONNECTION='10.9.9.2 50000 {ours.partition('/')[0]} 22'"
        said = gpuhost.run(f"{variable} vfio-kit scan", check=False).stdout
        assert "VK404" in said
        assert "VK404" not in gpuhost.run("vfio-kit scan", check=False).stdout


@pytest.mark.topology("m4000-isolated")
class TestAProcessThatHoldsTheDisplay:
    DISPLAY = "0000:00:02.0"
    OPEN = "setsid sleep 3600 < /dev/dri/card0 > /dev/null 2>&1 & echo $!"

    def held(self, host: LabHost) -> list[str]:
        gpus = [gpu for gpu in scan(host)["gpus"] if gpu["address"] == self.DISPLAY]
        assert gpus
        return [found["message"] for found in findings(gpus, "VK310")]

    def test_it_is_named_until_it_ends(self, gpuhost: LabHost) -> None:
        assert self.held(gpuhost) == []
        pid = gpuhost.run(self.OPEN).stdout.strip()
        try:
            (message,) = self.held(gpuhost)
        finally:
            gpuhost.run(f"kill {pid}")
        for word in ("sleep", f"PID {pid}", "/dev/dri/card0"):
            assert word in message
        assert self.held(gpuhost) == []
        assert nvidia_gpus(scan(gpuhost))[0]["can_go"]


@pytest.mark.topology("m4000-isolated")
def test_a_card_that_has_fallen_off_the_bus_cannot_go(gpuhost: LabHost) -> None:
    """The kernel lists it as before, D0 and all; it answers nothing."""
    gpuhost.fault("gpu", on=True)
    try:
        (gpu,) = nvidia_gpus(scan(gpuhost))
    finally:
        gpuhost.fault("gpu", on=False)
    (found,) = findings([gpu], "VK315")
    assert "0xff" in found["message"] and not gpu["can_go"]
    assert nvidia_gpus(scan(gpuhost))[0]["can_go"]
