"""Whom to speak to over SSH, by which way, and what proves that it is them."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SshOptions:
    """What ssh_config(5) says of a target; the defaults are OpenSSH's.

    agent             a socket's path, "SSH_AUTH_SOCK" for the environment's, or "none".
    identities        private keys, or public ones whose private half the agent has.
    identities_only   no key of the agent but those of `identities`.
    certificates      of users, for `identities`.
    known_hosts       the user's files and then the system's; empty for OpenSSH's own.
    revoked           RevokedHostKeys: a file with public keys.
    family            "any", "inet" or "inet6".
    connect_timeout   seconds for the TCP connection.
    jump              the last hop before the target; it may have one itself.
    proxy_command     a program that carries the connection on its stdin and stdout.
    not_honoured      options that were asked for and have no effect here.
    """

    agent: str = "SSH_AUTH_SOCK"
    identities: tuple[Path, ...] = ()
    identities_only: bool = False
    certificates: tuple[Path, ...] = ()
    known_hosts: tuple[Path, ...] = ()
    revoked: Path | None = None
    family: str = "any"
    connect_timeout: float = 15
    jump: "Target | None" = None
    proxy_command: str | None = None
    not_honoured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to connect to, and what proves that it is them.

    known_hosts  the only file to look in; None for those of `options`.
    alias        the name under which known_hosts has the key (OpenSSH's HostKeyAlias).
    identity     the only key to use; None for the agent and those of `options`.
    """

    host: str
    port: int
    user: str
    identity: Path | None = None
    known_hosts: Path | None = None
    alias: str | None = None
    options: SshOptions = field(default_factory=SshOptions)

    def __str__(self) -> str:
        if self.port == 22:
            return f"{self.user}@{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"

    @property
    def key_name(self) -> str:
        """The name that known_hosts has the key under."""
        if self.alias is not None:
            return self.alias
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"
