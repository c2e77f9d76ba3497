"""A GPU host on loopback: an SSH server, behind which the checkout's own vfio-kit is really run.

The client is OpenSSH's; the shell's line is run by sh, with its stdin, stdout and stderr as they
come. The host's tools are scripts in a folder of its own.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko

from tests.unit.ssh_server import Behaviour, SshServer

CHECKOUT = Path(__file__).resolve().parents[2]


class GpuHost:
    """Listens while it is entered.

    tools        name -> text of a shell script, first in the PATH; vfio-kit is one of them.
    environment  beside the PATH.
    forced       what authorized_keys has as command=, in the place of what is asked for.
    lines        of shell that it was asked to run.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str | Path] | None = None,
        tools: Mapping[str, str] | None = None,
        forced: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        ours = f'exec {sys.executable} -m vfio_kit "$@"'
        for name, text in ({"vfio-kit": ours} | dict(tools or {})).items():
            (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.bin / name).chmod(0o755)
        self._environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PYTHONPATH": str(CHECKOUT),
            "LANG": "C.UTF-8",
            "VFIO_KIT_LOCK_DIR": os.environ["VFIO_KIT_LOCK_DIR"],
            **{key: str(value) for key, value in (environment or {}).items()},
        }
        self._forced = forced
        self.lines: list[str] = []
        self._server = SshServer(folder, shell=self._shell)
        self._server.identity.chmod(0o600)
        self.known_hosts = self._server.known_hosts(
            f"[127.0.0.1]:{self._server.port} {self._server.host_key.public}"
        )
        self.identity, self.port = self._server.identity, self._server.port

    @property
    def uri(self) -> str:
        return (
            f"qemu+ssh://root@127.0.0.1:{self.port}/system"
            f"?keyfile={self.identity}&known_hosts={self.known_hosts}"
        )

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, value, traceback)

    def _shell(self, line: str) -> Behaviour:
        self.lines.append(line)

        def behave(channel: paramiko.Channel) -> None:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._forced or line],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                cwd=self.folder,
                bufsize=0,
                start_new_session=True,
            )
            assert process.stdin and process.stdout and process.stderr
            threading.Thread(target=_feed, args=(channel, process), daemon=True).start()
            complaints = threading.Thread(
                target=_pour, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True
            )
            complaints.start()
            _pour(process.stdout.fileno(), channel.sendall)
            complaints.join()
            status = process.wait()
            process.stdout.close()
            process.stderr.close()
            if status >= 0:  # else as sshd has it, whose client then ends with 255
                channel.send_exit_status(status)
            channel.close()

        return behave


def _feed(channel: paramiko.Channel, process: "subprocess.Popen[bytes]") -> None:
    """The client's words, and their end, which is also the end of the connection."""
    assert process.stdin
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(1 << 15):
            process.stdin.write(data)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _pour(handle: int, to: object) -> None:
    assert callable(to)
    while data := os.read(handle, 1 << 15):
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            to(data)  # whoever went away does not keep the program from ending
