"""Files: whole or not at all, for their owner from the first moment, and where QEMU reads them."""

import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfio_kit.apply.files import (
    give_back_owners,
    make_folder,
    owners_of,
    remove,
    require_reachable,
    require_space,
    require_trusted,
    target_of,
    write_file,
)
from vfio_kit.errors import HostError, UsageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_earlier_crash_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".key.tmp").write_text("half")
    write_file(tmp_path / "key", b"whole", 0o644)
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {"key": 0o644}


def test_a_symbolic_link_in_wait_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / ".key.tmp").symlink_to("victim")
    write_file(tmp_path / "key", b"secret")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "none" / "file", tmp_path / "directory"):
        with pytest.raises(HostError) as caught:
            write_file(path, b"x")
        assert caught.value.message.startswith(f"cannot write {path}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(HostError) as caught:
        make_folder(tmp_path / "a" / "b")
    assert f"cannot make the folder {tmp_path / 'a' / 'b'}" in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives a file to others")
def test_what_qemus_user_still_has_is_given_back(tmp_path: Path) -> None:
    """As after a power cut, in which libvirt did not give back the kernel of a VM that ran."""
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd"
    for path in (kernel, initrd):
        path.touch()
    owners = owners_of([str(kernel), str(initrd), f"{tmp_path}/none"])
    nobody, daemon = (pwd.getpwnam(name).pw_uid for name in ("nobody", "daemon"))
    os.chown(kernel, nobody, nobody)
    os.chown(initrd, daemon, daemon)  # somebody else's by now
    give_back_owners({**owners, f"{tmp_path}/gone": [0, 0]}, users=("nobody",))
    assert [path.stat().st_uid for path in (kernel, initrd)] == [os.geteuid(), daemon]
    assert kernel.stat().st_gid == owners[str(kernel)][1]


def test_removing_may_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    (tmp_path / "d").mkdir()
    with pytest.raises(HostError):
        remove(tmp_path / "d")


def test_a_write_that_breaks_off_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    """Whatever breaks it off: here a text in the place of bytes, found when the file is open."""
    (tmp_path / "key").write_bytes(b"old")
    text: Any = "a secret"
    with pytest.raises(TypeError):
        write_file(tmp_path / "key", text)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"old"}


@pytest.mark.parametrize("there", [["key"], [".key.tmp"], ["key", ".key.tmp"], []], ids=str)
def test_removing_takes_what_a_crash_left_as_well(tmp_path: Path, there: list[str]) -> None:
    for name in (*there, "other", ".other.tmp"):
        (tmp_path / name).touch()
    remove(tmp_path / "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.tmp", "other"]


def test_room_is_asked_for_in_mib(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(HostError) as caught:
        require_space(tmp_path, 1 << 40)
    assert re.fullmatch(
        rf"only \d+ MiB are free in {tmp_path}; a guest that boots writes 1099511627776 MiB",
        caught.value.message,
    )
    with pytest.raises(HostError, match="cannot write into"):
        require_space(tmp_path / "none", 1)


# QEMU runs as a user of its own: what it opens must be open to others, with the way to it.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Pytest's own temporary folders are closed to others; this one is not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name).resolve()


def image(folder: Path, mode: int = 0o644) -> Path:
    path = folder / "a.img"
    path.touch()
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o444])
def test_a_file_that_everybody_can_read_is_reachable(open_folder: Path, mode: int) -> None:
    require_reachable(image(open_folder, mode), "image")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o711])
def test_a_file_that_others_cannot_read_is_named_with_what_to_do(
    open_folder: Path, mode: int
) -> None:
    path = image(open_folder, mode)
    with pytest.raises(HostError) as caught:
        require_reachable(path, "initrd")
    assert caught.value.message == f"QEMU's user cannot read the initrd {path}"
    assert caught.value.hint == f"chmod o+r {path}"


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o744])
def test_a_folder_that_others_cannot_pass_is_named(open_folder: Path, mode: int) -> None:
    closed = open_folder / "home"
    (closed / "images").mkdir(parents=True)
    path = image(closed / "images")
    closed.chmod(mode)
    with pytest.raises(HostError) as caught:
        require_reachable(path, "image")
    assert caught.value.message == (
        f"QEMU's user cannot reach the image {path}: {closed} is closed to others"
    )
    assert caught.value.hint == "move it into /var/lib/libvirt/images"


def test_of_several_closed_folders_the_first_on_the_way_is_named(open_folder: Path) -> None:
    inner = open_folder / "home" / "images"
    inner.mkdir(parents=True)
    path = image(inner)
    for folder in (inner, inner.parent):
        folder.chmod(0o700)
    with pytest.raises(HostError, match=f": {inner.parent} is closed"):
        require_reachable(path, "image")


def test_the_way_is_that_of_the_file_not_of_the_link_to_it(open_folder: Path) -> None:
    closed = open_folder / "home"
    closed.mkdir()
    path = image(closed)
    link = open_folder / "link.img"
    link.symlink_to(path)
    closed.chmod(0o700)
    with pytest.raises(HostError, match=f"the image {link}: {closed} is closed"):
        require_reachable(link, "image")


def test_a_file_that_is_not_there_is_named(open_folder: Path) -> None:
    with pytest.raises(HostError) as caught:
        require_reachable(open_folder / "no.img", "image")
    assert (
        caught.value.message
        == f"cannot look at {open_folder / 'no.img'}: No such file or directory"
    )


# Where somebody else could exchange what root puts down.


def distrusted(folder: Path) -> str:
    with pytest.raises(HostError) as caught:
        require_trusted(folder, "image directory")
    assert caught.value.message.startswith(f"the image directory {folder} is not safe: ")
    return caught.value.message.partition("is not safe: ")[2]


def test_a_folder_of_root_s_is_safe(open_folder: Path) -> None:
    (open_folder / "images").mkdir(0o711)
    require_trusted(open_folder / "images", "image directory")
    require_trusted(open_folder / "images" / "not" / "there", "image directory")
    require_trusted(Path("/var/lib"), "image directory")


def test_a_folder_that_everybody_may_write_to_is_not(open_folder: Path) -> None:
    images = open_folder / "images"
    images.mkdir()
    for bits in (0o777, 0o1777, 0o757):
        images.chmod(bits)
        assert distrusted(images) == f"{images} may be written to by everybody"
    images.chmod(0o755)
    open_folder.chmod(0o777)
    assert distrusted(images) == f"{open_folder} may be written to by everybody"
    assert distrusted(images / "none") == f"{open_folder} may be written to by everybody"
    open_folder.chmod(0o1777)  # as /tmp: what is root's there stays where it is
    require_trusted(images, "image directory")


def test_what_nobody_else_can_come_to_may_be_open(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(0o700)
    (closed / "tmpfs").mkdir()
    (closed / "tmpfs").chmod(0o1777)
    require_trusted(closed / "tmpfs", "image directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to somebody else")
def test_a_folder_or_a_link_of_somebody_else_s_is_not_safe(open_folder: Path) -> None:
    images, link = open_folder / "images", open_folder / "link"
    images.mkdir()
    link.symlink_to(images)
    require_trusted(link, "image directory")
    os.chown(link, 1000, 1000, follow_symlinks=False)
    assert distrusted(link) == f"{link} belongs to the user 1000"
    require_trusted(images, "image directory")
    os.chown(images, 1000, 1000)
    assert distrusted(images) == f"{images} belongs to the user 1000"
    os.chown(images, 0, 1000)
    images.chmod(0o775)
    assert distrusted(images) == f"{images} may be written to by the group 1000"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link to somebody else")
def test_a_link_of_somebody_else_s_is_no_way_to_a_file(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    assert target_of(link) == tmp_path / "file"
    assert target_of(tmp_path / "file") == tmp_path / "file"
    os.chown(link, 1000, 1000, follow_symlinks=False)
    with pytest.raises(UsageError, match="is a link of somebody else's, to "):
        target_of(link)


def test_folders_above_are_nobody_else_s_whatever_the_umask(open_folder: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(open_folder / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert [mode(open_folder / name) for name in ("a", "a/b", "a/b/c")] == [0o755, 0o755, 0o700]
    before = os.umask(0o077)
    try:
        make_folder(open_folder / "d" / "e")
    finally:
        os.umask(before)
    assert [mode(open_folder / name) for name in ("d", "d/e")] == [0o755, 0o700]
