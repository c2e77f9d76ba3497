"""`vfio-kit verify` of one guest, of ten and of a hundred."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.row import Bound, Local, Row
from benchmarks.timing import commands_in_turns, folder, python
from vfio_kit.guest.probe import COMMANDS
from vfio_kit.guest.runner import wire

_COUNTS = (1, 10, 100)
_SERVERS = 4
_SLOW, _SECONDS = "nvidia-smi", 1.0
_TIMES_SLOWEST = 3.0


def _rows(runs: int) -> Iterator[Row]:
    with folder() as place, ExitStack() as servers:
        ports = [servers.enter_context(_server(place / str(n))) for n in range(_SERVERS)]
        config = place / "ssh_config"
        config.write_text(
            "".join(
                f"Host gpu-{number}\n{ports[number % _SERVERS]}" for number in range(_COUNTS[-1])
            )
        )
        line = wire(COMMANDS[_SLOW], 60)
        commands = {"ssh": ["ssh", "-F", str(config), "gpu-0", line]}
        for count in _COUNTS:
            hosts = place / f"{count}.hosts"
            hosts.write_text("".join(f"gpu-{number}\n" for number in range(count)))
            commands[str(count)] = python("-m", "vfio_kit", "verify", "--json")
            commands[str(count)] += ["--ssh-config", str(config), "--hosts", str(hosts)]
        found = commands_in_turns(commands, runs)
    ssh = Row(f"ssh, a command of {_SECONDS:.0f} s", found["ssh"])
    one = Row("verify, 1 guest", found["1"], ssh.as_floor("ssh"))
    yield from (ssh, one)
    for count in _COUNTS[1:]:
        ratio = Row("", found[str(count)]).median / one.median
        bound = Bound("× the slowest guest", ratio, _TIMES_SLOWEST)
        yield Row(f"verify, {count} guests", found[str(count)], one.as_floor("1 guest"), (bound,))


@contextmanager
def _server(place: Path) -> Iterator[str]:
    """Serves while it is entered; gives what ssh_config says of a guest that it plays."""
    with subprocess.Popen(
        python("-m", "benchmarks.guests", str(place), _SLOW, str(_SECONDS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        port, identity, key = server.stdout.readline().rstrip("\n").split(" ", 2)
        known = place / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {key}\n")
        options = {
            "HostName": "127.0.0.1",
            "Port": port,
            "User": "root",
            "IdentityFile": identity,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(known),
            "LogLevel": "ERROR",
        }
        yield "".join(f"  {option} {value}\n" for option, value in options.items())
        server.stdin.close()


BENCHMARK = Local(
    name="verify",
    title="verify: one guest, ten, a hundred",
    runs=3,
    method=(
        "Whole processes: `python -m vfio_kit verify --json --hosts FILE` of guests that are SSH "
        f"servers on loopback, {_SERVERS} processes in all, on the same machine and the same CPUs: "
        "their side of each handshake is in the figures. Every guest is a login of its own, with "
        "its host key checked, and six commands; the answers are recorded ones of a healthy "
        f"M4000, and its nvidia-smi takes {_SECONDS:.0f} s. The floor of one guest is OpenSSH's "
        "`ssh` that runs this one command; that of many is one guest, which is as slow as the "
        "slowest of them."
    ),
    meaning=(
        "A hundred guests are asked at the same time; what they take beyond the slowest of them is "
        "the CPU time of a hundred handshakes, here of both sides on the same cores."
    ),
    rows=_rows,
)
