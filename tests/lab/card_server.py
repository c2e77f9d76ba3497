"""Serves the emulated cards to QEMU's `x-pci-proxy-dev`, one thread for each function.

QEMU forwards every config and BAR access over a socketpair, and the other end is here.
Wire format (QEMU 7.2, include/hw/remote/mpqemu-link.h): a head of command (int32), padding
and size (uint64), then `size` bytes; file descriptors may come along.  A BAR access names
the guest-physical address.  Limits of that device: 32-bit BARs, no interrupts.

    python -m tests.lab.card_server RUN_DIR NAME,MODEL,MULTIFUNCTION,FD ...

While the file RUN_DIR/NAME.fault exists, the function reads as all ones, as a card does
that has fallen off the bus.
"""

import array
import contextlib
import os
import socket
import struct
import sys
import threading
from enum import IntEnum
from pathlib import Path

from .cards import MODELS, Bar, ConfigSpace, Function

_HEAD = struct.Struct("<iiQ")
_REPLY = struct.Struct("<iiQQ")
_CONFIG_ACCESS = struct.Struct("<IIi")  # address, value, length
_BAR_ACCESS = struct.Struct("<QQI?")  # address, value, length, memory (else I/O)
_MAX_FDS = 16


class Command(IntEnum):
    """The messages' commands."""

    SYNC_SYSMEM = 0
    RET = 1
    PCI_CFGWRITE = 2
    PCI_CFGREAD = 3
    BAR_WRITE = 4
    BAR_READ = 5
    SET_IRQFD = 6
    DEVICE_RESET = 7


_WITHOUT_REPLY = (Command.SYNC_SYSMEM, Command.SET_IRQFD)


class Device:
    """A function at work: its config space, and BARs that remember what was written."""

    def __init__(self, function: Function, *, multifunction: bool, fault: Path) -> None:
        self._function = function
        self._config = ConfigSpace(function, multifunction=multifunction)
        self._memory: dict[tuple[int, int], int] = {}
        self._fault = fault

    def handle(self, command: Command, body: bytes) -> int:
        """Carry out one message and return what the reply holds."""
        match command:
            case Command.PCI_CFGREAD:
                offset, _, size = _CONFIG_ACCESS.unpack_from(body)
                return _ones(size) if self._gone() else self._config.read(offset, size)
            case Command.PCI_CFGWRITE:
                offset, value, size = _CONFIG_ACCESS.unpack_from(body)
                if not self._gone():
                    self._config.write(offset, size, value)
            case Command.BAR_READ:
                address, _, size, memory = _BAR_ACCESS.unpack_from(body)
                return self._read(address, size, io=not memory)
            case Command.BAR_WRITE:
                address, value, size, memory = _BAR_ACCESS.unpack_from(body)
                self._write(address, size, value, io=not memory)
            case Command.DEVICE_RESET:
                self._config.reset()
                self._memory.clear()
        return 0

    def _gone(self) -> bool:
        return self._fault.exists()

    def _find(self, address: int, io: bool) -> tuple[Bar, int] | None:
        for bar in self._function.bars:
            base = self._config.bar_address(bar)
            if base and base <= address < base + bar.size and bar.io == io:
                return bar, address - base
        return None

    def _read(self, address: int, size: int, *, io: bool) -> int:
        found = self._find(address, io)
        if found is None or self._gone():
            return _ones(size)
        bar, offset = found
        register = self._function.registers.get(offset & ~3) if bar.index == 0 else None
        if register is not None:
            return register >> 8 * (offset & 3) & _ones(size)
        memory = self._memory
        return sum(memory.get((bar.index, offset + i), 0) << 8 * i for i in range(size))

    def _write(self, address: int, size: int, value: int, *, io: bool) -> None:
        found = self._find(address, io)
        if found is None or self._gone():
            return
        bar, offset = found
        for i in range(size):
            self._memory[bar.index, offset + i] = value >> 8 * i & 0xFF


def _ones(size: int) -> int:
    return (1 << 8 * size) - 1


def _receive(sock: socket.socket, size: int) -> bytes:
    """Return `size` bytes; file descriptors that come along (the guest's memory) are closed."""
    data = b""
    while len(data) < size:
        part, ancillary, _, _ = sock.recvmsg(size - len(data), socket.CMSG_SPACE(_MAX_FDS * 4))
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(payload)
                for fd in fds:
                    os.close(fd)
        if not part:
            raise EOFError
        data += part
    return data


def serve(sock: socket.socket, device: Device) -> None:
    """Answer messages until QEMU goes away."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number, _, size = _HEAD.unpack(_receive(sock, _HEAD.size))
            command = Command(number)
            body = _receive(sock, size) if size else b""
            result = device.handle(command, body)
            if command not in _WITHOUT_REPLY:
                sock.sendall(_REPLY.pack(Command.RET, 0, 8, result))


def main(argv: list[str]) -> None:
    """Serve the functions named on the command line until QEMU goes away."""
    run_dir, threads = Path(argv[0]), []
    for argument in argv[1:]:
        name, model, multifunction, fd = argument.split(",")
        device = Device(
            MODELS[model],
            multifunction=multifunction == "on",
            fault=run_dir / f"{name}.fault",
        )
        sock = socket.socket(fileno=int(fd))
        threads.append(threading.Thread(target=serve, args=(sock, device)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
