"""SSH keys: the guest's host key and a client key, made before it boots, or the operator's own."""

import os
import shlex
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from vfio_kit.apply.files import cannot
from vfio_kit.errors import UsageError

_LONGEST = 64 * 1024
"""Bytes; a key of RSA with 16,384 bits is 13 KiB long."""
_SHORTEST_RSA = 2048
"""Bits; what crypto policies of distributions ask for (OpenSSH by itself: RequiredRSASize 1024)."""


@dataclass(frozen=True)
class KeyPair:
    """private: OpenSSH PEM; public: one line as in a .pub file."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"


@dataclass(frozen=True, slots=True)
class GivenKey:
    """The operator's own client key: its private half stays in the file at `path`.

    public: one line as in a .pub file, without a comment.
    """

    path: Path
    public: str


def new_key(comment: str) -> KeyPair:
    """A fresh ed25519 pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return KeyPair(private, f"{public} {comment}")


def load_key(path: Path) -> GivenKey:
    """The private key in a file, which is read and not kept: ed25519, ECDSA or RSA.

    Raises UsageError for a file that is no such key, that others may read (as ssh(1) does), or that
    has a passphrase, for nobody is there to type it; HostError where it cannot be read.
    """
    key = _parsed(path, _private_bytes(path))
    if isinstance(key, RSAPrivateKey) and key.key_size < _SHORTEST_RSA:
        raise UsageError(f"the key {path} is too short: RSA with {key.key_size} bits", _ANOTHER)
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
        raise UsageError(f"the key {path} is of a kind that SSH has no use for", _ANOTHER)
    try:
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm):  # a curve that SSH does not have
        raise UsageError(f"the key {path} is of a kind that SSH has no use for", _ANOTHER) from None
    return GivenKey(path, public.decode())


_ANOTHER = "ssh-keygen -t ed25519 -f FILE makes one that will do"


def _private_bytes(path: Path) -> bytes:
    """What the file holds; its permissions are those of the very file that is read."""
    try:
        # Not to wait for somebody who writes, where it is a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise UsageError(f"the key {path} is no file", "give the path of a private key")
            if state.st_mode & 0o077:
                raise UsageError(
                    f"the key {path} is open to others: its mode is {state.st_mode & 0o777:04o}",
                    f"chmod 600 {shlex.quote(str(path))}; it may have been read: better a new one",
                )
            data = stream.read(_LONGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no key at {path}", "give the path of a private key") from None
    except OSError as error:
        raise cannot("read the key", path, error) from None
    if len(data) > _LONGEST:
        raise UsageError(f"the key {path} is longer than {_LONGEST} bytes: no private key")
    return data


def _parsed(path: Path, data: bytes) -> object:
    if b"-----BEGIN PRIVATE KEY-----" in data:  # paramiko, which logs in with it, cannot read it
        raise UsageError(
            f"the key {path} is written as PKCS 8",
            f"in OpenSSH's own way: ssh-keygen -p -f {shlex.quote(str(path))}",
        )
    openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----" in data
    try:
        with warnings.catch_warnings():  # of kinds that are on their way out; what comes is judged
            warnings.simplefilter("ignore")
            return (load_ssh_private_key if openssh else load_pem_private_key)(data, None)
    except TypeError:  # what cryptography raises where a password is missing
        raise UsageError(
            f"the key {path} has a passphrase, and nobody is there to type it",
            "give one without; or leave this one out, and give its public half as "
            "ssh.authorized_keys: then it opens the guest beside the key that is made for it",
        ) from None
    except UnsupportedAlgorithm:
        raise UsageError(
            f"the key {path} is of a kind that cannot be used here, as one on a hardware token",
            _ANOTHER,
        ) from None
    except ValueError:
        what = "a public key" if _is_public(data) else "no private key"
        raise UsageError(f"{path} holds {what}", "give the private half, without .pub") from None


def _is_public(data: bytes) -> bool:
    return data.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-"))
