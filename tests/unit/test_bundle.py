"""The offline bundle: what is checked on the host, and the ISO that the guest mounts."""

import hashlib
import os
import resource
import stat
from pathlib import Path

import pytest

from tests.unit.tools import run as run_tool
from vfio_kit.apply.bundle import Bundle, BundleFile, check_bundle, examine_bundle, write_bundle
from vfio_kit.errors import HostError, HypervisorError

# Longer than Joliet's 64 characters, and with what names of packages have in them.
LONG = "libnvidia-tesla-470-ptxjitcompiler1_470.256.02-1~deb12u1+b%3a1_amd64-and-some-more.deb"
FILES = {
    "apt/Packages": f"Package: a\nFilename: ./{LONG}\n\nPackage: b\nFilename: ./b.deb\n",
    f"apt/{LONG}": "a",
    "apt/b.deb": "b",
    "cuda/cuda_11.4.2_470.57.02_linux.run": "#!/bin/sh\n",
    "cuda-samples/v11.4.1.tar.gz": "samples",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole bundle, with a file beside it that does not count."""
    made = tmp_path / "bundle"
    lines = []
    for name, text in FILES.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        lines.append(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n")
    (made / "SHA256SUMS").write_text("".join(lines))
    (made / "notes.txt").write_text("not part of it")
    return made


def unlist(folder: Path, word: str) -> None:
    """Takes the lines with this word out of SHA256SUMS."""
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if word not in line))


def test_a_whole_bundle_is_taken(folder: Path) -> None:
    bundle = examine_bundle(folder)
    assert {file.path: file.size for file in bundle.files} == {
        name: len(text) for name, text in FILES.items()
    }
    check_bundle(bundle)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError) as caught:
        examine_bundle(tmp_path)
    assert caught.value.message == f"{tmp_path} is no bundle: it has no SHA256SUMS"
    assert "make-bundle.sh" in caught.value.hint


def test_a_list_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    os.mkfifo(folder / "SHA256SUMS")
    with pytest.raises(HypervisorError, match="SHA256SUMS is no file"):
        examine_bundle(folder)


@pytest.mark.parametrize("name", ["x" * 300, "pipe", "apt", "loop", "a\0b"])
def test_what_can_be_no_file_is_named(folder: Path, name: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    with (folder / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(HypervisorError, match="the bundle lacks "):
        examine_bundle(folder)


def test_a_file_that_goes_before_it_is_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    bundle = examine_bundle(folder)
    (folder / "apt/b.deb").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(HostError, match="cannot write"):
        write_bundle(tmp_path / "bundle.iso", bundle)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "apt/b.deb").unlink()
    with pytest.raises(HypervisorError, match=r"the bundle lacks apt/b\.deb"):
        examine_bundle(folder)


def test_a_package_that_apt_would_look_for_in_vain_is_named(folder: Path) -> None:
    unlist(folder, "b.deb")
    with pytest.raises(HypervisorError, match=r"Packages names apt/b\.deb, which SHA256SUMS does"):
        examine_bundle(folder)


def test_a_bundle_without_a_list_of_packages(folder: Path) -> None:
    unlist(folder, "Packages")
    with pytest.raises(HypervisorError, match="does not list apt/Packages"):
        examine_bundle(folder)


@pytest.mark.parametrize(
    "line",
    [
        f"{'0' * 64}  ../../etc/shadow",
        f"{'0' * 64}  /etc/shadow",
        f"{'0' * 63}  apt/b.deb",
        f"{'0' * 64}  a/b/c/d/e/f/g/h/too-deep",
        "",
        "apt/b.deb",
    ],
)
def test_a_line_that_makes_no_sense_is_quoted_with_its_number(folder: Path, line: str) -> None:
    with (folder / "SHA256SUMS").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(HypervisorError) as caught:
        examine_bundle(folder)
    assert f"SHA256SUMS:{len(FILES) + 1} makes no sense: {line!r}" in caught.value.message


def test_a_file_that_changed_is_named(folder: Path) -> None:
    (folder / "apt/b.deb").write_text("c")
    bundle = examine_bundle(folder)
    with pytest.raises(HypervisorError) as caught:
        check_bundle(bundle)
    assert caught.value.message == (
        f"the bundle {folder} is damaged: apt/b.deb is not what SHA256SUMS says"
    )


def test_of_many_files_that_changed_three_are_named(folder: Path) -> None:
    for name in FILES:
        if name != "apt/Packages":
            (folder / name).write_text("another")
    with pytest.raises(HypervisorError, match=r"apt/b\.deb, .*, and 1 more are not what"):
        check_bundle(examine_bundle(folder))


def test_what_counts_is_on_the_iso_under_its_own_name(folder: Path, tmp_path: Path) -> None:
    iso = tmp_path / "vm-bundle.iso"
    write_bundle(iso, examine_bundle(folder))
    assert stat.S_IMODE(iso.stat().st_mode) == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "vm-bundle.iso"]
    out = tmp_path / "out"
    done = run_tool(
        "xorriso", "-osirrox", "on", "-indev", f"stdio:{iso}", "-pvd_info", "-extract", "/", out
    )
    assert done.returncode == 0, done.stderr
    assert "Volume Id    : VFIO-KIT\n" in done.stdout
    found = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    assert found.keys() == FILES.keys() | {"SHA256SUMS"}
    assert {name: found[name].read_text() for name in FILES} == FILES
    # All may read: apt's own user does.
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.values()} == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir() if path.is_dir()} == {0o555}


def test_memory_stays_small_whatever_the_size(folder: Path, tmp_path: Path) -> None:
    large = folder / "cuda/cuda_11.4.2_470.57.02_linux.run"
    with large.open("wb") as stream:
        stream.truncate(200 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_bundle(tmp_path / "vm.iso", examine_bundle(folder))
    assert (tmp_path / "vm.iso").stat().st_size > 200 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


def test_a_disk_without_room_is_named_and_left_as_it_was(folder: Path, tmp_path: Path) -> None:
    large = Bundle(folder, (BundleFile("apt/b.deb", "0" * 64, 1 << 60),))
    with pytest.raises(HostError, match="MiB are free"):
        write_bundle(tmp_path / "vm.iso", large)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_iso_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=str(tmp_path / "none")):
        write_bundle(tmp_path / "none" / "vm.iso", examine_bundle(folder))


def test_an_empty_bundle_is_still_one(tmp_path: Path) -> None:
    """What an image lacks may be nothing."""
    (tmp_path / "apt").mkdir()
    (tmp_path / "apt/Packages").touch()
    empty = hashlib.sha256(b"").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{empty}  apt/Packages\n")
    assert examine_bundle(tmp_path) == Bundle(tmp_path, examine_bundle(tmp_path).files)
    write_bundle(tmp_path / "vm.iso", examine_bundle(tmp_path))
