"""Signatures of lists of checksums, judged by gpgv against one key that we know by fingerprint.

gpgv says what it found in lines `[GNUPG:] KEYWORD …`, described in GnuPG's doc/DETAILS; its exit
status alone does not tell a good signature by our key from one by another key of the keyring.
"""

import base64
import binascii
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vfio_kit.apply.command import ask
from vfio_kit.apply.files import cannot
from vfio_kit.errors import HostError, Refused, VfioKitError
from vfio_kit.knowledge.cloud_images import SigningKey

_STRONG = {"8": "SHA256", "9": "SHA384", "10": "SHA512", "11": "SHA224", "12": "SHA3-256"}
"""RFC 9580, 9.5. Not given to gpgv as --weak-digest, which would also turn down the SHA-1 that
Ubuntu's key of 2009 has in its signature of itself."""

_WRONG = {
    "BADSIG": "it does not belong to these data",
    "EXPSIG": "it has expired",
    "EXPKEYSIG": "its key has expired",
    "REVKEYSIG": "its key was revoked",
    "NODATA": "there is no signature in it",
    "BADARMOR": "it is damaged",
    "PLAINTEXT": "it is a message of its own, not a signature of these data",
    "UNEXPECTED": "it is no signature alone",
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A good signature by the key that was asked for."""

    fingerprint: str
    at: datetime
    """When it was made, as it says itself; UTC."""


def verify(data: bytes, signature: bytes, key: SigningKey, what: str) -> Signed:
    """Judges a detached signature of `data`; raises Refused, with the reason, where it is no good.

    `what` names the signature in the error. Other signatures beside that of `key` are passed over
    where their keys are unknown, and count against it where they are bad.
    """
    if shutil.which("gpgv") is None:
        raise HostError(
            "the program gpgv is missing, and without it nothing can be verified",
            "on Debian and Ubuntu: apt-get install gpgv",
        )
    with tempfile.TemporaryDirectory(prefix="vfio-kit-gpgv-") as folder:
        files = {
            "keyring.gpg": _dearmoured(key.file),
            "signature": signature,
            "data": data,
        }
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        done = ask(
            [
                *("gpgv", "--homedir", folder, "--keyring", f"{folder}/keyring.gpg"),
                *("--status-fd", "1", f"{folder}/signature", f"{folder}/data"),
            ]
        )
    return judge(done.stdout, key, what)


def judge(status: str, key: SigningKey, what: str) -> Signed:
    """The verdict on gpgv's status lines; raises Refused with the reason."""
    lines = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    for keyword, *_ in filter(None, lines):
        if keyword in _WRONG:
            raise _refused(what, _WRONG[keyword], key)
    good = [signed for group in _signatures(lines) if (signed := _good(group, key, what))]
    if good:
        return good[0]
    others = sorted({words[1] for words in lines if words[0] in ("NO_PUBKEY", "VALIDSIG")})
    by = f"it is by another key: {', '.join(others)}" if others else _WRONG["NODATA"]
    raise _refused(what, by, key)


def _signatures(lines: list[list[str]]) -> Iterator[dict[str, list[str]]]:
    """What was said of each signature, by keyword."""
    group: dict[str, list[str]] = {}
    for keyword, *rest in filter(None, lines):
        if keyword == "NEWSIG" and group:
            yield group
            group = {}
        group[keyword] = rest
    yield group


def _good(group: dict[str, list[str]], key: SigningKey, what: str) -> Signed | None:
    """A good signature by this key; None for one by another; Refused where its digest is weak.

    VALIDSIG: fingerprint, date, time, expiry, version, reserved, public key algorithm, digest
    algorithm, class (00: of a binary document), fingerprint of the primary key.
    """
    valid = group.get("VALIDSIG", [])
    if "GOODSIG" not in group or len(valid) < 10 or valid[9] != key.fingerprint:
        return None
    if valid[7] not in _STRONG:
        raise _refused(what, f"it was made with a weak digest (OpenPGP's number {valid[7]})", key)
    if valid[8] != "00":
        raise _refused(what, f"it is of the class {valid[8]}, not of a document", key)
    return Signed(valid[9], _time(valid[2]))


def _time(text: str) -> datetime:
    """Seconds since 1970, or from some versions on ISO 8601 with a T (doc/DETAILS)."""
    if "T" in text:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return datetime.fromtimestamp(int(text), UTC)


def _refused(what: str, why: str, key: SigningKey) -> Refused:
    return Refused(
        f"the signature {what} is not accepted: {why}",
        f"it has to be by {key.owner}, {key.fingerprint}\n"
        "repeat it once: the publisher may be replacing its files just now; else do not trust "
        "what this server has",
    )


def _dearmoured(file: Path) -> bytes:
    """The binary form of an armoured key, which is what gpgv takes (RFC 9580, 6.2)."""
    try:
        text = file.read_text("ascii")
    except OSError as error:
        raise cannot("read", file, error) from None
    body = text.partition("\n\n")[2].partition("\n-----END")[0]
    lines = [line for line in body.splitlines() if not line.startswith("=")]  # the CRC-24
    try:
        return base64.b64decode("".join(lines), validate=True)
    except binascii.Error as error:
        raise VfioKitError(
            f"the key {file} is damaged: {error}", "install vfio-kit again"
        ) from None
