"""Who has the device: processes that hold it open, drivers that are bound, or would be."""

from collections.abc import Iterable

from vfio_kit.analysis.describe import is_free
from vfio_kit.knowledge.findings import DRIVER_BOUND, DRIVER_MATCHES, HELD_OPEN, finding
from vfio_kit.knowledge.occupants import DRIVER_NOTES, SERVICES
from vfio_kit.model import Finding, Holder, Host, PciDevice

_MOST_NAMED = 3


def holder_findings(host: Host, gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """A VM that has the device, and processes of the host that do."""
    going = {function.address for function in functions}
    holders = [holder for holder in host.holders if holder.device in going]
    found = []
    in_vm = [holder for holder in holders if holder.node.startswith("/dev/vfio/")]
    if in_vm:
        found.append(
            finding(
                HELD_OPEN,
                gpu.address,
                f"a VM has it already: {_processes(in_vm)}",
                "end that VM first: virsh list shows libvirt's; vfio-kit list those of vfio-kit",
            )
        )
    on_host = [holder for holder in holders if holder not in in_vm]
    if on_host:
        found.append(
            finding(
                HELD_OPEN,
                gpu.address,
                f"it is open on the host: {_processes(on_host)}; taking it away from its driver "
                "would hang until they let go",
                _how_to_end(on_host),
            )
        )
    return found


def _processes(holders: Iterable[Holder]) -> str:
    """`Xorg (PID 900: /dev/dri/card0, /dev/nvidia0)`, of so many processes."""
    nodes: dict[tuple[int, str], dict[str, None]] = {}
    for holder in holders:
        nodes.setdefault((holder.pid, holder.command), {})[holder.node] = None
    words = [
        f"{command} (PID {pid}: {', '.join(names)})" for (pid, command), names in nodes.items()
    ]
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _how_to_end(holders: Iterable[Holder]) -> str:
    commands = {SERVICES[h.command]: None for h in holders if h.command in SERVICES}
    others = sorted({h.pid for h in holders if h.command not in SERVICES})
    steps = list(commands)
    if others:
        pids = ",".join(map(str, others))
        steps.append(f"see who it is, and end it: ps -o pid,user,args -p {pids}")
    return "; ".join(steps)


def driver_findings(gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """Drivers of the host that have the functions, or would take those that are free."""
    found = []
    bound = [function for function in functions if not is_free(function)]
    if bound:
        drivers = ", ".join(f"{function.driver} has {function.address}" for function in bound)
        notes = (DRIVER_NOTES[f.driver] for f in bound if f.driver in DRIVER_NOTES)
        found.append(
            finding(
                DRIVER_BOUND,
                gpu.address,
                f"drivers of the host are bound: {drivers}",
                "; ".join(
                    (
                        "libvirt takes it from them when the VM starts, and gives it back when the "
                        "VM has ended",
                        *dict.fromkeys(notes),
                    )
                ),
            )
        )
    free = [f for f in functions if is_free(f) and f.drivers_that_match]
    if free:
        would = ", ".join(f"{' or '.join(f.drivers_that_match)} {f.address}" for f in free)
        commands = "; ".join(f"driverctl set-override {f.address} vfio-pci" for f in free)
        found.append(
            finding(
                DRIVER_MATCHES,
                gpu.address,
                f"at the next boot drivers of the host would take it: {would}",
                f"to keep it from them for good: {commands}",
            )
        )
    return found
