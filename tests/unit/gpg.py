"""OpenPGP keys of our own, made by the real gpg in a folder of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfio_kit.knowledge.cloud_images import SigningKey

BEFORE = ("--faked-system-time", "20200101T120000")
"""As if it were the first day of 2020; gpg's clock goes on from there."""
LATER = ("--faked-system-time", "20200101T180000")
"""The same day, and late enough for a key that a busy machine took its time to make."""


class Gpg:
    """A folder of keys without passphrases."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        assert shutil.which("gpg"), "gpg is missing: apt-get install gnupg"
        words = ("gpg", "--homedir", self._home, "--batch", "--quiet", "--passphrase", "")
        done = subprocess.run(
            [*map(str, (*words, "--pinentry-mode", "loopback", *arguments))],
            check=False,
            capture_output=True,
            input=stdin,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, *options: str, algorithm: str = "ed25519", life: str = "0") -> str:
        """The fingerprint of a new key that signs; `life` as gpg has it: 1d, 0 for ever."""
        self.run(*options, "--quick-gen-key", name, algorithm, "sign", life)
        lines = self.run("--with-colons", "--list-keys", f"={name}").decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def public(self, fingerprint: str, file: Path) -> SigningKey:
        file.write_bytes(self.run("--armor", "--export", fingerprint))
        return SigningKey("Somebody <somebody@example.org>", fingerprint, file)

    def sign(self, data: bytes, *fingerprints: str, options: tuple[str, ...] = ()) -> bytes:
        signers = [word for one in fingerprints for word in ("--local-user", one)]
        return self.run(*options, *signers, "--armor", "--detach-sign", stdin=data)

    def revoke(self, fingerprint: str) -> None:
        """By the certificate that gpg made with the key; a colon keeps it from being imported."""
        text = (self._home / f"openpgp-revocs.d/{fingerprint}.rev").read_text()
        self.run("--import", stdin=text.replace(":-----BEGIN", "-----BEGIN").encode())


@contextmanager
def gpg_home(home: Path) -> Iterator[Gpg]:
    """Makes the folder, and ends in the end the agent that gpg starts for it."""
    home.mkdir(mode=0o700)
    try:
        yield Gpg(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, timeout=60)
