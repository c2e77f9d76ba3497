"""The lab's command line: `python -m tests.lab COMMAND`, from the checkout's root."""

import argparse
import subprocess
import sys

from . import images, machine, ssh
from .faults import LabFault
from .topologies import TOPOLOGIES

EXIT_LAB_FAULT = 97
_say = images.say_to_stderr


def _up(args: argparse.Namespace) -> int:
    images.build(_say)
    machine.start(args.topology, _say, from_disk=args.disk)
    return 0


def _build(_args: argparse.Namespace) -> int:
    images.build(_say)
    return 0


def _ssh(args: argparse.Namespace) -> int:
    port = machine.state().port
    if machine.running():
        ssh.open_master(port, args.user)
    return _judged(subprocess.run(ssh.command(port, args.user, args.command)).returncode)


def _put(args: argparse.Namespace) -> int:
    argv = ssh.copy(machine.state().port, args.source, f":{args.destination}")
    return _judged(subprocess.run(argv).returncode)


def _get(args: argparse.Namespace) -> int:
    argv = ssh.copy(machine.state().port, [f":{args.source}"], args.destination)
    return _judged(subprocess.run(argv).returncode)


def _judged(status: int) -> int:
    """Return a command's exit status, or raise LabFault where the emulator is to blame."""
    if status == ssh.UNREACHABLE:
        machine.check_health()
    return status


def _status(_args: argparse.Namespace) -> int:
    state = machine.state()
    running = "running" if machine.running() else "stopped"
    print(f"{state.topology}: {running}, SSH on 127.0.0.1:{state.port}, boots: {state.boots}")
    return 0 if machine.running() else 1


def _health(_args: argparse.Namespace) -> int:
    machine.check_health()
    print("sound")
    return 0


def _fault(args: argparse.Namespace) -> int:
    machine.set_fault(args.function, on=args.state == "on")
    return 0


def _reboot(_args: argparse.Namespace) -> int:
    machine.reboot(_say)
    return 0


def _down(_args: argparse.Namespace) -> int:
    machine.stop()
    return 0


def _list(_args: argparse.Namespace) -> int:
    for topology in TOPOLOGIES.values():
        print(f"{topology.name:24} {topology.what}")
    return 0


def _packages(_args: argparse.Namespace) -> int:
    print("\n".join(images.HOST_PACKAGES))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        return command

    add("build", _build, "build the images that are missing or out of date")
    up = add("up", _up, "start the host of a topology on a fresh disk")
    up.add_argument("topology", choices=TOPOLOGIES, metavar="TOPOLOGY")
    up.add_argument("--disk", action="store_true", help="boot by its own GRUB")
    remote = add("ssh", _ssh, "run a command on the host; its exit status is the command's")
    remote.add_argument("--user", default="root", choices=("root", "tester"))
    remote.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    put = add("put", _put, "copy files and folders to the host")
    put.add_argument("source", nargs="+")
    put.add_argument("destination")
    get = add("get", _get, "copy a file or folder from the host")
    get.add_argument("source")
    get.add_argument("destination")
    fault = add("fault", _fault, "let a function fall off the bus, or come back")
    fault.add_argument("function")
    fault.add_argument("state", choices=("on", "off"))
    add("status", _status, "say what runs")
    add("health", _health, "exit 97 and say why where the emulator is at fault")
    add("reboot", _reboot, "reboot the host")
    add("down", _down, "stop the host")
    add("list", _list, "list the topologies")
    add("packages", _packages, "print the Debian packages that the lab needs")
    return parser


def main() -> int:
    """Carry out the command and return its exit status."""
    args = _parser().parse_args()
    try:
        status: int = args.action(args)
        return status
    except machine.LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    except LabFault as fault:
        print(f"lab fault: {fault}", file=sys.stderr)
        return EXIT_LAB_FAULT


if __name__ == "__main__":
    sys.exit(main())
