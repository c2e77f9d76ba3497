"""Fetching: what is refused, what is borne, and what lies in the folder afterwards."""

import errno
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.gpg import Gpg, gpg_home
from tests.unit.http_server import File, HttpServer, closed_port
from vfio_kit.apply.fetch import get_small
from vfio_kit.apply.image_fetch import Fetched, Wanted, fetch_image
from vfio_kit.apply.image_store import fetched_image, record_of
from vfio_kit.apply.web import Patience, Web
from vfio_kit.errors import HostError, HypervisorError, Refused, UsageError
from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES, CloudImage, SigningKey
from vfio_kit.knowledge.guests import GUESTS

IMAGE = b"QFI\xfb" + bytes(range(256)) * 2048  # half a mebibyte, and no two kilobytes in order
DIGEST = hashlib.sha256(IMAGE).hexdigest()
NAME = f"toy-1-{DIGEST[:12]}.img"
FOLDER = "/releases/toy/release/"
HASTE = Patience(attempts=3, pause=0.001, timeout=5)


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    with gpg_home(tmp_path_factory.mktemp("gpg") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def key(gpg: Gpg, tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return gpg.public(gpg.key("publisher"), tmp_path_factory.mktemp("key") / "key.asc")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def row(server: HttpServer, key: SigningKey | None) -> CloudImage:
    """A guest of our own: signed where there is a key."""
    signed = key is not None
    return CloudImage(
        guest="toy-1",
        origin=server.url("/"),
        latest_folder="releases/toy/release/",
        latest_file="toy.img",
        serial_folder="releases/toy/release-{serial}/",
        serial_file="toy.img",
        serial_pattern=r"20\d{6}",
        serial_example="20240612",
        algorithm="sha256" if signed else "sha512",
        checksums="SHA256SUMS" if signed else "SHA512SUMS",
        signature="SHA256SUMS.gpg" if signed else None,
        key=key,
        hosts=(),
        source="https://example.org/",
    )


@dataclass
class Publisher:
    """A server with a signed image, what it was told to do, and what was told to us."""

    server: HttpServer
    key: SigningKey
    gpg: Gpg
    folder: Path
    notes: list[str] = field(default_factory=list)
    metered: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def row(self) -> CloudImage:
        return row(self.server, self.key)

    @property
    def image(self) -> File:
        return self.server.files[FOLDER + "toy.img"]

    def publish(self, image: bytes, folder: str = FOLDER, at: str | None = None) -> None:
        sums = f"{hashlib.sha256(image).hexdigest()} *toy.img\n".encode()
        options = () if at is None else ("--faked-system-time", at)
        files = {
            "toy.img": image,
            "SHA256SUMS": sums,
            "SHA256SUMS.gpg": _signature(self.gpg, sums, self.key.fingerprint, options),
        }
        for name, data in files.items():
            self.server.files[folder + name] = File(data)

    def web(self, *hosts: str, patience: Patience = HASTE) -> Web:
        def meter(have: int, total: int | None) -> None:
            self.metered.append((have, total))

        return Web(hosts, self.notes.append, meter, patience)

    def fetch(self, serial: str | None = None, *hosts: str) -> Fetched:
        return fetch_image(Wanted(self.row, serial), self.folder, self.web(*hosts))

    def there(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()

    def part(self, data: bytes, etag: str = '"1"') -> None:
        """What an earlier, broken download would have left."""
        self.folder.mkdir()
        (self.folder / f".{NAME}.part").write_bytes(data)
        version = {
            "url": self.server.url(FOLDER + "toy.img"),
            "etag": etag,
            "last_modified": None,
        }
        (self.folder / f".{NAME}.part.json").write_text(json.dumps(version))


@cache
def _signature(gpg: Gpg, sums: bytes, fingerprint: str, options: tuple[str, ...]) -> bytes:
    """Most tests publish the same image."""
    return gpg.sign(sums, fingerprint, options=options)


@pytest.fixture
def publisher(gpg: Gpg, key: SigningKey, tmp_path: Path) -> Iterator[Publisher]:
    with HttpServer() as server:
        made = Publisher(server, key, gpg, tmp_path / "images")
        made.publish(IMAGE)
        yield made


PARTS = {f".{NAME}.part", f".{NAME}.part.json"}
WHOLE = {NAME, f"{NAME}.json"}


# The table.


def test_every_guest_system_has_its_image() -> None:
    assert CLOUD_IMAGES.keys() == GUESTS.keys()


@pytest.mark.parametrize("image", CLOUD_IMAGES.values(), ids=CLOUD_IMAGES)
def test_a_row_makes_sense(image: CloudImage) -> None:
    assert image.origin.startswith("https://")
    assert image.origin.endswith("/")
    assert re.fullmatch(image.serial_pattern, image.serial_example)
    for serial in (None, image.serial_example):
        assert re.fullmatch(r"([a-z0-9.-]+/)+", image.folder(serial))
        assert re.fullmatch(r"[a-z0-9.-]+\.(img|qcow2)", image.file(serial))
    assert image.serial_example in image.folder(image.serial_example)
    assert (image.key is None) == (image.signature is None)
    if image.key is not None:
        assert re.fullmatch(r"[0-9A-F]{40}", image.key.fingerprint)
        assert image.key.file.is_file()


def test_the_shipped_key_is_the_one_of_the_fingerprint(gpg: Gpg) -> None:
    for image in CLOUD_IMAGES.values():
        if image.key is None:
            continue
        lines = gpg.run("--with-colons", "--show-keys", image.key.file).decode().splitlines()
        assert [line.split(":")[9] for line in lines if line.startswith("fpr:")] == [
            image.key.fingerprint
        ]
        assert [line.split(":")[9] for line in lines if line.startswith("uid:")] == [
            image.key.owner
        ]


def test_where_ubuntus_image_is() -> None:
    wanted = Wanted(CLOUD_IMAGES["ubuntu-22.04"])
    file = "ubuntu-22.04-server-cloudimg-amd64.img"
    start = "https://cloud-images.ubuntu.com/releases/jammy/"
    assert wanted.url(wanted.row.file(None)) == f"{start}release/{file}"
    dated = replace(wanted, serial="20241217")
    assert dated.url(dated.row.file("20241217")) == f"{start}release-20241217/{file}"
    mirrored = replace(wanted, mirror="http://mirror.local/ubuntu-cloud-images/")
    assert mirrored.url("SHA256SUMS") == (
        "http://mirror.local/ubuntu-cloud-images/releases/jammy/release/SHA256SUMS"
    )


def test_where_debians_image_is() -> None:
    wanted = Wanted(CLOUD_IMAGES["debian-12"], serial="20231013-1532")
    assert wanted.url(wanted.row.file(wanted.serial)) == (
        "https://cloud.debian.org/images/cloud/bookworm/20231013-1532/"
        "debian-12-generic-amd64-20231013-1532.qcow2"
    )


# All is well.


def test_a_verified_image_lies_there_with_its_record(publisher: Publisher) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    fetched = publisher.fetch()
    assert fetched.new
    assert fetched.path == publisher.folder / NAME
    assert fetched.path.read_bytes() == IMAGE
    assert stat.S_IMODE(fetched.path.stat().st_mode) == 0o644
    assert fetched.path.stat().st_uid == os.geteuid()
    assert publisher.there() == WHOLE
    document = json.loads(record_of(fetched.path).read_text())
    assert stat.S_IMODE(record_of(fetched.path).stat().st_mode) == 0o644
    signed_at, verified_at = (
        datetime.fromisoformat(document.pop(name)) for name in ("signed_at", "verified_at")
    )
    assert before <= verified_at <= datetime.now(UTC)
    assert signed_at <= verified_at
    assert document == {
        "schema": "vfio-kit/fetched-image/1",
        "guest": "toy-1",
        "file": NAME,
        "url": publisher.server.url(FOLDER + "toy.img"),
        "serial": None,
        "last_modified": "Thu, 13 Jun 2024 08:00:00 GMT",
        "algorithm": "sha256",
        "digest": DIGEST,
        "size": len(IMAGE),
        "changed": int(fetched.path.stat().st_mtime),
        "signed_by": publisher.key.fingerprint,
    }


def test_it_is_readable_for_qemus_user_whatever_the_umask(publisher: Publisher) -> None:
    before = os.umask(0o077)
    try:
        fetched = publisher.fetch()
    finally:
        os.umask(before)
    for path in (fetched.path, record_of(fetched.path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_signature_comes_before_the_image(publisher: Publisher) -> None:
    publisher.fetch()
    assert [request.path for request in publisher.server.requests] == [
        f"{FOLDER}SHA256SUMS",
        f"{FOLDER}SHA256SUMS.gpg",
        f"{FOLDER}toy.img",
    ]


def test_progress_goes_up_to_the_whole(publisher: Publisher) -> None:
    publisher.fetch()
    assert publisher.metered[0] == (0, len(IMAGE))
    assert publisher.metered[-1] == (len(IMAGE), len(IMAGE))
    assert publisher.metered == sorted(publisher.metered)


def test_without_a_length_the_end_of_the_connection_is_the_end(publisher: Publisher) -> None:
    publisher.image.length = False
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert publisher.metered[-1] == (len(IMAGE), None)


def test_a_release_by_its_serial(publisher: Publisher) -> None:
    older = IMAGE[::-1]
    publisher.publish(older, "/releases/toy/release-20240612/")
    fetched = publisher.fetch("20240612")
    assert fetched.path.read_bytes() == older
    assert fetched.record.serial == "20240612"


@pytest.mark.parametrize("serial", ["latest", "20240612/../..", "2024061", "", "20240612\n"])
def test_a_serial_that_is_none(publisher: Publisher, serial: str) -> None:
    with pytest.raises(UsageError, match="is no serial of toy-1"):
        publisher.fetch(serial)
    assert publisher.server.requests == []


# Again.


def test_an_image_that_is_there_is_verified_and_left_alone(publisher: Publisher) -> None:
    first = publisher.fetch()
    inode = first.path.stat().st_ino
    again = publisher.fetch()
    assert (again.new, again.path, again.path.stat().st_ino) == (False, first.path, inode)
    assert len(publisher.server.asked("toy.img")) == 1
    assert again.record.last_modified == first.record.last_modified


def test_another_image_upstream_comes_beside_the_one_that_is_there(publisher: Publisher) -> None:
    """An overlay of a VM may stand on the first one."""
    first = publisher.fetch()
    newer = IMAGE[::-1]
    publisher.publish(newer, at="20400101T000000")
    second = publisher.fetch()
    assert (first.path.read_bytes(), second.path.read_bytes()) == (IMAGE, newer)
    assert fetched_image("toy-1", publisher.folder) == second.path


def test_an_image_that_was_written_to_is_not_overwritten(publisher: Publisher) -> None:
    path = publisher.fetch().path
    changed = bytes([IMAGE[0] ^ 1]) + IMAGE[1:]
    path.write_bytes(changed)
    with pytest.raises(Refused) as caught:
        publisher.fetch()
    assert f"{path} is not what was verified" in caught.value.message
    assert f"vfio-kit image rm {NAME}" in caught.value.hint
    assert path.read_bytes() == changed


def test_a_record_that_a_crash_has_kept_from_us_is_written(publisher: Publisher) -> None:
    path = publisher.fetch().path
    record_of(path).unlink()
    assert fetched_image("toy-1", publisher.folder) is None
    assert not publisher.fetch().new
    assert fetched_image("toy-1", publisher.folder) == path


def test_checksums_older_than_what_is_here_are_told_of(publisher: Publisher) -> None:
    """Old checksums have a good signature, too: a mirror may be behind, or be kept there."""
    publisher.publish(IMAGE, at="20400101T000000")
    publisher.fetch()
    publisher.publish(IMAGE[::-1], at="20390101T000000")
    publisher.fetch()
    (warning,) = publisher.notes
    assert "signed on 2039-01-01, before those of an image that is here (2040-01-01)" in warning


# What is refused: nothing of it stays, and of a bad signature the image is not even asked for.


def refused(publisher: Publisher) -> Refused:
    with pytest.raises(Refused) as caught:
        publisher.fetch()
    assert caught.value.exit_code == 3
    assert publisher.there() == set()
    return caught.value


def test_checksums_that_somebody_else_signed(publisher: Publisher, gpg: Gpg) -> None:
    sums = publisher.server.files[FOLDER + "SHA256SUMS"]
    signature = gpg.sign(sums.data, gpg.key("somebody else"))
    publisher.server.files[FOLDER + "SHA256SUMS.gpg"] = File(signature)
    assert "it is by another key" in refused(publisher).message
    assert publisher.server.asked("toy.img") == []


def test_checksums_that_were_changed(publisher: Publisher) -> None:
    publisher.server.files[FOLDER + "SHA256SUMS"].data += b"\n"
    assert "it does not belong to these data" in refused(publisher).message
    assert publisher.server.asked("toy.img") == []


def test_a_captive_portal_for_a_signature(publisher: Publisher) -> None:
    publisher.server.files[FOLDER + "SHA256SUMS.gpg"] = File(b"<html>sign in</html>")
    assert "there is no signature in it" in refused(publisher).message
    assert publisher.server.asked("toy.img") == []


def test_no_signature_at_all(publisher: Publisher) -> None:
    del publisher.server.files[FOLDER + "SHA256SUMS.gpg"]
    with pytest.raises(HypervisorError) as caught:
        publisher.fetch()
    assert caught.value.message.endswith("SHA256SUMS.gpg: the server says 404 Not Found")
    assert publisher.server.asked("toy.img") == []
    assert publisher.there() == set()


@pytest.mark.parametrize(
    ("sums", "why"),
    [
        (f"{DIGEST} *other.img\n", "has no checksum of toy.img"),
        (f"{DIGEST} *toy.img\n{DIGEST[::-1]} *toy.img\n", "has more than one checksum of toy.img"),
        (f"{DIGEST[1:]} *toy.img\n", "has no checksum of toy.img"),
        ("", "has no checksum of toy.img"),
    ],
)
def test_a_signed_list_that_does_not_tell(publisher: Publisher, sums: str, why: str) -> None:
    """Of another release, perhaps: the signature is good, and says nothing of our image."""
    data = sums.encode()
    signature = publisher.gpg.sign(data, publisher.key.fingerprint)
    publisher.server.files[FOLDER + "SHA256SUMS"] = File(data)
    publisher.server.files[FOLDER + "SHA256SUMS.gpg"] = File(signature)
    assert why in refused(publisher).message


@pytest.mark.parametrize("form", ["{} *toy.img\n", "{}  toy.img\n", "{} *./toy.img\n"])
@pytest.mark.parametrize("digest", [DIGEST, DIGEST.upper()])
def test_the_forms_of_a_list(publisher: Publisher, form: str, digest: str) -> None:
    data = ("ab" * 32 + "  a.img\n" + form.format(digest)).encode()
    publisher.server.files[FOLDER + "SHA256SUMS"] = File(data)
    signature = publisher.gpg.sign(data, publisher.key.fingerprint)
    publisher.server.files[FOLDER + "SHA256SUMS.gpg"] = File(signature)
    assert publisher.fetch().record.digest == DIGEST


def test_a_byte_of_the_image_that_is_wrong(publisher: Publisher) -> None:
    publisher.image.data = IMAGE[:1000] + b"x" + IMAGE[1001:]
    message = refused(publisher).message
    assert "is not what its checksum says" in message
    assert DIGEST in message
    assert len(publisher.server.asked("toy.img")) == 1


def test_an_image_that_is_longer_than_it_should_be(publisher: Publisher) -> None:
    publisher.image.data = IMAGE + b"x"
    assert "is not what its checksum says" in refused(publisher).message


def test_a_list_without_end_is_not_read_to_its_end(publisher: Publisher) -> None:
    publisher.server.files[FOLDER + "SHA256SUMS"].data = b"x" * (2 << 20)
    assert "larger than 1 MiB" in refused(publisher).message


# Other hosts: 127.0.0.1 and localhost are two.


@pytest.mark.parametrize("name", ["SHA256SUMS", "SHA256SUMS.gpg", "toy.img"])
def test_another_host_is_refused_for_every_file(publisher: Publisher, name: str) -> None:
    files = publisher.server.files
    files["/elsewhere/" + name] = replace(files[FOLDER + name])
    files[FOLDER + name].redirect = publisher.server.url("/elsewhere/" + name, "localhost")
    with pytest.raises(Refused) as caught:
        publisher.fetch()
    assert "sends us on to another host, localhost" in caught.value.message
    assert publisher.server.asked("/elsewhere/" + name) == []
    assert NAME not in publisher.there()


def test_a_host_of_the_rows_list_is_gone_to(publisher: Publisher) -> None:
    files = publisher.server.files
    files["/elsewhere"] = replace(publisher.image)
    publisher.image.redirect = publisher.server.url("/elsewhere", "localhost")
    assert publisher.fetch(None, "localhost").path.read_bytes() == IMAGE
    assert len(publisher.server.asked("/elsewhere")) == 1


def test_another_folder_of_the_same_host_is_gone_to(publisher: Publisher) -> None:
    """releases/22.04 sends to releases/jammy; and a range is asked for there, too."""
    publisher.part(IMAGE[:1000])
    publisher.server.files["/elsewhere"] = replace(publisher.image)
    publisher.image.redirect = "/elsewhere"
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert [request.range for request in publisher.server.asked("/elsewhere")] == ["bytes=1000-"]


@pytest.mark.parametrize("listed", ["ocalhost", ".localhost", "localhost.", "127.0.0.1.localhost"])
def test_a_host_that_only_looks_alike(publisher: Publisher, listed: str) -> None:
    publisher.image.redirect = publisher.server.url("/elsewhere", "localhost")
    with pytest.raises(Refused, match="another host"):
        publisher.fetch(None, listed)


def test_in_circles(publisher: Publisher) -> None:
    publisher.image.redirect = FOLDER + "toy.img"
    with pytest.raises(HypervisorError):
        publisher.fetch()
    assert len(publisher.server.asked("toy.img")) < 20


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_another_protocol(publisher: Publisher, url: str) -> None:
    publisher.image.redirect = url
    with pytest.raises((Refused, HypervisorError)):
        publisher.fetch()
    assert NAME not in publisher.there()


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One for 127.0.0.1, signed by itself, with its key behind it."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_out_of_tls_nobody_leads_us(
    publisher: Publisher, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain = publisher.server.url(FOLDER + "SHA256SUMS")
    with HttpServer({"/safe": File(b"here"), "/x": File(b"", redirect=plain)}, certificate) as tls:
        assert get_small(tls.url("/safe"), publisher.web()) == b"here"
        with pytest.raises(Refused) as caught:
            get_small(tls.url("/x"), publisher.web("127.0.0.1"))
    assert "which is not https" in caught.value.message
    assert publisher.server.requests == []


@pytest.mark.parametrize("where", ["http://[::1", "//[", "http://a:b:c/"])
def test_a_server_that_sends_us_on_to_no_url(publisher: Publisher, where: str) -> None:
    publisher.server.files["/x"] = File(b"", redirect=where)
    with pytest.raises((HypervisorError, Refused)):
        get_small(publisher.server.url("/x"), publisher.web("a"))


def test_into_tls_on_the_same_host_we_go(
    publisher: Publisher, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with HttpServer({"/safe": File(b"here")}, certificate) as tls:
        publisher.server.files["/x"] = File(b"", redirect=tls.url("/safe"))
        assert get_small(publisher.server.url("/x"), publisher.web()) == b"here"


def test_a_certificate_that_nobody_vouches_for(publisher: Publisher, certificate: Path) -> None:
    with (
        HttpServer({"/safe": File(b"here")}, certificate) as tls,
        pytest.raises(HypervisorError) as caught,
    ):
        get_small(tls.url("/safe"), publisher.web())
    assert "the server's certificate is not accepted: self" in caught.value.message
    assert "ca-certificates" in caught.value.hint
    assert publisher.notes == []  # it would be no other the next time


# A bad network.


def test_a_broken_connection_is_gone_on_with(publisher: Publisher) -> None:
    publisher.image.break_after = [300_000, 100_000]
    assert publisher.fetch().path.read_bytes() == IMAGE
    asked = publisher.server.asked("toy.img")
    assert [(one.range, one.if_range) for one in asked] == [
        (None, None),
        ("bytes=300000-", '"1"'),
        ("bytes=400000-", '"1"'),
    ]
    assert publisher.notes[0].startswith("the connection ended")
    assert len(publisher.notes) == 2


def test_a_connection_that_always_breaks_has_an_end(publisher: Publisher) -> None:
    publisher.image.break_after = [1000] * 99
    with pytest.raises(HypervisorError) as caught:
        publisher.fetch()
    assert "(3 attempts)" in caught.value.message
    assert "the same command goes on from it" in caught.value.hint
    assert len(publisher.server.asked("toy.img")) == 3
    assert publisher.there() == PARTS
    publisher.image.break_after = []
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert publisher.server.asked("toy.img")[-1].range == "bytes=3000-"
    assert publisher.there() == WHOLE


def test_a_server_that_starts_anew_each_time_has_an_end(publisher: Publisher) -> None:
    """A mebibyte won renews our patience; the same mebibyte a second time does not."""
    big = IMAGE * 8
    publisher.publish(big)
    publisher.image.ranges = False
    publisher.image.break_after = [2 << 20, 3 << 20, 3 << 20, 3 << 20] * 9
    with pytest.raises(HypervisorError, match="3 attempts"):
        publisher.fetch()
    assert len(publisher.server.asked("toy.img")) <= 5


def test_each_mebibyte_that_was_won_renews_our_patience(publisher: Publisher) -> None:
    big = IMAGE * 20
    publisher.publish(big)
    publisher.image.break_after = [(1 << 20) + 1] * 9
    assert publisher.fetch().path.read_bytes() == big
    assert len(publisher.server.asked("toy.img")) == 10


@pytest.mark.parametrize("name", ["SHA256SUMS", "SHA256SUMS.gpg", "toy.img"])
@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_an_overloaded_server_is_asked_again(publisher: Publisher, name: str, status: int) -> None:
    publisher.server.files[FOLDER + name].statuses = [status, status]
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert len(publisher.server.asked(name)) == 3
    assert len(publisher.notes) == 2
    assert all(note.startswith(f"the server says {status} ") for note in publisher.notes)


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_an_answer_that_will_stay_is_not_asked_for_again(publisher: Publisher, status: int) -> None:
    publisher.image.statuses = [status]
    with pytest.raises(HypervisorError, match=f"toy.img: the server says {status} "):
        publisher.fetch()
    assert publisher.notes == []
    assert len(publisher.server.asked("toy.img")) == 1


def test_a_list_that_is_cut_short_is_asked_for_again(publisher: Publisher) -> None:
    publisher.server.files[FOLDER + "SHA256SUMS"].break_after = [10]
    assert publisher.fetch().path.read_bytes() == IMAGE


def test_a_server_that_falls_silent(publisher: Publisher) -> None:
    publisher.image.hang = threading.Event()
    web = publisher.web(patience=Patience(attempts=2, pause=0.001, timeout=0.2))
    begin = time.monotonic()
    with pytest.raises(HypervisorError, match=r"no answer in time \(2 attempts\)"):
        fetch_image(Wanted(publisher.row), publisher.folder, web)
    assert time.monotonic() - begin < 5
    publisher.image.hang.set()
    assert publisher.fetch().path.read_bytes() == IMAGE


def test_nobody_there(publisher: Publisher) -> None:
    wanted = Wanted(publisher.row, mirror=f"http://127.0.0.1:{closed_port()}/")
    with pytest.raises(HypervisorError) as caught:
        fetch_image(wanted, publisher.folder, publisher.web())
    assert os.strerror(errno.ECONNREFUSED) in caught.value.message
    assert "--mirror" in caught.value.hint
    assert len(publisher.notes) == 2


def test_the_proxy_of_the_environment_is_used(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is asked for whole URLs (RFC 9112, 3.2.2)."""
    monkeypatch.setenv("http_proxy", publisher.server.url(""))
    publisher.server.files["http://mirror.invalid/x"] = File(b"through the proxy")
    assert get_small("http://mirror.invalid/x", publisher.web()) == b"through the proxy"


# A part that is there.

MISFIT = "what is there does not fit to the file: from the start"


def test_a_part_is_gone_on_with(publisher: Publisher) -> None:
    publisher.part(IMAGE[:123_456])
    assert publisher.fetch().path.read_bytes() == IMAGE
    (request,) = publisher.server.asked("toy.img")
    assert (request.range, request.if_range) == ("bytes=123456-", '"1"')
    assert publisher.metered[0] == (123_456, len(IMAGE))
    assert publisher.there() == WHOLE


def test_a_part_that_is_all_there(publisher: Publisher) -> None:
    """Killed between the last byte and the new name: the server says 416."""
    publisher.part(IMAGE)
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert len(publisher.server.asked("toy.img")) == 1


def test_a_part_that_is_longer_than_the_whole(publisher: Publisher) -> None:
    publisher.part(IMAGE + b"more")
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert [request.range for request in publisher.server.asked("toy.img")] == [
        f"bytes={len(IMAGE) + 4}-",
        None,
    ]
    assert publisher.notes == [f"{MISFIT}; again in 0 s"]


def test_a_part_from_elsewhere_is_not_gone_on_with(publisher: Publisher) -> None:
    """Two servers may well give the same name to two versions."""
    publisher.part(b"x" * 1000)
    fetch_image(
        Wanted(publisher.row, mirror=publisher.server.url("/", "localhost")),
        publisher.folder,
        publisher.web(),
    )
    assert [request.range for request in publisher.server.asked("toy.img")] == [None]


def test_a_server_that_knows_no_ranges(publisher: Publisher) -> None:
    publisher.part(IMAGE[:1000])
    publisher.image.ranges = False
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert publisher.notes == ["the server has another version, or no ranges: from the start"]


def test_a_part_of_another_version(publisher: Publisher) -> None:
    publisher.part(b"x" * 1000, etag='"0"')
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert len(publisher.server.asked("toy.img")) == 1


def test_a_part_of_another_version_on_a_server_that_does_not_heed_if_range(
    publisher: Publisher,
) -> None:
    publisher.part(b"x" * 1000, etag='"0"')
    publisher.image.heeds_if_range = False
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert [request.range for request in publisher.server.asked("toy.img")] == ["bytes=1000-", None]
    assert publisher.notes == [f"{MISFIT}; again in 0 s"]


def test_a_server_that_sends_another_range_than_it_was_asked_for(publisher: Publisher) -> None:
    publisher.part(IMAGE[:1000])
    publisher.image.content_range = f"bytes 0-{len(IMAGE) - 1}/{len(IMAGE)}"
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert len(publisher.server.asked("toy.img")) == 2


def test_a_part_that_is_damaged_is_fetched_once_more(publisher: Publisher) -> None:
    """After a loss of power, the end of a part may be zeros."""
    publisher.part(IMAGE[:1000] + b"\0" * 1000)
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert publisher.notes == ["the checksum of what was gone on with is wrong: from the start"]
    assert [request.range for request in publisher.server.asked("toy.img")] == ["bytes=2000-", None]


def test_a_damaged_part_of_a_damaged_image_has_an_end(publisher: Publisher) -> None:
    publisher.part(IMAGE[:1000])
    publisher.image.data = IMAGE[:-1] + b"x"
    refused(publisher)
    assert len(publisher.server.asked("toy.img")) == 2


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
@pytest.mark.parametrize("date", [None, "Thu, 13 Jun 2024 08:00:00 GMT"])
def test_what_identifies_a_version(
    publisher: Publisher, etag: str | None, date: str | None
) -> None:
    """A weak ETag identifies nothing (RFC 9110, 13.1.5); without a date, it begins anew."""
    publisher.image.etag, publisher.image.last_modified = etag, date
    publisher.image.break_after = [1000]
    assert publisher.fetch().path.read_bytes() == IMAGE
    again = publisher.server.asked("toy.img")[1]
    assert (again.range, again.if_range) == (("bytes=1000-", date) if date else (None, None))


def test_an_image_that_changes_in_the_middle(publisher: Publisher) -> None:
    """Its checksum was asked for before: the new one is not that image, and is not taken for it."""

    def change(file: File) -> None:
        if len(publisher.server.asked("toy.img")) == 2:
            file.data, file.etag = IMAGE[::-1], '"2"'

    publisher.image.before = change
    publisher.image.break_after = [1000]
    assert "is not what its checksum says" in refused(publisher).message


def test_a_part_of_an_image_that_is_not_wanted_any_more_is_removed(publisher: Publisher) -> None:
    publisher.folder.mkdir()
    other = publisher.folder / ".toy-1-0123456789ab.img.part"
    other.write_bytes(b"x")
    foreign = publisher.folder / ".toy-2-0123456789ab.img.part"
    foreign.write_bytes(b"x")
    publisher.fetch()
    assert publisher.there() == {*WHOLE, foreign.name}
    assert publisher.notes == [f"removed {other}: it was part of another image"]


def test_two_at_a_time(publisher: Publisher) -> None:
    publisher.image.hang = threading.Event()
    first = threading.Thread(target=publisher.fetch)
    first.start()
    try:
        while not publisher.metered:
            time.sleep(0.01)
        with pytest.raises(HostError) as caught:
            publisher.fetch()
        assert caught.value.message == f"another vfio-kit downloads {NAME}"
    finally:
        publisher.image.hang.set()
        first.join(10)
    assert publisher.there() == WHOLE


def test_a_link_in_the_place_of_the_part_is_not_followed(
    publisher: Publisher, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    publisher.folder.mkdir()
    (publisher.folder / f".{NAME}.part").symlink_to(precious)
    with pytest.raises(HostError):
        publisher.fetch()
    assert precious.read_text() == "precious"


# The disk.


def test_a_disk_that_is_too_small_is_known_before(publisher: Publisher) -> None:
    """The server says how much will come; nothing of it is asked for."""
    publisher.image.claimed = 1 << 60
    with pytest.raises(HostError) as caught:
        publisher.fetch()
    assert re.search(r"has \d+ MiB free, and 1099511627776 MiB are to come", caught.value.message)
    assert f"df -h {publisher.folder}" in caught.value.hint


FETCH_LIMITED = """
import resource, signal, sys
from pathlib import Path
from vfio_kit.apply.image_fetch import Wanted, fetch_image
from vfio_kit.apply.web import Patience, Web
from vfio_kit.errors import HostError
from tests.unit.test_fetch import row
from vfio_kit.knowledge.cloud_images import SigningKey

class Server:
    def url(self, path): return sys.argv[1] + path

key = SigningKey("x", sys.argv[2], Path(sys.argv[3]))
if sys.argv[5] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]), resource.RLIM_INFINITY))
try:
    web = Web((), lambda text: None, lambda have, total: None, Patience())
    fetch_image(Wanted(row(Server(), key)), Path(sys.argv[4]), web)
except HostError as error:
    print(error.message, error.hint, sep="\\n")
    sys.exit(error.exit_code)
"""


def limited(publisher: Publisher, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    """A process of its own that fetches, and can write no file longer than that."""
    key = publisher.key
    words = (publisher.server.url(""), key.fingerprint, key.file, folder, limit)
    return subprocess.Popen(
        [sys.executable, "-c", FETCH_LIMITED, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_file_that_the_system_will_not_let_grow(publisher: Publisher) -> None:
    process = limited(publisher, publisher.folder, 300_000)
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 4, errors
    assert os.strerror(errno.EFBIG) in said
    assert publisher.there() == PARTS
    assert (publisher.folder / f".{NAME}.part").stat().st_size == 300_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 KiB; root alone can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", "size=256k", "tmpfs")
    subprocess.run(["mount", *options, folder], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_fills_up_in_the_middle(publisher: Publisher, small_disk: Path) -> None:
    """Without a length, nobody knows before."""
    publisher.image.length = False
    with pytest.raises(HostError) as caught:
        fetch_image(Wanted(publisher.row), small_disk, publisher.web())
    assert os.strerror(errno.ENOSPC) in caught.value.message
    assert f"df -h {small_disk}" in caught.value.hint
    assert "the same command goes on from it" in caught.value.hint
    part = small_disk / f".{NAME}.part"
    have = part.stat().st_size
    assert 0 < have < len(IMAGE)
    subprocess.run(["mount", "-o", "remount,size=2M", small_disk], check=True, timeout=10)
    fetched = fetch_image(Wanted(publisher.row), small_disk, publisher.web())
    assert fetched.path.read_bytes() == IMAGE
    assert publisher.server.asked("toy.img")[-1].range == f"bytes={have}-"


def test_a_folder_that_cannot_be_made(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError) as caught:
        fetch_image(Wanted(publisher.row), tmp_path / "file/images", publisher.web())
    assert str(tmp_path / "file/images") in caught.value.message


# Interrupted.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_interrupted_is_gone_on_with(publisher: Publisher, number: int) -> None:
    publisher.image.hang = threading.Event()
    process = limited(publisher, publisher.folder)
    part = publisher.folder / f".{NAME}.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= len(IMAGE) // 2):
        assert time.monotonic() < deadline, process.stderr
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert publisher.there() == PARTS
    publisher.image.hang.set()
    assert publisher.fetch().path.read_bytes() == IMAGE
    assert publisher.server.asked("toy.img")[-1].range == f"bytes={len(IMAGE) // 2}-"
    assert publisher.there() == WHOLE


# Without a signature.

SHA512 = hashlib.sha512(IMAGE).hexdigest()


@pytest.fixture
def unsigned(publisher: Publisher) -> Publisher:
    publisher.server.files[FOLDER + "SHA512SUMS"] = File(f"{SHA512}  toy.img\n".encode())
    return publisher


def fetch_unsigned(publisher: Publisher, digest: str | None) -> Fetched:
    wanted = Wanted(row(publisher.server, None), digest=digest)
    return fetch_image(wanted, publisher.folder, publisher.web())


def test_without_a_signature_it_is_the_operator_who_vouches(unsigned: Publisher) -> None:
    fetched = fetch_unsigned(unsigned, SHA512)
    assert fetched.path.read_bytes() == IMAGE
    assert (fetched.record.signed_by, fetched.record.signed_at) == (None, None)
    assert fetched.record.digest == SHA512
    assert fetched_image("toy-1", unsigned.folder) == fetched.path


def test_without_a_digest_nothing_is_asked_for(unsigned: Publisher) -> None:
    with pytest.raises(UsageError) as caught:
        fetch_unsigned(unsigned, None)
    assert caught.value.exit_code == 2
    assert "nobody signs the checksums of toy-1" in caught.value.message
    assert "--sha512 DIGEST" in caught.value.hint
    assert unsigned.server.url(FOLDER + "SHA512SUMS") in caught.value.hint
    assert unsigned.server.requests == []


def test_a_digest_that_the_server_does_not_have(unsigned: Publisher) -> None:
    with pytest.raises(Refused) as caught:
        fetch_unsigned(unsigned, "ab" * 64)
    assert SHA512 in caught.value.message
    assert "--serial" in caught.value.hint
    assert unsigned.server.asked("toy.img") == []


def test_an_image_that_the_servers_own_list_lies_about(unsigned: Publisher) -> None:
    unsigned.image.data = IMAGE[::-1]
    with pytest.raises(Refused, match="is not what its checksum says"):
        fetch_unsigned(unsigned, SHA512)
    assert unsigned.there() == set()


@pytest.mark.parametrize("digest", ["", "ab", "g" * 128, SHA512[:-1], SHA512.upper(), DIGEST])
def test_a_digest_that_is_none(unsigned: Publisher, digest: str) -> None:
    with pytest.raises(UsageError, match="is no SHA512 digest"):
        fetch_unsigned(unsigned, digest)


def test_a_digest_where_there_is_a_signature(publisher: Publisher) -> None:
    with pytest.raises(UsageError, match="toy-1 takes no digest"):
        fetch_image(Wanted(publisher.row, digest=DIGEST), publisher.folder, publisher.web())
