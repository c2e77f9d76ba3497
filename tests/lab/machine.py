"""Starts, restarts and stops the one emulated host, and judges its health."""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import process, qmp, ssh
from .disk import run
from .faults import Evidence, LabFault, signs_of_fault, signs_of_kernel
from .paths import cache_dir, run_dir
from .topologies import TOPOLOGIES, Topology

MEMORY_MIB = 8192
DISK_MIB = 512
SSH_LIMIT = 300.0
SETTLE_LIMIT = 180.0
_SERIAL_LIMIT = 1 << 24
_READY = "lab: sshd listens"
_GREETING_LIMIT = 60.0
_CPU = "EPYC,+svm,-x2apic"
# The guest's disk is read once (1.7 s), so that a guest reads it from the page cache: it had its
# address after 57 and 66 s in two boots, and after 68 and 72 s in two without.
_SETTLE = (
    "systemctl is-system-running --wait; udevadm settle; "
    "cat /var/lib/libvirt/images/guest.qcow2 > /dev/null"
)

Say = Callable[[str], None]


class LabError(Exception):
    """The lab was used in a way that it cannot follow."""


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of the host that runs: kept in `run/state.json`."""

    topology: str
    port: int
    boots: int = 1
    from_disk: bool = False

    def save(self) -> None:
        """Write the state where the next command finds it."""
        _state_file().write_text(json.dumps(asdict(self)) + "\n")


def _state_file() -> Path:
    return run_dir() / "state.json"


def _pid_file() -> Path:
    return run_dir() / "qemu.pid"


def _serial() -> str:
    try:
        return (run_dir() / "serial.log").read_bytes()[-_SERIAL_LIMIT:].decode(errors="replace")
    except FileNotFoundError:
        return ""


def state() -> State:
    """Return the state of the host that was started last; LabError where there is none."""
    try:
        return State(**json.loads(_state_file().read_text()))
    except FileNotFoundError:
        raise LabError("no host was started: python -m tests.lab up TOPOLOGY") from None


def running() -> bool:
    """Tell whether QEMU runs."""
    return process.running(_pid_file()) is not None


def signs() -> tuple[str, ...]:
    """Return why the emulator is at fault; nothing where it is sound."""
    try:
        output = (run_dir() / "qemu.log").read_text(errors="replace")
    except FileNotFoundError:
        output = ""
    alive = running()
    answers = not alive or _answers()
    serial = _serial()
    listens = alive and answers and serial.count(_READY) >= state().boots
    greets = not listens or _greets()
    return signs_of_fault(Evidence(output, serial, state().boots, alive, answers, greets))


def _greets() -> bool:
    """Tell whether sshd says its version; a host that is busy has a minute."""
    try:
        with socket.create_connection(("127.0.0.1", state().port), _GREETING_LIMIT) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _answers() -> bool:
    """Tell whether QEMU's main loop turns; it has twice the time of a QMP command."""
    for _ in range(2):
        try:
            qmp.execute(run_dir() / "qmp", "query-status")
        except OSError:
            continue
        return True
    return False


def check_health() -> None:
    """Raise LabFault where the emulator, and not what ran in it, is at fault."""
    if found := signs():
        raise LabFault("; ".join(found))


def start(name: str, say: Say, *, from_disk: bool = False) -> None:
    """Start the host of a topology on a fresh disk, and return once SSH answers.

    `from_disk` lets it boot by its own GRUB, and so with kernel parameters that were changed.
    """
    if running():
        raise LabError(f"{state().topology} already runs: python -m tests.lab down")
    topology = TOPOLOGIES[name]
    _clean_run_dir()
    for disk in ("host", "store"):
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        overlay = run_dir() / f"{disk}.qcow2"
        run([*create, "-b", cache_dir() / f"{disk}.raw", overlay])
    for number, _ in enumerate(topology.disks):
        with _disk_file(number).open("wb") as file:
            file.truncate(DISK_MIB << 20)
    now = State(topology=name, port=_free_port(), from_disk=from_disk)
    now.save()
    started = time.monotonic()
    _launch(topology, now)
    _wait_until_usable(started, say)


def _launch(topology: Topology, now: State) -> None:
    """Start the cards' server and QEMU, joined by a socketpair for each function."""
    pairs = [(card, *socket.socketpair()) for card in topology.cards]
    functions = [
        f"{card.name},{card.function.model},{'on' if card.multifunction else 'off'},{ours.fileno()}"
        for card, ours, _ in pairs
    ]
    process.start(
        process.module_argv("card_server", str(run_dir()), *functions),
        run_dir() / "cards.pid",
        run_dir() / "cards.log",
        fds=[ours.fileno() for _, ours, _ in pairs],
    )
    cards = [word for card, _, qemu in pairs for word in ("-device", card.device(qemu.fileno()))]
    process.start(
        _qemu_argv(topology, now, cards),
        _pid_file(),
        run_dir() / "qemu.log",
        fds=[qemu.fileno() for _, _, qemu in pairs],
    )
    for _, ours, qemu in pairs:
        ours.close()
        qemu.close()


def _qemu_argv(topology: Topology, now: State, cards: list[str]) -> list[str]:
    """Return QEMU's command line.  The proxy device needs guest memory that can be shared."""
    state_dir = run_dir()
    argv = ["qemu-system-x86_64", "-name", f"lab-{topology.name}", "-nodefaults", "-no-user-config"]
    argv += ["-accel", "tcg,thread=multi", "-cpu", _CPU, "-display", "none"]
    argv += _cpus_and_memory(topology.nodes)
    argv += [
        "-serial",
        f"file:{state_dir}/serial.log",
        "-qmp",
        f"unix:{state_dir}/qmp,server=on,wait=off",
    ]
    for disk in ("host", "store"):
        drive = f"file={state_dir}/{disk}.qcow2,if=none,id={disk},cache=unsafe,discard=unmap"
        argv += ["-drive", drive]
    argv += ["-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{now.port}-:22"]
    if not now.from_disk:
        argv += ["-kernel", f"{cache_dir()}/host-vmlinuz", "-initrd", f"{cache_dir()}/host-initrd"]
        kernel = "root=LABEL=gpuhost-root ro console=ttyS0 loglevel=6"  # 6 shows "Linux version"
        argv += ["-append", f"{kernel} {topology.cmdline}"]
    devices = [topology.iommu] if topology.iommu else []
    devices += ["virtio-blk-pci,drive=host,addr=10.0", "virtio-blk-pci,drive=store,addr=12.0"]
    devices += ["virtio-net-pci,netdev=n0,addr=11.0,romfile="]
    devices += [topology.display] if topology.display else []
    devices += topology.bridges
    for number, disk in enumerate(topology.disks):
        drive = f"file={_disk_file(number)},format=raw,if=none,id=disk{number},cache=unsafe"
        argv += ["-drive", drive]
        devices.append(f"{disk},drive=disk{number}")
    for device in devices:
        argv += ["-device", device]
    return [*argv, *cards, *topology.extra]


def _cpus_and_memory(nodes: int) -> list[str]:
    """Return the options for a host with this many NUMA nodes: a socket of two CPUs each."""
    memory = "memory-backend-memfd,size={}M,share=on,id=ram{}"
    argv = ["-smp", f"{2 * nodes},sockets={nodes},cores=2", "-m", str(MEMORY_MIB)]
    if nodes == 1:
        one = ["-machine", "q35,memory-backend=ram", "-object", memory.format(MEMORY_MIB, "")]
        return [*argv, *one]
    argv += ["-machine", "q35"]
    for node in range(nodes):
        argv += ["-object", memory.format(MEMORY_MIB // nodes, node)]
        argv += ["-numa", f"node,nodeid={node},memdev=ram{node},cpus={2 * node}-{2 * node + 1}"]
    return argv


def _disk_file(number: int) -> Path:
    return run_dir() / f"disk{number}.raw"


def _wait_until_usable(started: float, say: Say) -> None:
    """Wait for sshd, log in, and let the host finish its boot."""
    _wait_for_sshd()
    try:
        ssh.open_master(state().port, "root")
    except subprocess.SubprocessError as error:
        check_health()
        raise LabFault(f"sshd listens, but root cannot log in: {error}") from None
    say(f"{state().topology}: SSH after {time.monotonic() - started:.1f} s")
    settle = ssh.command(state().port, "root", [_SETTLE])
    try:
        subprocess.run(settle, stdout=subprocess.DEVNULL, timeout=SETTLE_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        check_health()
        raise LabFault(f"the host did not settle within {SETTLE_LIMIT:.0f} s") from None
    check_health()
    say(f"{state().topology}: settled after {time.monotonic() - started:.1f} s")


def _wait_for_sshd() -> None:
    """Follow the serial log until the host says, for this boot, that sshd listens."""
    end = time.monotonic() + SSH_LIMIT
    while _serial().count(_READY) < state().boots:
        if not running() or signs_of_kernel(_serial()):
            check_health()
        if time.monotonic() > end:
            check_health()
            raise LabFault(f"no sshd within {SSH_LIMIT:.0f} s: see {run_dir() / 'serial.log'}")
        time.sleep(0.2)


def reboot(say: Say) -> None:
    """Reboot the host and return once SSH answers again."""
    now = state()
    started = time.monotonic()
    replace(now, boots=now.boots + 1).save()
    argv = ssh.command(now.port, "root", ["systemctl reboot"])
    subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=60, check=False)
    ssh.close_masters()
    _wait_until_usable(started, say)


def cut_power(say: Say) -> None:
    """Reset the host as if its power were cut: nothing is written back; return once SSH answers."""
    now = state()
    started = time.monotonic()
    replace(now, boots=now.boots + 1).save()
    qmp.execute(run_dir() / "qmp", "system_reset")
    ssh.close_masters()
    _wait_until_usable(started, say)


def stop() -> None:
    """Stop the host, its cards and the kept connections; nothing happens where none runs."""
    ssh.close_masters()
    if running():
        try:
            qmp.execute(run_dir() / "qmp", "quit")
            process.wait_gone(_pid_file(), 5)
        except (OSError, RuntimeError, ValueError):
            pass  # then it is stopped by its id
    process.stop(_pid_file())
    process.stop(run_dir() / "cards.pid")
    for path in run_dir().glob("disk*.raw"):
        path.unlink()


def set_fault(name: str, *, on: bool) -> None:
    """Let a function of a card fall off the bus (its reads are all ones), or come back."""
    names = [card.name for card in TOPOLOGIES[state().topology].cards]
    if name not in names:
        raise LabError(f"{state().topology} has no function {name}, but {', '.join(names)}")
    path = run_dir() / f"{name}.fault"
    if on:
        path.touch()
    else:
        path.unlink(missing_ok=True)


def _clean_run_dir() -> None:
    run_dir().mkdir(parents=True, exist_ok=True)
    process.stop(run_dir() / "cards.pid")
    for path in run_dir().iterdir():
        path.unlink()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
