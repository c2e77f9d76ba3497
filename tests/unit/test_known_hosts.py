"""Host keys as OpenSSH keeps them: ssh-keygen -F is asked, and is right."""

import base64
import subprocess
from pathlib import Path

import pytest

from tests.unit.tools import run
from vfio_kit.apply.keys import new_key
from vfio_kit.errors import GuestError
from vfio_kit.guest.known_hosts import (
    HostKey,
    KnownHost,
    fingerprint,
    known_host,
    matches_pattern,
    revoked_keys,
)

KEYS = [new_key(name).public for name in ("one", "two", "three", "four")]


def _blob(public: str) -> bytes:
    return base64.b64decode(public.split()[1])


def lookup(tmp_path: Path, text: str, name: str) -> KnownHost:
    path = tmp_path / "known_hosts"
    path.write_text(text)
    return known_host(name, (path,), required=True)


@pytest.mark.parametrize(
    "names",
    [
        "gpu1",
        "gpu1,10.0.0.1",
        "GPU1",
        "gpu?",
        "gpu*,!gpu2",
        "!gpu1,gpu*",
        "*",
        "*.lan",
        "[gpu1]:2200",
        "[gpu*]:2200",
        "gpu[12]",
    ],
)
@pytest.mark.parametrize("name", ["gpu1", "gpu2", "host.lan", "[gpu1]:2200", "10.0.0.1"])
def test_names_are_patterns_as_in_openssh(names: str, name: str, tmp_path: Path) -> None:
    found = lookup(tmp_path, f"{names} {KEYS[0]}\n", name).keys
    oracle = run("ssh-keygen", "-F", name, "-f", tmp_path / "known_hosts")
    assert bool(found) == (oracle.returncode == 0)


def test_names_may_be_hashed(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"gpu1 {KEYS[0]}\n[gpu1]:2200 {KEYS[1]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "gpu1" not in path.read_text()
    for name, key in (("gpu1", KEYS[0]), ("[gpu1]:2200", KEYS[1])):
        assert known_host(name, (path,), True).keys == (HostKey("ssh-ed25519", _blob(key)),)
    assert known_host("gpu2", (path,), True).keys == ()


def test_a_host_may_have_several_keys_in_several_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"# a comment\n\ngpu1 {KEYS[0]}\ngpu1 {KEYS[1]} me@here\n")
    (tmp_path / "b").write_text(f"gpu1 {KEYS[0]}\n  gpu1\t{KEYS[2]}  \n")
    files = (tmp_path / "a", tmp_path / "none", tmp_path / "b")
    known = known_host("gpu1", files, required=False)
    assert [key.blob for key in known.keys] == [_blob(key) for key in KEYS[:3]]


def test_a_key_that_is_revoked_is_so_under_every_name(tmp_path: Path) -> None:
    known = lookup(tmp_path, f"@revoked other {KEYS[0]}\ngpu1 {KEYS[0]}\n", "gpu1")
    assert known.revoked == {_blob(KEYS[0])}


def test_an_authority_is_no_key_of_a_host(tmp_path: Path) -> None:
    text = f"@cert-authority *.lan {KEYS[0]}\n"
    assert lookup(tmp_path, text, "gpu1.lan") == KnownHost((), frozenset(), True)
    assert lookup(tmp_path, text, "gpu1") == KnownHost((), frozenset(), False)


def test_keys_of_other_kinds_are_kept(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "key"], check=True
    )
    public = (tmp_path / "key.pub").read_text()
    (key,) = lookup(tmp_path, f"gpu1 {public}", "gpu1").keys
    assert key.kind == "ecdsa-sha2-nistp256"
    listed = run("ssh-keygen", "-lf", tmp_path / "key.pub").stdout.split()[1]
    assert fingerprint(key.blob) == listed


def test_keys_of_ssh_1_are_passed_over(tmp_path: Path) -> None:
    text = f"gpu1 1024 35 1234567890 root@gpu1\ngpu1 {KEYS[0]}\n"
    assert len(lookup(tmp_path, text, "gpu1").keys) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gpu1\n", "line 1: a line has names, the key's type and the key"),
        ("gpu1 ssh-ed25519\n", "line 1: a line has names"),
        (f"\n@unknown gpu1 {KEYS[0]}\n", "line 2: unknown marker @unknown"),
        ("gpu1 ssh-ed25519 AAA\n", "the key is no base64"),
        ("gpu1 ssh-ed25519 AAAA!\n", "the key is no base64"),
        (f"gpu1 ssh-rsa {KEYS[0].split()[1]}\n", "the key is no ssh-rsa key"),
    ],
    # Not the lines themselves: their keys are made anew in each of pytest's processes.
    ids=["one word", "no key", "marker", "short", "no base64", "other type"],
)
def test_a_malformed_line_is_named(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(GuestError) as caught:
        lookup(tmp_path, text, "other")
    assert caught.value.message.startswith(
        f"cannot read the known host keys in {tmp_path / 'known_hosts'}, line "
    )
    assert reason in caught.value.message


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    assert not lookup(tmp_path, "", "gpu1").keys
    assert lookup(tmp_path, f"gpu1 {KEYS[0]}\n", "gpu1").keys


def test_revoked_keys_are_listed_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_text(f"# stolen\n{KEYS[0]} root@gpu1\n\n{KEYS[1]}\n")
    assert revoked_keys(path) == {_blob(KEYS[0]), _blob(KEYS[1])}


def test_a_binary_list_of_revoked_keys_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"{KEYS[0]}\n")
    krl = tmp_path / "krl"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", krl, tmp_path / "key.pub"], check=True)
    with pytest.raises(GuestError, match=r"is a binary list of revoked keys \(KRL\)"):
        revoked_keys(krl)


@pytest.mark.parametrize("content", [None, b"ssh-ed25519\n", b"\xff\n"])
def test_revoked_keys_that_cannot_be_read_are_an_error(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "revoked"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GuestError, match=str(path)):
        revoked_keys(path)


def test_patterns_have_two_wildcards() -> None:
    assert matches_pattern("gpu1", "g?u*")
    assert not matches_pattern("gpu1", "gpu[1]")
