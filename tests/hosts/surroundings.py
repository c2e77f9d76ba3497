"""The rest of a machine: CPU, interrupts, modules, firmware, network, memory, processes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.hosts.description import Function, Machine
from tests.hosts.files import link, put
from tests.hosts.sysfs import write_input

_EFI_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_VENDOR_FLAGS = {"GenuineIntel": ("vmx",), "AuthenticAMD": ("svm",)}


def write_surroundings(root: Path, machine: Machine) -> None:
    for name in machine.iommus:
        (root / "sys/class/iommu" / name).mkdir(parents=True)
    for name in machine.acpi:
        put(root / "sys/firmware/acpi/tables" / name, b"")
    put(root / "proc/cmdline", machine.cmdline)
    put(root / "proc/sys/kernel/osrelease", machine.release)
    if machine.arch != "x86_64":
        put(root / "proc/sys/kernel/arch", machine.arch)
    _write_cpu(root, machine)
    _write_modules(root, machine)
    _write_firmware(root, machine)
    _write_network(root, machine)
    _write_memory(root, machine)
    for process in machine.processes:
        folder = root / "proc" / str(process.pid)
        put(folder / "comm", process.command)
        (folder / "fd").mkdir()
        for number, node in enumerate(("/dev/null", "socket:[31337]", *process.opens)):
            (folder / "fd" / str(number)).symlink_to(node)
    if machine.ps2_keyboard:
        folder = root / "sys/devices/platform/i8042/serio0/input/input90"
        write_input(root, folder, "AT Translated Set 2 keyboard", keyboard=True)


def _write_cpu(root: Path, machine: Machine) -> None:
    if machine.arch in ("x86_64", "i686"):
        own = _VENDOR_FLAGS.get(machine.cpu, ())
        flags = ("fpu", "lm", *(own if machine.cpu_flags is None else machine.cpu_flags))
        text = f"processor\t: 0\nvendor_id\t: {machine.cpu}\nflags\t\t: {' '.join(flags)}"
    elif machine.arch == "aarch64":
        text = f"processor\t: 0\nCPU implementer\t: {machine.cpu}"
    else:
        text = f"processor\t: 0\ncpu\t\t: {machine.cpu}"
    put(root / "proc/cpuinfo", text)
    put(root / "dev/null", b"")
    if machine.kvm:
        put(root / "dev/kvm", b"")
    if machine.interrupt_remapping is None:
        return
    remapped = "IR-" if machine.interrupt_remapping else ""
    lines = [
        "            CPU0       CPU1",
        f"   1:          0          9  {remapped}IO-APIC    1-edge      i8042",
        f" 120:          0          0  {'DMAR-MSI' if machine.cpu == 'GenuineIntel' else 'PCI-MSI'}"
        "    0-edge      dmar0",
        f" 121:      10034          0  {remapped}PCI-MSI-0000:00:14.0    0-edge      xhci_hcd",
        " NMI:          5          5   Non-maskable interrupts",
    ]
    if machine.arch == "aarch64":
        lines = [lines[0], " 50:  7  0  ITS-PCI-MSIX-0000:01:00.0   0 Edge      nvme0q0"]
    put(root / "proc/interrupts", "\n".join(lines))


def _write_modules(root: Path, machine: Machine) -> None:
    folder = root / "lib/modules" / machine.release
    vfio = "kernel/drivers/vfio/pci/vfio-pci.ko"
    builtin = ["kernel/drivers/pci/pcieport.ko"]
    modules = ["kernel/drivers/net/ethernet/intel/e1000/e1000.ko"]
    if machine.vfio_pci == "builtin":
        builtin.append(vfio)
    elif machine.vfio_pci == "module":
        modules.append(f"{vfio}.xz: kernel/drivers/vfio/vfio.ko.xz")
    put(folder / "modules.builtin", "\n".join(builtin))
    put(folder / "modules.dep", "\n".join(m if ":" in m else f"{m}:" for m in modules))
    if machine.aliases:
        lines = ["# Aliases extracted from modules themselves."]
        lines += [f"alias {pattern} {module}" for pattern, module in machine.aliases]
        put(folder / "modules.alias", "\n".join(lines))


def _write_firmware(root: Path, machine: Machine) -> None:
    if machine.secure_boot is not None:
        put(
            root / f"sys/firmware/efi/efivars/SecureBoot-{_EFI_GLOBAL}",
            bytes([6, 0, 0, 0, int(machine.secure_boot)]),
        )
    if machine.lockdown is not None:
        states = ("none", "integrity", "confidentiality")
        shown = (f"[{state}]" if state == machine.lockdown else state for state in states)
        put(root / "sys/kernel/security/lockdown", " ".join(shown))
    if machine.framebuffers:
        put(root / "proc/iomem", "\n".join(_iomem(machine)))


def _iomem(machine: Machine) -> list[str]:
    lines = ["00000000-00000fff : Reserved", "00100000-7fffffff : System RAM"]
    lines.append("80000000-ffffffffff : PCI Bus 0000:00")
    for name, start, end in machine.framebuffers:
        bar = _bar_around(machine.functions, start, end)
        if bar is not None:
            lines.append(f"  {bar[0]:08x}-{bar[1]:08x} : {bar[2]}")
        lines.append(f"{'    ' if bar else '  '}{start:08x}-{end:08x} : {name}")
    return lines


def _bar_around(
    functions: tuple[Function, ...], start: int, end: int
) -> tuple[int, int, str] | None:
    for function in functions:
        for region in function.regions or ():
            last = region.start + region.size - 1
            if region.start <= start and end <= last:
                return region.start, last, function.address
    return None


def _write_network(root: Path, machine: Machine) -> None:
    for interface in machine.virtual_interfaces:
        folder = root / "sys/devices/virtual/net" / interface.name
        folder.mkdir(parents=True)
        link(root / "sys/class/net" / interface.name, folder)
        for name in interface.lower:
            lower = (root / "sys/class/net" / name).resolve()
            link(folder / f"lower_{name}", lower)
            link(lower / f"upper_{interface.name}", folder)
            if interface.kind == "bridge":
                link(folder / "brif" / name, lower / "brport")
                link(lower / "master", folder)
        if interface.kind == "bridge":
            put(folder / "bridge/bridge_id", "8000.000000000000")
        if interface.kind == "bond":
            put(folder / "bonding/slaves", " ".join(interface.lower))
    if machine.default_route is not None:
        name = machine.default_route
        tail = "Flags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
        put(
            root / "proc/net/route",
            f"Iface\tDestination\tGateway \t{tail}\n"
            f"{name}\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
            f"{name}\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
        )


def _write_topology(root: Path, machine: Machine) -> None:
    folder = root / "sys/devices/system"
    online = {
        node: [tuple(n for n in core if n not in machine.offline) for core in cores]
        for node, cores in machine.cores.items()
    }
    everything = {node: sorted(n for core in cores for n in core) for node, cores in online.items()}
    if online:
        put(folder / "cpu/online", _listed(n for cpus in everything.values() for n in cpus))
        put(folder / "cpu/isolated", _listed(machine.isolated))
    for node, cores in online.items():
        for core in cores:
            for cpu in core:
                topology = folder / f"cpu/cpu{cpu}/topology"
                put(topology / "physical_package_id", str(node))
                put(topology / "core_siblings_list", _listed(everything[node]))
                put(topology / "thread_siblings_list", _listed(core))
                if machine.release >= "5.3":
                    put(topology / "core_cpus_list", _listed(core))
    for node in {*machine.memory, *machine.distances, *machine.nodes}:
        put(folder / f"node/node{node}/cpulist", _listed(everything.get(node, ())))
    for node, row in machine.distances.items():
        put(folder / f"node/node{node}/distance", " ".join(map(str, row)))
    for node, (total, free) in machine.memory.items():
        put(folder / f"node/node{node}/meminfo", "\n".join(_meminfo(node, total, free)))


def _listed(cpus: Iterable[int]) -> str:
    """As the kernel writes a list of CPUs, but that it would join what follows each other."""
    return ",".join(map(str, sorted(cpus)))


def _meminfo(node: int, total: int, free: int) -> Iterator[str]:
    """The half of what can be had is free, the other the pages of files; more of them is dirty."""
    rows = {
        "MemTotal": total,
        "MemFree": free - free // 2,
        "MemUsed": total - free + free // 2,
        "Active(file)": free // 4,
        "Inactive(file)": free // 2 - free // 4 + 64,
        "Dirty": 48,
        "Writeback": 16,
        "SReclaimable": 128,
    }
    yield from (f"Node {node} {name}: {mib * 1024:>14} kB" for name, mib in rows.items())
    yield f"Node {node} HugePages_Total:     0"


def _write_memory(root: Path, machine: Machine) -> None:
    _write_topology(root, machine)
    for node, (pages, free) in machine.nodes.items():
        folder = root / f"sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
        put(folder / "nr_hugepages", str(pages))
        put(folder / "free_hugepages", str(free))
    if machine.memlock_kib is not None:
        limit = "unlimited" if machine.memlock_kib < 0 else str(machine.memlock_kib * 1024)
        put(
            root / "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n"
            f"Max locked memory         {limit:<20} {limit:<20} bytes",
        )
