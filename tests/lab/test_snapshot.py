"""A snapshot of a real kernel: the host itself in all that is judged, and nothing of its owner."""

import base64
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import LabHost
from .product import CHECKOUT
from .scanning import scan
from .test_losses import FILL, LET_GO

pytestmark = pytest.mark.lab_long

FILE = "/tmp/snapshot.tar.gz"
JSON = "vfio-kit scan --json"
NIC = "/sys/bus/pci/devices/0000:04:00.0"

IDENTITIES = r"""
cat /sys/class/net/*/address | grep -v 00:00:00:00:00:00
ip -br addr | grep -oE '[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f:]+::[0-9a-f:]+'
hostname; cat /etc/machine-id
lsblk -dnro SERIAL; lsblk -nro UUID; lsblk -nro PARTUUID; lsblk -nro LABEL | grep -v UEFI
findmnt -nro SOURCE /; findmnt -nro UUID /
cat /sys/class/dmi/id/product_uuid /sys/class/dmi/id/*serial 2>/dev/null
awk -F: '$3 >= 1000 && $3 < 60000 {print $1}' /etc/passwd
dmsetup ls 2>/dev/null | awk '/^[a-z]/ && !/^No devices/ {print $1}'
"""
"""Shell: whatever tells this host, its disks and its users from others; a line each."""


def identities(host: LabHost) -> set[str]:
    lines = {line.strip() for line in host.run(IDENTITIES).stdout.splitlines()}
    return {line for line in lines if len(line) > 3 and line not in ("127.0.0.1", "::1")}


def spellings(identity: str) -> Iterator[bytes]:
    """A value as text in any case, a MAC and an IPv4 address also as the kernel writes them."""
    yield identity.lower().encode()
    if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", identity):
        octets = bytes.fromhex(identity.replace(":", ""))
        # In a PCIe serial number the MAC is split by ff:ff or ff:fe; its last half is its own.
        yield from (octets, octets[::-1], octets.hex().encode(), octets[3:][::-1] + b"\xff")
    if re.fullmatch(r"[0-9.]+", identity):
        yield bytes(map(int, identity.split(".")))[::-1].hex().encode()


def contents(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """Each member: its name, and in lower case its name, where it links to, and what is in it."""
    with tarfile.open(tarball) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            data = file.read() if file else b""
            yield member.name, f"{member.name}\n{member.linkname}\n".encode().lower() + data.lower()


def taken(host: LabHost, tmp_path: Path) -> Path:
    """A snapshot taken as root, brought here."""
    host.run(f"rm -f {FILE}; vfio-kit snapshot -o {FILE}")
    host.get(FILE, tmp_path / "snapshot.tar.gz")
    return tmp_path / "snapshot.tar.gz"


def same_everywhere(host: LabHost, tarball: Path) -> None:
    """The host, its snapshot there by root and by a user, and its snapshot here: byte for byte."""
    live = host.run(JSON, check=False)
    for user in ("root", "tester"):
        replayed = host.run(f"{JSON} --from {FILE}", check=False, user=user)
        assert (replayed.returncode, replayed.stdout) == (live.returncode, live.stdout), user
    argv = [sys.executable, "-m", "vfio_kit", "scan", "--json", "--from", str(tarball)]
    here = subprocess.run(argv, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert (here.returncode, here.stdout) == (live.returncode, live.stdout)


def tells_nothing(host: LabHost, tarball: Path) -> None:
    private = identities(host)
    assert len(private) > 8
    told = [
        (identity, name)
        for name, content in contents(tarball)
        for identity in private
        if any(spelling in content for spelling in spellings(identity))
    ]
    assert told == []


@pytest.mark.topology("m4000-shared-with-disk")
class TestOfAHostWithVolumesAndArrays:
    @pytest.fixture
    def filled(self, gpuhost: LabHost) -> Iterator[LabHost]:
        gpuhost.run(FILL, timeout=300)
        yield gpuhost
        gpuhost.run(LET_GO, timeout=300)

    def test_same_verdict_and_nothing_private(self, filled: LabHost, tmp_path: Path) -> None:
        tarball = taken(filled, tmp_path)
        assert {"LABSERIAL0001", "acme--vg-acme--books", "gpuhost", "tester"} <= identities(filled)
        tells_nothing(filled, tarball)
        assert not [name for name, content in contents(tarball) if b"acme" in content]
        same_everywhere(filled, tarball)


@pytest.mark.topology("port-without-acs")
class TestOfAHostWithASerialNumberInConfigSpace:
    """QEMU's e1000e has its MAC address in the serial number of its PCIe capabilities, as real."""

    def test_same_verdict_and_nothing_private(self, gpuhost: LabHost, tmp_path: Path) -> None:
        config = base64.b64decode(gpuhost.run(f"base64 {NIC}/config").stdout)
        mac = gpuhost.run(f"cat {NIC}/net/*/address").stdout.strip()
        assert any(spelling in config for spelling in spellings(mac))
        tarball = taken(gpuhost, tmp_path)
        kept = [data for name, data in contents(tarball) if name.endswith("04:00.0/config")]
        assert [len(data) > len(config) for data in kept] == [True]
        tells_nothing(gpuhost, tarball)
        same_everywhere(gpuhost, tarball)

    def test_an_ordinary_user_is_told_what_he_could_not_see(self, gpuhost: LabHost) -> None:
        said = {found["code"]: found for found in scan(gpuhost, "tester")["findings"]}
        assert "not run as root" in said["VK502"]["message"]
        table = gpuhost.run("vfio-kit scan", check=False, user="tester")
        assert table.returncode == 3
        assert "VK502" in table.stdout
        assert "Traceback" not in table.stderr

    def test_his_snapshot_is_his_scan(self, gpuhost: LabHost) -> None:
        command = f"vfio-kit snapshot -o ~/s.tgz && {JSON} --from ~/s.tgz; rm ~/s.tgz"
        replayed = gpuhost.run(command, check=False, user="tester")
        live = gpuhost.run(JSON, check=False, user="tester")
        assert json.loads(replayed.stdout) == json.loads(live.stdout)
