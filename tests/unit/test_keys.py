"""The operator's own client key: which files are one, and that it opens what its public half does.

The keys are made by ssh-keygen, as an operator's are.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.machines import m4000_isolated, write_machine
from tests.unit.ssh_server import SshServer, answer
from tests.unit.test_cli import vfio_kit
from tests.unit.tools import accepts, run
from tests.unit.values import said
from vfio_kit.apply.keys import KeyPair, load_key, new_key
from vfio_kit.errors import HostError, UsageError, VfioKitError
from vfio_kit.guest.ssh import Connection

KINDS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa of 256 bits": ("-t", "ecdsa", "-b", "256"),
    "ecdsa of 384 bits as PEM": ("-t", "ecdsa", "-b", "384", "-m", "PEM"),
    "ecdsa of 521 bits": ("-t", "ecdsa", "-b", "521"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa as PEM": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
}


def generated(folder: Path, *words: str, passphrase: str = "") -> Path:
    path = folder / "key"
    accepts("ssh-keygen", "-q", "-N", passphrase, "-C", "me@desk", "-f", path, *words)
    return path


def refusal(path: Path) -> VfioKitError:
    with pytest.raises(VfioKitError) as caught:
        load_key(path)
    assert str(path) in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_opens_the_guest_that_has_its_public_half(kind: str, tmp_path: Path) -> None:
    path = generated(tmp_path, *KINDS[kind])
    given = load_key(path)
    assert given.path == path
    said_by_ssh = path.with_name("key.pub").read_text().split()
    assert given.public.split() == said_by_ssh[:2]
    path.with_name("key.pub").unlink()
    guest = KeyPair("what the server itself has no use for", given.public)
    with (
        SshServer(tmp_path, {"true": answer(said())}, client_key=guest) as server,
        Connection(replace(server.target(), identity=path)) as connection,
    ):
        assert connection.run("true").exit_status == 0


def test_a_key_by_way_of_a_link(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519")
    link = tmp_path / "link"
    link.symlink_to(path)
    assert load_key(link).public == load_key(path).public


@pytest.mark.parametrize("words", [(), ("-m", "PEM"), ("-m", "PKCS8")], ids=str)
def test_nobody_is_there_to_type_a_passphrase(words: tuple[str, ...], tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "rsa", "-b", "2048", *words, passphrase="let me in")
    error = refusal(path)
    assert isinstance(error, UsageError)
    assert "has a passphrase" in error.message
    assert "ssh.authorized_keys" in error.hint


def test_pkcs_8_is_rewritten_by_the_command_that_is_told(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "rsa", "-b", "2048", "-m", "PKCS8")
    error = refusal(path)
    assert error.message == f"the key {path} is written as PKCS 8"
    assert f"ssh-keygen -p -f {path}" in error.hint
    accepts("ssh-keygen", "-q", "-p", "-P", "", "-N", "", "-f", path)
    assert load_key(path).public.startswith("ssh-rsa ")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o777, 0o601, 0o610])
def test_a_key_that_is_open_to_others_is_none(mode: int, tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519")
    path.chmod(mode)
    error = refusal(path)
    assert isinstance(error, UsageError)
    assert f"is open to others: its mode is {mode:04o}" in error.message
    assert f"chmod 600 {path}" in error.hint


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_that_is_its_owner_s(mode: int, tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519")
    path.chmod(mode)
    assert load_key(path).public.startswith("ssh-ed25519 ")


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "rsa", "-b", "1024")
    error = refusal(path)
    assert "RSA with 1024 bits" in error.message
    assert "ssh-keygen -t ed25519" in error.hint


def test_the_public_half_is_not_the_key(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519").with_name("key.pub")
    path.chmod(0o600)
    error = refusal(path)
    assert "holds a public key" in error.message
    assert "without .pub" in error.hint


_WHOLE = new_key("me@desk").private
NO_KEYS = {
    "nothing": b"",
    "text": b"hello\n",
    "zeros": bytes(4096),
    "noise": bytes(range(256)) * 8,
    "half a key": _WHOLE[: len(_WHOLE) // 2].encode(),
    "a key without its end": _WHOLE.replace("-----END OPENSSH PRIVATE KEY-----", "").encode(),
    "a key with a letter changed": _WHOLE.replace("b3Bl", "b3Bm", 1).encode(),
    "a head alone": b"-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
    "another kind of PEM": (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    ),
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_what_is_no_key_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(NO_KEYS[name])
    path.chmod(0o600)
    error = refusal(path)
    assert isinstance(error, UsageError)
    assert "holds no private key" in error.message


def test_a_file_without_end(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(_WHOLE.encode() + b"\n" * (1 << 17))
    path.chmod(0o600)
    assert "longer than 65536 bytes" in refusal(path).message


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no key at" in refusal(tmp_path / "none").message
    assert "no key at" in refusal(tmp_path / "none" / "below").message
    (tmp_path / "pipe").touch(0o600)
    assert "no key at" in refusal(tmp_path / "pipe" / "below").message
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is no file" in refusal(tmp_path / "fifo").message
    (tmp_path / "loop").symlink_to("loop")
    loop = refusal(tmp_path / "loop")
    assert isinstance(loop, HostError)


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert isinstance(refusal(folder), VfioKitError)


def test_no_error_shows_what_the_file_holds(tmp_path: Path) -> None:
    secret = _WHOLE.splitlines()[2]
    for name, data in {**NO_KEYS, "long": _WHOLE.encode() * 400}.items():
        path = tmp_path / "key"
        path.write_bytes(data)
        path.chmod(0o600)
        error = refusal(path)
        assert secret not in error.message + error.hint, name
    path.write_text(_WHOLE)
    assert secret not in repr(load_key(path))


def test_a_key_pair_shows_its_public_half_alone() -> None:
    pair = new_key("me@desk")
    assert pair.private.splitlines()[2] not in repr(pair)
    assert pair.public in repr(pair)


def test_a_fresh_key_is_one_that_ssh_takes(tmp_path: Path) -> None:
    pair = new_key("vfio-kit@gpu-vm")
    path = tmp_path / "key"
    path.write_text(pair.private)
    path.chmod(0o600)
    done = run("ssh-keygen", "-y", "-f", path)
    assert done.stdout.split()[:2] == pair.public.split()[:2]
    assert load_key(path).public.split() == pair.public.split()[:2]


def test_a_rendered_seed_lets_the_operator_s_own_key_in(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519")
    root = write_machine(tmp_path / "tree", m4000_isolated())
    out = tmp_path / "out"
    words = ("--gpu", "01:00.0", "--output", "cloud-init", "--identity", path, "--root", root)
    result = vfio_kit("render", *words, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert sorted(file.name for file in out.iterdir()) == [
        *("known_hosts", "meta-data", "network-config", "user-data")
    ]
    (user,) = yaml.safe_load((out / "user-data").read_text())["users"]
    assert user["ssh_authorized_keys"] == [load_key(path).public]
    assert path.read_text().splitlines()[2] not in "".join(f.read_text() for f in out.iterdir())


def test_a_key_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = generated(tmp_path, "-t", "ed25519", passphrase="let me in")
    root = write_machine(tmp_path / "tree", m4000_isolated())
    words = ("--gpu", "01:00.0", "--output", "cloud-init", "--identity", path, "--root", root)
    result = vfio_kit("render", *words, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "has a passphrase" in result.stderr
    assert not (tmp_path / "out").exists()
