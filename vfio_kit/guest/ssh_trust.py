"""Whether a server is the one that is meant: its key is known beforehand, or there is no login."""

from collections.abc import Iterable
from pathlib import Path

from vfio_kit.errors import GuestError
from vfio_kit.guest.known_hosts import (
    DEFAULT_FILES,
    fingerprint,
    known_host,
    revoked_keys,
)
from vfio_kit.guest.target import Target

_RSA = ("rsa-sha2-512", "rsa-sha2-256")
"""The signatures that a key of type ssh-rsa makes (RFC 8332)."""


class WrongHostKey(GuestError):
    """The server proved to be another one than expected."""


class Trust:
    """What is known of a target's host keys before anything is sent; raises GuestError."""

    def __init__(self, target: Target) -> None:
        self._target = target
        options = target.options
        self._files = options.known_hosts or tuple(Path(f).expanduser() for f in DEFAULT_FILES)
        if target.known_hosts is not None:
            self._files = (target.known_hosts,)
        self._known = known_host(target.key_name, self._files, target.known_hosts is not None)
        self._revoked = self._known.revoked
        if options.revoked is not None:
            self._revoked |= revoked_keys(options.revoked)

    def ordered(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """The key types to ask for: those that are known first, so that the server shows one."""
        known = {key.kind for key in self._known.keys}
        if "ssh-rsa" in known:
            known.update(_RSA)
        return tuple(sorted(kinds, key=lambda kind: kind not in known))

    def check(self, kind: str, blob: bytes) -> None:
        """Returns only where the server's key is the known one and not revoked."""
        shown = f"it showed {kind} {fingerprint(blob)}"
        if blob in self._revoked:
            raise WrongHostKey(
                f"{self._target}: its host key is revoked ({shown})",
                "whoever has that key is not to be trusted; give the machine a new one",
            )
        if any(key.blob == blob for key in self._known.keys):
            return
        if self._known.keys:
            raise WrongHostKey(
                f"{self._target}: the host key is not the one that is known: this is another "
                f"machine, or somebody is in between ({shown})",
                "nothing was sent; compare: ssh-keyscan and the machine's own console",
            )
        raise self._unknown(shown)

    def _unknown(self, shown: str) -> GuestError:
        files = ", ".join(map(str, self._files))
        reason = f"no line for {self._target.key_name} in {files}"
        if self._known.authority:
            reason += " but a @cert-authority, and vfio-kit does not take host certificates"
        return GuestError(
            f"{self._target}: its host key is not known, and unknown keys are not trusted: "
            f"{reason}; {shown}",
            "on the machine's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; "
            "where that is the same,\nadd the key to known_hosts, or give a file that has it: "
            "--known-hosts FILE (StrictHostKeyChecking no changes nothing)",
        )
