"""Signatures: whose they must be, and every way in which one is no good."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.fixtures import FIXTURES
from tests.unit.gpg import BEFORE, LATER, Gpg, gpg_home
from vfio_kit.apply.openpgp import Signed, judge, verify
from vfio_kit.errors import HostError, Refused, VfioKitError
from vfio_kit.knowledge.cloud_images import UBUNTU_CLOUD_KEY, SigningKey

DATA = b"a list of checksums\n"


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    with gpg_home(tmp_path_factory.mktemp("gpg") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def ours(gpg: Gpg, tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return gpg.public(gpg.key("ours"), tmp_path_factory.mktemp("ours") / "key.asc")


@pytest.fixture(scope="module")
def stranger(gpg: Gpg) -> str:
    return gpg.key("stranger")


def refusal(data: bytes, signature: bytes, key: SigningKey) -> str:
    with pytest.raises(Refused) as caught:
        verify(data, signature, key, "sums.gpg")
    assert key.fingerprint in caught.value.hint
    start = "the signature sums.gpg is not accepted: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


# What Canonical published, with the key that is shipped.

PUBLISHED = (FIXTURES / "images/noble-SHA256SUMS").read_bytes()
PUBLISHED_SIGNATURE = (FIXTURES / "images/noble-SHA256SUMS.gpg").read_bytes()


def test_the_shipped_key_vouches_for_what_canonical_published() -> None:
    assert verify(PUBLISHED, PUBLISHED_SIGNATURE, UBUNTU_CLOUD_KEY, "x") == Signed(
        "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81",
        datetime(2026, 9, 26, 18, 23, 12, tzinfo=UTC),
    )


def test_a_digit_changed_in_what_canonical_published() -> None:
    changed = PUBLISHED.replace(b"6a81c375", b"6a81c376")
    assert changed != PUBLISHED
    assert "does not belong" in refusal(changed, PUBLISHED_SIGNATURE, UBUNTU_CLOUD_KEY)


# Keys of our own.


def test_a_good_signature_says_who_and_when(gpg: Gpg, ours: SigningKey) -> None:
    signature = gpg.sign(DATA, ours.fingerprint, options=("--faked-system-time", "20400229T101112"))
    signed = verify(DATA, signature, ours, "x")
    assert signed == Signed(ours.fingerprint, datetime(2040, 2, 29, 10, 11, 12, tzinfo=UTC))


def test_a_binary_signature_serves_as_well(gpg: Gpg, ours: SigningKey) -> None:
    signature = gpg.sign(DATA, ours.fingerprint, options=("--no-armor",))
    armoured = gpg.sign(DATA, ours.fingerprint)
    assert armoured.startswith(b"-----BEGIN PGP SIGNATURE")
    for one in (signature, armoured):
        assert verify(DATA, one, ours, "x").fingerprint == ours.fingerprint


def test_a_signature_by_another_key(gpg: Gpg, ours: SigningKey, stranger: str) -> None:
    why = refusal(DATA, gpg.sign(DATA, stranger), ours)
    assert why == f"it is by another key: {stranger[-16:]}"


def test_a_key_whose_fingerprint_only_ends_alike(gpg: Gpg, ours: SigningKey) -> None:
    """A key is not believed for its short id: its whole fingerprint counts."""
    alike = SigningKey(ours.owner, "0" * 24 + ours.fingerprint[24:], ours.file)
    signature = gpg.sign(DATA, ours.fingerprint)
    assert refusal(DATA, signature, alike) == f"it is by another key: {ours.fingerprint}"


def test_a_subkey_signs_for_its_primary_key(gpg: Gpg, tmp_path: Path) -> None:
    primary = gpg.key("with a subkey")
    gpg.run("--quick-add-key", primary, "ed25519", "sign", "0")
    key = gpg.public(primary, tmp_path / "key.asc")
    signature = gpg.sign(DATA, primary)  # gpg takes the newest subkey that signs
    assert verify(DATA, signature, key, "x").fingerprint == primary


def test_a_key_that_has_expired(gpg: Gpg, tmp_path: Path) -> None:
    fingerprint = gpg.key("expired", *BEFORE, life="1d")
    key = gpg.public(fingerprint, tmp_path / "key.asc")
    assert refusal(DATA, gpg.sign(DATA, fingerprint, options=LATER), key) == "its key has expired"


def test_a_key_that_was_revoked(gpg: Gpg, tmp_path: Path) -> None:
    fingerprint = gpg.key("revoked")
    signature = gpg.sign(DATA, fingerprint)
    gpg.revoke(fingerprint)
    key = gpg.public(fingerprint, tmp_path / "key.asc")
    assert refusal(DATA, signature, key) == "its key was revoked"


def test_a_signature_that_has_expired(gpg: Gpg, tmp_path: Path) -> None:
    fingerprint = gpg.key("old", *BEFORE)
    key = gpg.public(fingerprint, tmp_path / "key.asc")
    signature = gpg.sign(DATA, fingerprint, options=(*LATER, "--default-sig-expire", "1d"))
    assert refusal(DATA, signature, key) == "it has expired"


def test_a_weak_digest(gpg: Gpg, tmp_path: Path) -> None:
    fingerprint = gpg.key("weak", algorithm="rsa1024")
    key = gpg.public(fingerprint, tmp_path / "key.asc")
    signature = gpg.sign(DATA, fingerprint, options=("--digest-algo", "SHA1"))
    assert "weak digest (OpenPGP's number 2)" in refusal(DATA, signature, key)
    strong = gpg.sign(DATA, fingerprint, options=("--digest-algo", "SHA256"))
    assert verify(DATA, strong, key, "x").fingerprint == fingerprint


def test_a_signature_of_a_text_rather_than_of_these_bytes(gpg: Gpg, ours: SigningKey) -> None:
    """Such a one also holds for data with other ends of lines."""
    signature = gpg.sign(DATA, ours.fingerprint, options=("--textmode",))
    assert refusal(DATA, signature, ours) == "it is of the class 01, not of a document"


def test_a_second_signature_by_an_unknown_key_is_passed_over(
    gpg: Gpg, ours: SigningKey, stranger: str
) -> None:
    """So that a publisher may begin to sign with a new key beside the old one."""
    for order in ((ours.fingerprint, stranger), (stranger, ours.fingerprint)):
        signature = gpg.sign(DATA, *order)
        assert verify(DATA, signature, ours, "x").fingerprint == ours.fingerprint


def test_a_bad_signature_beside_a_good_one(gpg: Gpg, ours: SigningKey) -> None:
    binary = ("--no-armor",)
    good = gpg.sign(DATA, ours.fingerprint, options=binary)
    bad = gpg.sign(b"other data\n", ours.fingerprint, options=binary)
    for signature in (good + bad, bad + good):
        assert "does not belong" in refusal(DATA, signature, ours)


def test_what_is_no_signature(gpg: Gpg, ours: SigningKey) -> None:
    for nothing in (b"", b"\n", b"<html><body>Sign in to the network</body></html>\n", b"\0" * 99):
        assert refusal(DATA, nothing, ours) == "there is no signature in it"


def test_a_whole_message_in_the_place_of_a_signature(gpg: Gpg, ours: SigningKey) -> None:
    """It would vouch for its own content, not for the data."""
    who = ("--local-user", ours.fingerprint)
    message = gpg.run(*who, "--sign", stdin=DATA)
    clear = gpg.run(*who, "--clear-sign", stdin=DATA)
    other = gpg.run(*who, "--sign", stdin=b"other data\n")
    for signature in (message, clear, other):
        for data in (DATA, b"other data\n", b"third data\n"):
            refusal(data, signature, ours)


def test_without_gpgv_the_package_is_named(
    ours: SigningKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError) as caught:
        verify(DATA, b"", ours, "x")
    assert "gpgv" in caught.value.message
    assert "apt-get install gpgv" in caught.value.hint


def test_a_damaged_key_file_is_named(ours: SigningKey, tmp_path: Path) -> None:
    file = tmp_path / "key.asc"
    file.write_text(ours.file.read_text().replace("m", "*"))
    with pytest.raises(VfioKitError, match=f"the key {file} is damaged"):
        verify(DATA, b"", SigningKey(ours.owner, ours.fingerprint, file), "x")


@pytest.mark.parametrize("time", ["1790446992", "20260926T182312"])
def test_both_of_gpgvs_forms_of_a_time(time: str) -> None:
    key = UBUNTU_CLOUD_KEY
    status = (
        f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG {key.fingerprint[-16:]} Somebody\n"
        f"[GNUPG:] VALIDSIG {key.fingerprint} 2026-09-26 {time} 0 4 0 1 10 00 {key.fingerprint}\n"
    )
    assert judge(status, key, "x").at == datetime(2026, 9, 26, 18, 23, 12, tzinfo=UTC)


def test_two_halves_of_two_signatures_are_no_whole_one() -> None:
    """GOODSIG and VALIDSIG have to be of the same signature."""
    key = UBUNTU_CLOUD_KEY
    fingerprint = key.fingerprint
    status = (
        f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG {fingerprint[-16:]} Somebody\n[GNUPG:] NEWSIG\n"
        f"[GNUPG:] VALIDSIG {fingerprint} 2026-09-26 1 0 4 0 1 10 00 {fingerprint}\n"
    )
    with pytest.raises(Refused):
        judge(status, key, "x")


def test_gpgv_is_there() -> None:
    """Everything above is worth nothing without it."""
    assert shutil.which("gpgv")
