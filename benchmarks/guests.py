"""Guests to verify: SSH servers on loopback that give recorded answers of healthy tools.

    python -m benchmarks.guests FOLDER PROBE SECONDS

prints its port, its client key's file and its host key, and serves until its stdin ends. One of
the probes takes SECONDS, as nvidia-smi does without persistence; it may play any number of guests,
each by a connection of its own.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from tests.unit.fixtures import healthy
from tests.unit.ssh_server import Behaviour, SshServer, answer
from vfio_kit.guest.probe import COMMANDS


def main(folder: Path, slow: str, seconds: float) -> None:
    folder.mkdir()
    commands = {COMMANDS[code]: answer(result) for code, result in healthy().items()}
    commands[COMMANDS[slow]] = _late(commands[COMMANDS[slow]], seconds)
    with SshServer(folder, commands) as server:
        server.identity.chmod(0o600)  # or ssh does not take it
        print(server.port, server.identity, server.host_key.public, flush=True)
        sys.stdin.read()


def _late(behave: Behaviour, seconds: float) -> Callable[[paramiko.Channel], None]:
    def later(channel: paramiko.Channel) -> None:
        time.sleep(seconds)
        behave(channel)

    return later


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
