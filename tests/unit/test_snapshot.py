"""A snapshot is judged elsewhere as the machine is judged here, and tells no more than that."""

import gzip
import io
import os
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
from tests.unit.test_cli import vfio_kit
from vfio_kit.analysis.isolation import host_findings
from vfio_kit.errors import HostError, UsageError
from vfio_kit.host.config_space import parse_config_space
from vfio_kit.host.machine import names_of, read_machine
from vfio_kit.host.snapshot import replay, take
from vfio_kit.host.snapshot.layout import MANIFEST, VERSION
from vfio_kit.host.snapshot.replay import SnapshotTree
from vfio_kit.host.snapshot.scrub import config_without_identity, nameless_path
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree

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
MACHINES = {
    "isolated": m4000_isolated,
    "shared": m4000_shared,
    "k80": k80_pair,
    "no iommu": lambda: NO_IOMMU,
    "mixed": lambda: MIXED,
}


def taken(root: Path) -> bytes:
    return take_snapshot(root, names_of(Tree(root)))


def packed(root: Path, file: Path) -> Path:
    file.write_bytes(taken(root))
    return file


def unpacked(data: bytes, folder: Path) -> Path:
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Debian 12's Python 3.11.2
            archive.extractall(folder)
    return folder


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_what_is_read_there_is_what_was_read_here(
    tmp_path: Path, machine: Callable[[], Machine]
) -> None:
    here = write_machine(tmp_path / "here", machine())
    file = packed(here, tmp_path / "s.tar.gz")
    one = read_machine(here)
    assert read_machine(file) == one
    assert read_machine(unpacked(file.read_bytes(), tmp_path / "there")) == one


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_scan_says_the_same_byte_for_byte(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    here = write_machine(tmp_path / "here", machine())
    file = packed(here, tmp_path / "s.tar.gz")
    one, two = (vfio_kit("scan", "--json", *o) for o in (("--root", here), ("--from", file)))
    assert one.stdout == two.stdout
    assert one.exit_code == two.exit_code
    assert '"gpus"' in one.stdout


def test_a_broken_attribute_is_named_there_as_here(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    (here / "sys/bus/pci/devices/0000:01:00.1/class").write_bytes(b"\xff\xfe")
    (here / "sys/bus/pci/devices/0000:01:00.0/numa_node").write_text("45a\n")
    (here / "sys/bus/pci/devices/0000:01:00.0/reset_method").write_text("x" * 2**20)
    there = packed(here, tmp_path / "s.tar.gz")
    one, two = read_machine(here), read_machine(there)
    assert two == one
    assert len(one.problems) == 4
    assert host_findings(one) == host_findings(two)


def test_the_same_machine_gives_the_same_bytes(tmp_path: Path) -> None:
    one = taken(write_machine(tmp_path / "one", MIXED))
    assert taken(write_machine(tmp_path / "two", MIXED)) == one


def test_a_snapshot_of_an_unpacked_snapshot_is_the_same(tmp_path: Path) -> None:
    data = taken(write_machine(tmp_path / "here", MIXED))
    assert taken(unpacked(data, tmp_path / "there")) == data


def test_what_concerns_nobody_is_left_out(tmp_path: Path) -> None:
    machine = replace(
        MIXED,
        files={
            "etc/hostname": b"secret-host\n",
            "proc/cpuinfo": b"processor\t: 0\nvendor_id\t: AuthenticAMD\nserial\t: secret\n",
            "sys/bus/pci/devices/0000:03:00.0/vpd": b"secret serial",
            "sys/bus/pci/devices/10000:02:00.0/net/enp2s0/address": b"52:54:00:00:00:01\n",
        },
    )
    root = write_machine(tmp_path / "here", machine)
    with tarfile.open(fileobj=io.BytesIO(taken(root)), mode="r:gz") as archive:
        texts = {
            member.name: stream.read()
            for member in archive.getmembers()
            if member.isfile() and (stream := archive.extractfile(member))
        }
    assert texts["extracts/cmdline"] == b"pcie_acs_override=downstream"
    assert b"AuthenticAMD" in texts["extracts/cpuinfo"]
    assert not [name for name, data in texts.items() if b"secret" in data or b"52:54" in data]
    assert not [name for name in texts if "hostname" in name or "vpd" in name]


def test_config_space_loses_its_serial_number_and_what_vendors_put_there() -> None:
    data = bytearray(0xEE for _ in range(4096))
    data[0x06:0x08] = (0x0010).to_bytes(2, "little")
    data[0x0E], data[0x34] = 0x00, 0x60
    data[0x60:0x64] = bytes([0x09, 0x78, 0x10, 0x99])  # vendor specific, then MSI
    data[0x78:0x7C] = bytes([0x05, 0x00, 0x80, 0x00])
    data[0x100:0x104] = (0x0003 | 1 << 16 | 0x148 << 20).to_bytes(4, "little")  # serial number
    data[0x148:0x150] = bytes([0x0D, 0, 1, 0, 0x1D, 0, 0x1D, 0])  # ACS, the last one
    kept = config_without_identity(bytes(data))
    assert len(kept) == 4096 and kept[:0x40] == data[:0x40]
    assert kept[0x60:0x64] == bytes([0x09, 0x78, 0, 0])
    assert kept[0x78:0x7C] == data[0x78:0x7C]
    assert kept[0x100:0x104] == data[0x100:0x104] and not any(kept[0x104:0x148])
    assert kept[0x148:0x150] == data[0x148:0x150]
    assert not any(kept[0x150:])


@pytest.mark.parametrize("size", [0, 3, 63, 64, 65, 255, 256, 257, 300, 4096])
@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x41])
def test_config_space_of_any_kind_is_cut_down(size: int, byte: int) -> None:
    data = bytes([byte]) * size
    kept = config_without_identity(data)
    assert len(kept) == size
    assert config_without_identity(kept) == kept


@pytest.mark.parametrize("header_type", [0, 1, 2, 0x80])
def test_of_every_kind_of_header_the_capabilities_are_found(header_type: int) -> None:
    data = bytearray(256)
    data[:4], data[0x06], data[0x0E] = b"\x4c\x10\x50\xac", 0x10, header_type
    data[0x14 if header_type == 2 else 0x34] = 0x40
    data[0x40:0x42] = b"\x05\x00"
    found = parse_config_space(config_without_identity(bytes(data)))
    assert found == parse_config_space(bytes(data))
    assert found is not None
    assert found.msi


def test_a_mediated_devices_uuid_is_told_apart_and_not_told() -> None:
    uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    assert uuid not in nameless_path(f"a/{uuid}/b")
    assert (
        nameless_path(f"a/{uuid}") == nameless_path(f"a/{uuid}") != nameless_path(f"a/{uuid[:-1]}8")
    )


def test_an_interface_named_after_its_mac_address_is_told_without_it(tmp_path: Path) -> None:
    named = ("enx0123456789ab", "enx0123456789ac", "eth0")
    machine = m4000_shared()
    functions = (replace(f, interfaces=named if f.interfaces else ()) for f in machine.functions)
    root = write_machine(tmp_path / "host", replace(machine, functions=tuple(functions)))
    file = packed(root, tmp_path / "a.tar.gz")
    assert b"0123456789a" not in gzip.decompress(file.read_bytes())
    here, there = read_machine(root), read_machine(file)
    assert here == there
    assert [d.interfaces for d in here.devices if d.interfaces] == [("enx…", "eth0")]


def test_owners_and_times_are_nobodys(tmp_path: Path) -> None:
    data = taken(write_machine(tmp_path / "here", MIXED))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in archive.getmembers()} == {
            (0, 0, "", "", 0)
        }
        assert not [m.name for m in archive.getmembers() if m.name.startswith(("/", ".."))]


# What a stranger may send instead of a snapshot.


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def archive_of(*members: tuple[tarfile.TarInfo, bytes], whole: bool = True) -> bytes:
    """A snapshot with these members besides what every one has."""
    packed = io.BytesIO()
    manifest = [(entry(MANIFEST), VERSION.encode()), (entry("sys/bus/pci", tarfile.DIRTYPE), b"")]
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in [*(manifest if whole else []), *members]:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue())


HOSTILE = {
    "absolute path": (entry("/etc/passwd"), "its name is absolute"),
    "climbs": (entry("sys/../../etc/passwd"), "its name has empty parts, . or .."),
    "dot": (entry("./sys/x"), "its name has empty parts, . or .."),
    "empty part": (entry("sys//x"), "its name has empty parts, . or .."),
    "newline": (entry("sys/a\nb"), "its name is empty, too long, or has control characters"),
    "long name": (entry("s/" * 600), "its name is empty, too long, or has control characters"),
    "absolute link": (entry("sys/x", tarfile.SYMTYPE, "/etc/passwd"), "its link leaves"),
    "link that climbs": (entry("sys/x", tarfile.SYMTYPE, "../../etc"), "its link leaves"),
    "link with a control character": (
        entry("sys/x", tarfile.SYMTYPE, "a\x07"),
        "its link is empty, too long, or has control characters",
    ),
    "hard link": (entry("sys/x", tarfile.LNKTYPE, "etc/passwd"), "it is no plain file"),
    "character device": (entry("sys/x", tarfile.CHRTYPE), "it is no plain file"),
    "block device": (entry("sys/x", tarfile.BLKTYPE), "it is no plain file"),
    "fifo": (entry("sys/x", tarfile.FIFOTYPE), "it is no plain file"),
    "twice": (entry(MANIFEST), "it is there twice"),
    "below a file": (entry(f"{MANIFEST}/x"), "is no folder"),
    "a folder's name for a file": (entry("sys/bus"), "it is a folder and a file"),
    "a folder's name for a link": (
        entry("sys/bus", tarfile.SYMTYPE, "x"),
        "it is a folder and a link",
    ),
}


@pytest.mark.parametrize(("member", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tarball_is_refused(tmp_path: Path, member: tarfile.TarInfo, reason: str) -> None:
    file = tmp_path / "hostile.tar.gz"
    file.write_bytes(archive_of((member, b"")))
    with pytest.raises(UsageError, match="is no snapshot of vfio-kit") as caught:
        SnapshotTree(file)
    assert reason in caught.value.message
    assert "hostile.tar.gz" in caught.value.message and "vfio-kit snapshot" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.tar.gz"]


def test_a_file_too_large_for_an_attribute_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.tar.gz"
    file.write_bytes(archive_of((entry("sys/x"), b"0" * (4 * 2**20 + 1))))
    with pytest.raises(UsageError, match="it is sparse, or larger than"):
        SnapshotTree(file)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """Files that are small enough each, or a member that is a large nothing."""
    file = tmp_path / "s.tar.gz"
    many = [(entry(f"sys/{n}"), b"0" * 4 * 2**20) for n in range(17)]
    file.write_bytes(archive_of(*many))
    with pytest.raises(UsageError, match="it unpacks to more than"):
        SnapshotTree(file)
    with gzip.open(file, "wb", 1) as stream:
        stream.write(gzip.decompress(archive_of()))
        for _ in range(80):
            stream.write(bytes(2**20))
    with pytest.raises(UsageError, match="it unpacks to more than"):
        SnapshotTree(file)


def header(kind: bytes, data: bytes) -> bytes:
    """An extended header, of which tarfile would write none."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def sized(octal: bytes) -> bytes:
    block = bytearray(entry("sys/x").tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[148:156] = octal, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def record(text: bytes) -> bytes:
    """A line of an extended header: its own length, a space, what it says."""
    return b"%d %s\n" % (len(text) + 4, text)


PAX, LONG_NAME, LONG_LINK = tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
HEADERS = {
    "longer than any name": (header(PAX, b"1" * 400_000), "a header is larger than"),
    "of GNU, and too long": (header(LONG_NAME, b"x" * 20_000), "a header is larger than"),
    "sparse": (header(PAX, record(b"GNU.sparse.major=x")), "it is sparse"),
    "another size": (header(PAX, record(b"size=-512")), "it is sparse"),
    "no length": (header(PAX, b"path=x\n"), "makes no sense"),
    "too short": (header(PAX, b"9 path=xyz\n"), "makes no sense"),
    "too long": (header(PAX, b"99 path=xyz\n"), "makes no sense"),
    "a length without end": (header(PAX, b"9" * 30 + b" path=x\n"), "makes no sense"),
    "length zero": (header(PAX, b"0 path=x\n"), "makes no sense"),
    "no text": (header(PAX, record(b"path=\xff\xfe")), "codec can't decode"),
    "a name that climbs": (header(PAX, record(b"path=../x/y")), "empty parts, . or .."),
    "a link that leaves": (header(PAX, record(b"linkpath=/etc")), "its link leaves"),
    "of all that follow": (header(tarfile.XGLTYPE, record(b"path=abc")), "it is no plain file"),
    "negative": (sized(b"\xff" * 12), "its size is negative"),
    "a size for the stars": (sized(b"\x80" + b"\xff" * 11), "it is sparse, or larger"),
}


def with_headers(file: Path, heads: bytes) -> Path:
    """A snapshot that has these headers in front of its last member, a link."""
    start = gzip.decompress(archive_of())[: 3 * tarfile.BLOCKSIZE]
    member = entry("sys/x", tarfile.SYMTYPE, "y").tobuf(tarfile.USTAR_FORMAT)
    file.write_bytes(gzip.compress(start + heads + member + bytes(2 * tarfile.BLOCKSIZE)))
    return file


@pytest.mark.parametrize(("head", "reason"), HEADERS.values(), ids=HEADERS)
def test_a_hostile_header_is_refused_at_once(tmp_path: Path, head: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match="is no snapshot of vfio-kit") as caught:
        SnapshotTree(with_headers(tmp_path / "s.tar.gz", head))
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "head",
    [header(PAX, record(b"mtime=1.5")), header(LONG_NAME, b"a\0"), header(LONG_LINK, b"b\0")],
)
def test_headers_of_headers_are_read_one_by_one(tmp_path: Path, head: bytes) -> None:
    tree = SnapshotTree(with_headers(tmp_path / "s.tar.gz", head * 5_000))
    assert tree.target("sys/x") == "y" or tree.target("a") == "y" or tree.target("sys/x") == "b"


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_MEMBERS", 10)
    file = tmp_path / "s.tar.gz"
    file.write_bytes(archive_of(*((entry(f"sys/{n}"), b"") for n in range(20))))
    with pytest.raises(UsageError, match="more than 10 members"):
        SnapshotTree(file)


def test_too_many_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member with a long path stands for hundreds of them."""
    monkeypatch.setattr(replay, "MOST_MEMBERS", 100)
    file = tmp_path / "s.tar.gz"
    file.write_bytes(archive_of((entry("a/" * 200 + "b"), b"")))
    with pytest.raises(UsageError, match="more than 100 folders"):
        SnapshotTree(file)


def test_folders_above_a_member_are_there_unsaid(tmp_path: Path) -> None:
    file = tmp_path / "s.tar.gz"
    file.write_bytes(archive_of((entry("a/b/c/d"), b"")))
    tree = SnapshotTree(file)
    assert [tree.names(name) for name in ("a", "a/b", "a/b/c")] == [["b"], ["c"], ["d"]]
    assert tree.exists("a")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip at all",
        gzip.compress(b"no tar at all" * 100),
        archive_of()[:60],
        archive_of()[:-20] + b"\0" * 20,
        archive_of(whole=False),
        archive_of((entry(MANIFEST), b"vfio-kit/snapshot/99"), whole=False),
    ],
    ids=["empty", "text", "no tar", "torn", "wrong sum", "no manifest", "another version"],
)
def test_what_is_no_snapshot_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "s.tar.gz"
    file.write_bytes(data)
    result = vfio_kit("scan", "--from", file)
    assert result.exit_code == 2
    assert "is no snapshot of vfio-kit" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_cannot_be_read_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        SnapshotTree(tmp_path / "missing.tar.gz")


def test_links_that_go_round_end(tmp_path: Path) -> None:
    file = tmp_path / "s.tar.gz"
    round_and_round = [
        (entry("sys/bus/pci/devices/0000:01:00.0", tarfile.SYMTYPE, "0000:02:00.0"), b""),
        (entry("sys/bus/pci/devices/0000:02:00.0", tarfile.SYMTYPE, "0000:01:00.0"), b""),
    ]
    file.write_bytes(archive_of(*round_and_round))
    assert read_machine(file).devices == ()


@pytest.mark.parametrize("options", [("--root", "/"), ()])
def test_root_and_from_exclude_each_other(tmp_path: Path, options: tuple[str, ...]) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    file = packed(here, tmp_path / "s.tar.gz")
    result = vfio_kit("scan", "--from", file, *options)
    assert result.exit_code == (2 if options else 0)
    assert ("--root and --from" in result.stderr) == bool(options)


def test_plan_and_render_take_a_snapshot(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    file = packed(here, tmp_path / "s.tar.gz")
    one = vfio_kit("plan", "--json", "--gpu", "01:00.0", "--root", here)
    two = vfio_kit("plan", "--json", "--gpu", "01:00.0", "--from", file)
    assert (one.exit_code, one.stdout) == (0, two.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link to somebody else")
def test_a_link_that_somebody_else_put_there_is_not_followed(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    victim, link = tmp_path / "victim", tmp_path / "vfio-kit-snapshot.tar.gz"
    victim.write_text("untouched")
    link.symlink_to(victim)
    os.chown(link, 1000, 1000, follow_symlinks=False)
    result = vfio_kit("snapshot", "--root", here, "-o", link)
    assert result.exit_code == 2
    assert f"{link} is a link of somebody else's, to {victim}" in result.stderr
    assert victim.read_text() == "untouched"
    os.chown(link, 0, 0, follow_symlinks=False)
    assert vfio_kit("snapshot", "--root", here, "-o", link).exit_code == 0
    assert link.is_symlink() and victim.read_bytes()[:2] == b"\x1f\x8b"


def test_a_snapshot_is_taken_of_a_machine(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    file = packed(here, tmp_path / "s.tar.gz")
    result = vfio_kit("snapshot", "--from", file, "-o", tmp_path / "again.tar.gz")
    assert result.exit_code == 2
    assert "is a snapshot already" in result.stderr


def test_a_strangers_tree_packs_no_file_of_this_machine(tmp_path: Path) -> None:
    here = write_machine(tmp_path / "here", m4000_isolated())
    secret = tmp_path / "secret"
    secret.write_text("root:secret")
    attribute = (here / "sys/bus/pci/devices/0000:01:00.0/subsystem_vendor").resolve()
    attribute.unlink()
    attribute.symlink_to("../" * 12 + str(secret).lstrip("/"))
    file = packed(here, tmp_path / "s.tar.gz")
    assert b"secret" not in gzip.decompress(file.read_bytes())
    assert [p.reason for p in read_machine(file).problems] == ["leads out of the tree"]


def test_a_machine_with_more_than_a_snapshot_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "MOST_MEMBERS", 10)
    here = write_machine(tmp_path / "here", m4000_isolated())
    result = vfio_kit("snapshot", "--root", here, "-o", tmp_path / "s.tar.gz")
    assert result.exit_code == 4 and "which no snapshot holds" in result.stderr
    assert not (tmp_path / "s.tar.gz").exists()


def test_a_snapshot_is_no_stream(tmp_path: Path) -> None:
    result = vfio_kit("snapshot", "-o", "-", "--root", write_machine(tmp_path, m4000_isolated()))
    assert (result.exit_code, result.stdout) == (2, "")
