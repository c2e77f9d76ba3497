"""Images: what the base is, the overlay on it, and a seed that others can read."""

import json
import stat
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from tests.unit.tools import run as run_tool
from vfio_kit.apply.command import run
from vfio_kit.apply.images import create_overlay, examine_image, write_seed
from vfio_kit.errors import HostError, HypervisorError, UsageError
from vfio_kit.model.vm import BackingImage, RenderedFile

SEED = (
    RenderedFile("user-data", '#cloud-config\nhostname: "vm"\n# é漢\n', 0o600),
    RenderedFile("meta-data", "instance-id: x\n", 0o600),
    RenderedFile("network-config", "version: 2\n" + "# padding\n" * 5000, 0o600),
)


def qcow2(path: Path, size: str = "64M") -> Path:
    assert run_tool("qemu-img", "create", "-q", "-f", "qcow2", path, size).returncode == 0
    return path


def disk(path: Path) -> Path:
    """A raw image whose first sector ends as a partition table does."""
    entry = b"\x80\0\0\0\x83\0\0\0" + b"\1\0\0\0" + b"\x64\0\0\0"
    path.write_bytes(b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa" + b"\0" * 1_048_064)
    return path


def test_formats_are_found_by_content(tmp_path: Path) -> None:
    assert examine_image(qcow2(tmp_path / "a.img")).format == "qcow2"
    assert examine_image(disk(tmp_path / "b.qcow2")).format == "raw"


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.img", tmp_path):
        with pytest.raises(HypervisorError) as caught:
            examine_image(path)
        assert caught.value.message == f"no image at {path}"
        assert "--image" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"a text\n", b"\0" * 4096, b"QFI\xfb" + b"\0" * 100])
def test_a_file_that_is_no_image(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(data)
    with pytest.raises(HypervisorError) as caught:
        examine_image(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 5


def test_an_image_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    assert run_tool("qemu-img", "create", "-q", "-f", "vmdk", path, "1M").returncode == 0
    with pytest.raises(HypervisorError) as caught:
        examine_image(path)
    assert caught.value.message == f"{path} has the format vmdk"
    assert "qemu-img convert" in caught.value.hint


def test_an_image_that_names_a_file_of_the_host(tmp_path: Path) -> None:
    """As one from a stranger may: the guest would read that file as its disk."""
    backed, external = tmp_path / "backed.qcow2", tmp_path / "external.qcow2"
    create = ("create", "-q", "-f", "qcow2")
    run(["qemu-img", *create, "-u", "-F", "raw", "-b", "/etc/shadow", str(backed), "1M"])
    run(["qemu-img", *create, "-o", f"data_file={tmp_path}/data", str(external), "1M"])
    for image, what in ((backed, "a backing file"), (external, "an external data file")):
        with pytest.raises(HypervisorError) as caught:
            examine_image(image)
        assert caught.value.message.startswith(f"{image} does not stand by itself: it has {what}")
        assert "qemu-img convert" in caught.value.hint
    old = tmp_path / "old.qcow2"
    run(["qemu-img", *create, "-o", "compat=0.10", str(old), "1M"])
    assert examine_image(old).format == "qcow2"


@pytest.mark.parametrize("name", ["base.img", "b a,s=e.img", "json:{}.img", "é:漢.img"])
@pytest.mark.parametrize(("size_gib", "bytes_"), [(None, 64 << 20), (3, 3 << 30)])
def test_an_overlay_stands_on_the_image_and_is_its_owners_alone(
    tmp_path: Path, name: str, size_gib: int | None, bytes_: int
) -> None:
    base = qcow2(tmp_path / name)
    before = base.read_bytes()
    overlay = tmp_path / "vm,1.qcow2"
    create_overlay(overlay, BackingImage(str(base), "qcow2", 64 << 20), size_gib)
    info = json.loads(run_tool("qemu-img", "info", "--output=json", overlay).stdout)
    assert (info["format"], info["virtual-size"]) == ("qcow2", bytes_)
    assert (info["backing-filename"], info["backing-filename-format"]) == (str(base), "qcow2")
    assert stat.S_IMODE(overlay.stat().st_mode) == 0o600
    assert base.read_bytes() == before


def test_an_overlay_that_cannot_be_made_says_how_it_was_tried(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError) as caught:
        missing = BackingImage(str(tmp_path / "no base.img"), "qcow2", 64 << 20)
        create_overlay(tmp_path / "o.qcow2", missing, None)
    assert "qemu-img failed (exit 1)" in caught.value.message
    assert f"-b '{tmp_path / 'no base.img'}'" in caught.value.hint


def test_a_seed_is_read_by_another_program(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    write_seed(path, SEED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["seed.iso"]
    out = tmp_path / "out"
    done = run_tool(
        "xorriso", "-osirrox", "on", "-indev", f"stdio:{path}", "-pvd_info", "-extract", "/", out
    )
    assert done.returncode == 0, done.stderr
    assert "Volume Id    : cidata\n" in done.stdout
    assert {file.name: file.read_text("utf-8") for file in out.iterdir()} == {
        file.path: file.text for file in SEED
    }


def test_both_kinds_of_long_names_lead_to_the_files(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    write_seed(path, SEED)
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    for file in SEED:
        for kind in ("rr_path", "joliet_path"):
            data = BytesIO()
            iso.get_file_from_iso_fp(data, **{kind: f"/{file.path}"})
            assert data.getvalue().decode() == file.text
    iso.close()


def test_a_seed_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        write_seed(tmp_path / "none" / "seed.iso", SEED)
    assert str(tmp_path / "none" / "seed.iso") in caught.value.message


def test_a_program_gives_its_output() -> None:
    assert run(["printf", "%s", "a b"]) == "a b"


def test_a_program_that_is_missing() -> None:
    with pytest.raises(HypervisorError) as caught:
        run(["no-such-program"])
    assert caught.value.message == "the program no-such-program is missing"


def test_a_program_that_fails_can_be_run_again_by_hand() -> None:
    with pytest.raises(HypervisorError) as caught:
        run(["sh", "-c", "echo 'broken pipe' >&2; exit 3"])
    assert caught.value.message == "sh failed (exit 3): broken pipe"
    assert caught.value.hint == """it was: sh -c 'echo '"'"'broken pipe'"'"' >&2; exit 3'"""


def test_a_program_that_only_speaks_on_stdout_is_heard() -> None:
    with pytest.raises(HypervisorError, match="said on stdout"):
        run(["sh", "-c", "echo said on stdout; exit 1"])


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(HypervisorError) as caught:
        run(["sleep", "60"], timeout=0.1)
    assert caught.value.message == "sleep did not end within 0 s"


def test_a_program_gets_no_input() -> None:
    assert run(["cat"], timeout=5) == ""


@pytest.mark.parametrize(("size", "bytes_"), [("64M", 64 << 20), ("2252M", 2252 << 20)])
def test_the_size_of_an_image_is_what_the_guest_sees(
    tmp_path: Path, size: str, bytes_: int
) -> None:
    image = qcow2(tmp_path / "a.img", size)
    assert image.stat().st_size < 1 << 20
    assert examine_image(image) == BackingImage(str(image), "qcow2", bytes_)
    raw = disk(tmp_path / "b.img")
    assert examine_image(raw) == BackingImage(str(raw), "raw", raw.stat().st_size)


@pytest.mark.parametrize(
    ("size", "shown"), [((2 << 30) + 1, "2.0 GiB"), ((5 << 30) >> 1, "2.5 GiB")]
)
def test_a_disk_that_would_cut_the_image_short_is_refused(
    tmp_path: Path, size: int, shown: str
) -> None:
    with pytest.raises(UsageError) as caught:
        create_overlay(tmp_path / "o.qcow2", BackingImage("/images/a.img", "qcow2", size), 2)
    assert caught.value.message == (
        f"a disk of 2 GiB is smaller than the image /images/a.img: {shown}"
    )
    assert "--disk" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_disk_of_just_the_images_size_will_do(tmp_path: Path) -> None:
    image = examine_image(qcow2(tmp_path / "a.img", "1G"))
    create_overlay(tmp_path / "o.qcow2", image, 1)
    info = json.loads(run_tool("qemu-img", "info", "--output=json", tmp_path / "o.qcow2").stdout)
    assert info["virtual-size"] == 1 << 30


def test_a_kernel_is_no_disk_though_it_has_a_boot_signature(tmp_path: Path) -> None:
    """An x86 bzImage begins with a boot sector that only says what it is not."""
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"MZ" + b"\xea" * 508 + b"\x55\xaa" + b"HdrS" * 4096)
    with pytest.raises(HypervisorError, match="is no disk image"):
        examine_image(path)


def test_a_gpt_disk_is_one(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\0" * 512 + b"EFI PART" + b"\0" * 1_048_056)
    assert examine_image(path).format == "raw"
