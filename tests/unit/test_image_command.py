"""vfio-kit image: what it prints where, its exit codes, and what it never removes."""

import hashlib
import importlib.resources
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from tests.unit.fixtures import FIXTURES
from tests.unit.http_server import File, HttpServer
from tests.unit.tools import run as run_tool
from tests.unit.values import spec
from vfio_kit.apply.image_store import ImageRecord, fetched_image, save_record, stored_images
from vfio_kit.apply.image_users import is_open
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.cli import _cli
from vfio_kit.cli.live_line import describe
from vfio_kit.cli.report import Report
from vfio_kit.cli.spec_options import with_fetched_image
from vfio_kit.errors import HostError
from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES
from vfio_kit.model.vm import StepKind

DEBIAN = CLOUD_IMAGES["debian-12"]
IMAGE = b"not much of an image" * 1000
SHA512 = hashlib.sha512(IMAGE).hexdigest()
NAME = f"debian-12-{SHA512[:12]}.qcow2"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "VFIO_KIT_IMAGE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def mirror() -> Iterator[HttpServer]:
    """A mirror of cloud.debian.org below /debian-cdimage/."""
    folder = f"/debian-cdimage/{DEBIAN.latest_folder}"
    files = {
        f"{folder}{DEBIAN.latest_file}": File(IMAGE),
        f"{folder}SHA512SUMS": File(f"{SHA512}  {DEBIAN.latest_file}\n".encode()),
    }
    with HttpServer(files) as server:
        yield server


def vfio_kit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")


def fetch(mirror: HttpServer, images: Path, *more: str) -> Result:
    url = mirror.url("/debian-cdimage")
    return vfio_kit("image", "fetch", "debian-12", "--dir", images, "--mirror", url, *more)


def valid(result: Result, schema: str) -> dict[str, Any]:
    """The JSON on stdout, which is all there is, and as the shipped schema has it."""
    folder = importlib.resources.files("vfio_kit") / "schemas"
    document = json.loads(result.stdout)
    jsonschema.validate(document, json.loads((folder / schema).read_text()))
    assert isinstance(document, dict)
    return document


# fetch


def test_fetch_prints_the_path_and_nothing_else(mirror: HttpServer, images: Path) -> None:
    result = fetch(mirror, images, "--sha512", SHA512)
    assert (result.exit_code, result.stdout) == (0, f"{images / NAME}\n"), result.stderr
    assert f"verified: SHA512 {SHA512[:16]}…; the digest is the one you gave" in result.stderr
    assert (images / NAME).read_bytes() == IMAGE
    again = fetch(mirror, images, "--sha512", SHA512)
    assert (again.exit_code, again.stdout) == (0, f"{images / NAME}\n")
    assert "unchanged, and verified again" in again.stderr


def test_the_json_of_fetch(mirror: HttpServer, images: Path) -> None:
    for new in (True, False):
        result = fetch(mirror, images, "--sha512", SHA512.upper(), "--json")
        document = valid(result, "image-fetch-1.schema.json")
        del document["verified_at"], document["changed"]
        times = document.pop("steps")
        assert sum(step["seconds"] for step in times) <= document.pop("seconds") + 0.2
        assert [step["what"] for step in times] == [
            "checksums",
            *([f"downloaded {NAME}"] if new else []),
            "compared with its checksum",
        ]
        assert document == {
            "schema": "vfio-kit/image-fetch/1",
            "new": new,
            "path": str(images / NAME),
            "guest": "debian-12",
            "file": NAME,
            "url": mirror.url(f"/debian-cdimage/{DEBIAN.latest_folder}{DEBIAN.latest_file}"),
            "serial": None,
            "last_modified": "Thu, 13 Jun 2024 08:00:00 GMT",
            "algorithm": "sha512",
            "digest": SHA512,
            "size": len(IMAGE),
            "signed_by": None,
            "signed_at": None,
        }


def test_a_folder_that_qemus_user_cannot_come_to_is_told_of(
    mirror: HttpServer, images: Path
) -> None:
    images.chmod(0o700)
    result = fetch(mirror, images, "--sha512", SHA512)
    assert result.exit_code == 0
    assert "warning: QEMU's user cannot reach the image" in result.stderr


def test_debian_wants_a_digest(images: Path) -> None:
    result = vfio_kit("image", "fetch", "debian-12", "--dir", images)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: nobody signs the checksums of debian-12")
    url = "https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS"
    assert url in result.stderr


def test_the_real_key_refuses_what_it_has_not_signed(images: Path) -> None:
    """Canonical's own list and its own signature, with one digit changed on the way."""
    row = CLOUD_IMAGES["ubuntu-22.04"]
    sums = (FIXTURES / "images/noble-SHA256SUMS").read_bytes().replace(b"6a81c375", b"6a81c376")
    signature = (FIXTURES / "images/noble-SHA256SUMS.gpg").read_bytes()
    files = {"SHA256SUMS": sums, "SHA256SUMS.gpg": signature, row.latest_file: IMAGE}
    folder = f"/{row.latest_folder}"
    with HttpServer({folder + name: File(data) for name, data in files.items()}) as mirror:
        arguments = ("image", "fetch", "ubuntu-22.04", "--dir", images, "--mirror", mirror.url("/"))
        result = vfio_kit(*arguments)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "it does not belong to these data" in result.stderr
        assert "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81" in result.stderr
        mirror.files[f"{folder}SHA256SUMS"].data = (
            FIXTURES / "images/noble-SHA256SUMS"
        ).read_bytes()
        result = vfio_kit(*arguments)
        assert result.exit_code == 3
        assert f"has no checksum of {row.latest_file}" in result.stderr  # it is the list of 24.04
        assert mirror.asked(row.latest_file) == []
    assert list(images.iterdir()) == []


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "guest": (("windows",), "no guest system 'windows'"),
    "serial": (("ubuntu-22.04", "--serial", "jammy"), "'jammy' is no serial of ubuntu-22.04"),
    "digest": (("debian-12", "--sha512", "abc"), "'abc' is no SHA512 digest"),
    "digest for Ubuntu": (("ubuntu-22.04", "--sha512", SHA512), "takes no digest"),
    "mirror": (("ubuntu-22.04", "--mirror", "/srv/mirror"), "is no URL of http or https"),
    "file": (("ubuntu-22.04", "--mirror", "file:///srv"), "is no URL of http or https"),
    "password": (("ubuntu-22.04", "--mirror", "https://a:b@mirror/"), "a plain folder"),
    "query": (("ubuntu-22.04", "--mirror", "https://mirror/?a=b"), "a plain folder"),
    "bracket": (("ubuntu-22.04", "--mirror", "http://[::1"), "is no URL of http or https"),
    "port": (("ubuntu-22.04", "--mirror", "http://mirror:x/"), "is no URL of http or https"),
    "label": (("ubuntu-22.04", "--mirror", "http://a..b/"), "is no URL of http or https"),
    "letter": (("ubuntu-22.04", "--mirror", "http://mirror/\u00e9"), "is no URL of http or https"),
    "blank": (("ubuntu-22.04", "--mirror", "http://mirror/a b"), "is no URL of http or https"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_exit_code_2(images: Path, wrong: str) -> None:
    arguments, message = WRONG[wrong]
    result = vfio_kit("image", "fetch", *arguments, "--dir", images)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("have", "total", "speed", "text"),
    [
        (41 << 20, 612 << 20, 10.3 * (1 << 20), "41 of 612 MiB (6 %), 10.3 MiB/s, 0:55 left"),
        (0, 612 << 20, 0, "0 of 612 MiB (0 %)"),
        (612 << 20, 612 << 20, 2 << 20, "612 of 612 MiB (100 %), 2.0 MiB/s"),
        (41 << 20, None, 1 << 20, "41 MiB, 1.0 MiB/s"),
        (1 << 20, 601 << 20, 1 << 20, "1 of 601 MiB (0 %), 1.0 MiB/s, 10:00 left"),
        (0, 0, 0, "0 of 0 MiB (100 %)"),
    ],
)
def test_progress_in_words(have: int, total: int | None, speed: float, text: str) -> None:
    assert describe(have, total, speed) == text


def test_what_a_server_says_does_not_move_a_terminals_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Report().note("the server says 503 \x1b[2J\n\0")
    assert capsys.readouterr().err == f"{'':8}  the server says 503 ?[2J??\n"


# What is there.


def stored(folder: Path, guest: str = "toy", mark: str = "a", **more: Any) -> Path:
    """An image with its record, as fetch leaves them; a real qcow2, for qemu-img looks at it."""
    path = folder / f"{guest}-{mark}.img"
    assert run_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").returncode == 0
    values: dict[str, Any] = {
        "guest": guest,
        "file": path.name,
        "url": "https://example.org/toy.img",
        "serial": None,
        "last_modified": None,
        "algorithm": "sha256",
        "digest": "ab" * 32,
        "size": path.stat().st_size,
        "changed": int(path.stat().st_mtime),
        "signed_by": "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81",
        "signed_at": "2026-09-26T18:23:12+00:00",
        "verified_at": "2026-10-01T10:00:00+00:00",
    }
    save_record(folder, ImageRecord(**{**values, **more}))
    return path


def overlay(path: Path, image: Path) -> Path:
    done = run_tool(*("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"), image, path)
    assert done.returncode == 0, done.stderr
    return path


def vm(state_dir: Path, name: str, disk: Path) -> VmFolder:
    folder = VmFolder(state_dir / name)
    folder.create(
        VmRecord(
            name=name,
            uuid="uuid",
            guest="toy",
            user="toy",
            gpus=(),
            network="default",
            mac="mac",
            console_log="/console.log",
        )
    )
    folder.begin(StepKind.DISK, {"files": [str(disk)]})
    return folder


def test_the_newest_is_what_its_publisher_signed_last(images: Path) -> None:
    """Not what was fetched last: that may have been an old release, by its serial."""
    stored(images, mark="old", signed_at="2026-01-01T00:00:00+00:00", serial="20260101")
    newest = stored(images, mark="b", verified_at="2026-09-30T10:00:00+00:00")
    stored(images, guest="other", signed_at="2027-01-01T00:00:00+00:00")
    assert fetched_image("toy", images) == newest
    assert fetched_image("third", images) is None
    assert fetched_image("toy", images / "none") is None


def test_without_a_signature_the_servers_date_counts(images: Path) -> None:
    unsigned: dict[str, Any] = {"signed_by": None, "signed_at": None}
    stored(images, mark="a", last_modified="Thu, 13 Jun 2024 08:00:00 GMT", **unsigned)
    newest = stored(images, mark="b", last_modified="Fri, 14 Jun 2024 08:00:00 GMT", **unsigned)
    stored(images, mark="c", last_modified="Wed, 12 Jun 2024 08:00:00 GMT", **unsigned)
    assert fetched_image("toy", images) == newest
    undated = stored(images, mark="d", last_modified="yesterday", **unsigned)
    assert fetched_image("toy", images) == undated  # verified in 2026, and so known to be there


def test_an_image_that_was_written_to_does_not_count(images: Path) -> None:
    path = stored(images)
    os.utime(path, (0, 0))
    assert fetched_image("toy", images) is None
    path.unlink()
    assert stored_images(images) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", "1"), ("guest", None), ("file", "../../etc/passwd"), ("digest", 5)]
    + [("file", name) for name in ("", "..", "a\0b", "a\nb", "\ud800", "x" * 300)]
    + [("guest", "\x1b[2J"), ("serial", "\ud800"), ("signed_at", "never")]
    + [("verified_at", "2026-01-01T00:00:00")],  # without a time zone it is no time
)
def test_a_damaged_record_is_named(images: Path, key: str, value: object) -> None:
    path = stored(images)
    file = images / f"{path.name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(HostError, match=f"{file} is damaged: {key} is "):
        stored_images(images)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": "of something else"}', "[" * 100_000]
)
def test_other_files_in_json_are_none_of_ours(images: Path, text: str) -> None:
    (images / "foreign.json").write_text(text)
    assert stored_images(images) == []


def test_what_is_no_file_is_nobodys_record(images: Path) -> None:
    (images / "folder.json").mkdir()
    (images / "nowhere.json").symlink_to("gone")
    (images / "loop.json").symlink_to("loop.json")
    os.mkfifo(images / "pipe.json")  # to open it would be to wait for somebody who writes
    path = stored(images)
    assert [image.path for image in stored_images(images)] == [path]


def test_an_image_that_is_no_file_is_none(images: Path) -> None:
    for path in (stored(images), stored(images, mark="b")):
        path.unlink()
    (images / "toy-a.img").mkdir()
    (images / "toy-b.img").symlink_to("toy-b.img")
    assert stored_images(images) == []


# list


def listed(images: Path, *more: str | Path) -> Result:
    return vfio_kit("image", "list", "--dir", images, "--state-dir", images / "state", *more)


def test_list_shows_what_can_be_fetched_and_what_proves_it(images: Path) -> None:
    result = listed(images)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["can", "be", "fetched:"]
    for row in CLOUD_IMAGES.values():
        (line,) = (words for words in lines if words[0] == row.guest)
        proof = "no signature there" if row.key is None else row.key.fingerprint
        assert proof in " ".join(line)
    assert result.stdout.endswith(f"in {images}: none\n")


def test_list_shows_what_is_there_and_who_stands_on_it(images: Path, tmp_path: Path) -> None:
    image = stored(images, serial="20260926")
    stored(images, guest="other", mark="b")
    overlay(images / "m4000.qcow2", image)
    vm(images / "state", "m4000", images / "m4000.qcow2")
    result = listed(images)
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows = (line.split(maxsplit=5) for line in result.stdout.splitlines()[-3:])
    assert head == ["FILE", "GUEST", "MIB", "SERIAL", "VERIFIED", "USED BY"]
    assert rows == [
        ["other-b.img", "other", "0", "-", "2026-10-01", "-"],
        ["toy-a.img", "toy", "0", "20260926", "2026-10-01", f"the VM m4000 ({images}/m4000.qcow2)"],
    ]


def test_the_json_of_list(images: Path) -> None:
    image = stored(images)
    other = overlay(images / "overlay", image)
    document = valid(listed(images, "--json"), "image-list-1.schema.json")
    assert [row["guest"] for row in document["available"]] == list(CLOUD_IMAGES)
    assert document["dir"] == str(images)
    (found,) = document["images"]
    assert found["used_by"] == [str(other)]
    assert (found["kind"], found["guest"], found["intact"]) == ("fetched", "toy", True)
    assert found["record"]["signed_by"] == "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81"


def test_a_baked_image_is_listed_with_its_manifest(images: Path) -> None:
    path = images / "golden.qcow2"
    assert run_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").returncode == 0
    manifest = images / "golden.manifest.json"
    manifest.write_text(json.dumps({"schema": "vfio-kit/image/1", "guest": "ubuntu-22.04"}))
    document = valid(listed(images, "--json"), "image-list-1.schema.json")
    (found,) = document["images"]
    assert (found["path"], found["kind"], found["record"]) == (str(path), "baked", None)
    assert listed(images).stdout.splitlines()[-1].split()[:2] == ["golden.qcow2", "ubuntu-22.04"]
    assert removed(images, "golden.qcow2").exit_code == 0
    assert list(images.iterdir()) == []


def test_names_of_files_do_not_move_a_terminals_cursor(images: Path) -> None:
    path = images / "a\x1b[2J\nb.qcow2"
    assert run_tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").returncode == 0
    manifest = images / "a\x1b[2J\nb.manifest.json"
    manifest.write_text(json.dumps({"schema": "vfio-kit/image/1", "guest": "\x1b[31m"}))
    assert listed(images).stdout.splitlines()[-1].split()[0] == "a\ufffd[2J"
    assert "\x1b" not in listed(images).stdout


def test_an_image_that_was_written_to_is_listed_as_that(images: Path) -> None:
    os.utime(stored(images), (0, 0))
    assert "CHANGED since" in listed(images).stdout
    assert (
        valid(listed(images, "--json"), "image-list-1.schema.json")["images"][0]["intact"] is False
    )


def test_without_a_view_of_the_vms_the_images_are_listed_all_the_same(images: Path) -> None:
    stored(images)
    (images / "state/broken").mkdir(parents=True)
    (images / "state/broken/journal.jsonl").write_text("{\n")
    result = listed(images)
    assert result.exit_code == 0
    assert "warning: in use or not: " in result.stderr
    assert result.stdout.splitlines()[-1].split()[-1] == "?"
    document = valid(listed(images, "--json"), "image-list-1.schema.json")
    assert document["images"][0]["used_by"] is None


# rm


def removed(images: Path, name: str | Path) -> Result:
    return vfio_kit("image", "rm", name, "--dir", images, "--state-dir", images / "state")


def test_rm_removes_the_image_and_its_record(images: Path) -> None:
    image = stored(images)
    other = stored(images, mark="b")
    result = removed(images, image.name)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert {path.name for path in images.iterdir()} == {other.name, f"{other.name}.json"}
    assert removed(images, other).exit_code == 0  # by its whole path


def refused(images: Path, image: Path) -> str:
    result = removed(images, image.name)
    assert result.exit_code == 3, result.stderr
    assert image.exists()
    assert (images / f"{image.name}.json").exists()
    return result.stderr


def test_an_image_that_an_overlay_stands_on_stays(images: Path) -> None:
    image = stored(images)
    disk = overlay(images / "no-ending", image)
    assert f"is what these stand on: {disk}\n" in refused(images, image)
    disk.unlink()
    assert removed(images, image.name).exit_code == 0


def test_an_overlay_on_an_overlay_counts(images: Path, tmp_path: Path) -> None:
    """The one between them lies where nobody looks."""
    image = stored(images)
    between = overlay(tmp_path / "between.qcow2", image)
    above = overlay(images / "above.qcow2", between)
    assert str(above) in refused(images, image)


def test_an_overlay_that_names_it_by_a_relative_path_or_a_link(
    images: Path, tmp_path: Path
) -> None:
    image = stored(images)
    link = tmp_path / "link"
    link.symlink_to(images)
    disk = overlay(images / "disk.qcow2", link / image.name)
    assert str(disk) in refused(images, image)
    disk.unlink()
    overlay(images / "disk.qcow2", Path(image.name))
    assert str(disk) in refused(images, image)


def test_an_overlay_whose_chain_is_broken_counts(images: Path) -> None:
    """What is missing further below may come back."""
    image = stored(images)
    rebase = ("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "/missing.img")
    assert run_tool("qemu-img", *rebase, image).returncode == 0
    disk = images / "disk.qcow2"
    create = ("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b")
    assert run_tool("qemu-img", *create, image, disk, "1M").returncode == 0
    assert str(disk) in refused(images, image)


def test_the_disk_of_a_vm_counts_wherever_it_lies(images: Path, tmp_path: Path) -> None:
    image = stored(images)
    disk = overlay(tmp_path / "elsewhere.qcow2", image)
    folder = vm(images / "state", "m4000", disk)
    said = refused(images, image)
    assert f"the VM m4000 ({disk})" in said
    assert "vfio-kit down NAME" in said
    folder.undone(StepKind.DISK)
    assert removed(images, image.name).exit_code == 0


def test_an_image_that_a_running_qemu_has_open_stays(images: Path) -> None:
    """Its overlay may lie where nobody looks; QEMU's locks on the image itself tell."""
    image = stored(images)
    assert not is_open(image)
    words = ["qemu-io", "-r", "-f", "qcow2", "-c", "sleep 20000", str(image)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as qemu:
        try:
            deadline = time.monotonic() + 10
            while not is_open(image):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert "is open in a running QEMU" in refused(images, image)
        finally:
            qemu.kill()
    assert removed(images, image.name).exit_code == 0


def test_journals_that_cannot_be_read_keep_it(images: Path) -> None:
    image = stored(images)
    (images / "state/broken").mkdir(parents=True)
    (images / "state/broken/journal.jsonl").write_text("{\n")
    assert removed(images, image.name).exit_code == 4
    assert image.exists()


@pytest.mark.parametrize(
    "name", ["foreign.qcow2", "../images/toy-a.img/x", "none", "toy-a.img.json"]
)
def test_what_vfio_kit_did_not_put_there_is_not_removed(images: Path, name: str) -> None:
    stored(images)
    (images / "foreign.qcow2").write_bytes(b"x")
    before = sorted(images.iterdir())
    result = removed(images, name)
    assert result.exit_code == 2
    assert "vfio-kit image list" in result.stderr
    assert sorted(images.iterdir()) == before


def test_there_is_no_force(images: Path) -> None:
    image = stored(images)
    result = vfio_kit("image", "rm", image.name, "--dir", images, "--force")
    assert result.exit_code == 2
    assert image.exists()


def test_a_spec_without_an_image_takes_what_was_fetched_for_its_guest(images: Path) -> None:
    fetched = stored(images, guest="ubuntu-22.04")
    named, unnamed = spec("01:00.0", image="/srv/other.img"), spec("01:00.0")
    assert with_fetched_image(unnamed, images).image == str(fetched)
    assert with_fetched_image(named, images) is named
    assert with_fetched_image(spec("01:00.0", guest="debian-12"), images).image is None
