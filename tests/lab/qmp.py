"""One command for QEMU's machine protocol."""

import json
import socket
from collections.abc import Callable
from pathlib import Path


def execute(path: Path, command: str) -> object:
    """Run a QMP command without arguments over the socket at `path` and return its result.

    Raises OSError where QEMU does not answer, and RuntimeError where it refuses.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        stream = sock.makefile("rw")
        stream.readline()  # the greeting
        result: object = None
        for name in ("qmp_capabilities", command):
            stream.write(json.dumps({"execute": name}) + "\n")
            stream.flush()
            result = _reply(stream.readline, name)
        return result


def _reply(readline: Callable[[], str], command: str) -> object:
    while True:
        line = readline()
        if not line:
            raise ConnectionError(f"QEMU closed its QMP socket during {command}")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"QEMU refused {command}: {reply['error']}")
        if "return" in reply:
            return reply["return"]
