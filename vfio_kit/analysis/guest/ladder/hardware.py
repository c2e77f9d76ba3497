"""The rungs of the guest's PCI bus: functions, link, BARs."""

from collections import Counter
from collections.abc import Sequence

from vfio_kit.analysis.guest.nvidia_tools import SmiGpu
from vfio_kit.analysis.guest.pci import GuestFunction, parse_functions
from vfio_kit.knowledge.signatures.remedies import MMIO_WINDOW, RESTART
from vfio_kit.model.health import Check, CheckStatus, CommandResult, LinkHealth, Planned

_OK, _WARN, _FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED

_GIVE = "is the GPU in the VM? vfio-kit list; virsh dumpxml NAME"
_NARROW = "the slot: is it wired x8, bifurcated, or a riser in between? Seat the card anew"
_BUSY_PERCENT = 50
_NO_GPU = "there is no GPU to look at"
_MIB = 1 << 20


def pci_check(
    result: CommandResult, planned: Planned
) -> tuple[Check, tuple[GuestFunction, ...], tuple[GuestFunction, ...]]:
    """The check, NVIDIA's functions and those that were planned, and the GPUs among them."""
    if result.exit_status:
        evidence = f"exit {result.exit_status}: {result.stderr.strip() or 'no reason given'}"
        return _failed("pci", evidence, "look in the guest: lspci -nn", "unknown"), (), ()
    seen = parse_functions(result.stdout)
    wanted = frozenset(planned.functions)
    ours = tuple(f for f in seen if f.is_nvidia or f.ids in wanted)
    gpus = tuple(f for f in ours if f.is_display)
    others = [str(f) for f in seen if f.is_display and not (f.is_nvidia or f.ids in wanted)]
    return _functions_check(ours, gpus, others, planned), ours, gpus


def _functions_check(
    ours: tuple[GuestFunction, ...],
    gpus: tuple[GuestFunction, ...],
    others: Sequence[str],
    planned: Planned,
) -> Check:
    lost = [str(f) for f in ours if not f.answers]
    if lost:
        evidence = f"no longer answers on the bus: {', '.join(lost)}"
        return _failed("pci", evidence, RESTART, "fallen-off-bus")
    want, have = Counter(planned.functions), Counter(f.ids for f in ours)
    if planned.functions and want - have:
        evidence = f"missing: {_ids(want - have)}; there: {_ids(have) or 'nothing'}"
        return _failed("pci", evidence, _GIVE, "function-missing" if gpus else "no-gpu")
    if planned.functions and have - want:
        evidence = f"there, and not planned: {_ids(have - want)}"
        remedy = "was a GPU added by hand? virsh dumpxml NAME"
        return _failed("pci", evidence, remedy, "function-not-planned")
    if not gpus:
        there = f"; there is {', '.join(others)}" if others else ""
        return _failed("pci", f"no NVIDIA display controller{there}", _GIVE, "no-gpu")
    count = planned.gpu_count
    if count is not None and not planned.functions and len(gpus) != count:
        evidence = f"{len(gpus)} of {count} GPUs: {', '.join(map(str, gpus))}"
        return _failed("pci", evidence, _GIVE, "function-missing")
    rest = [str(f) for f in ours if not f.is_display]
    evidence = "GPUs: " + ", ".join(map(str, gpus))
    return Check("pci", _OK, evidence + (f"; with {', '.join(rest)}" if rest else ""))


def _ids(count: Counter[str]) -> str:
    return ", ".join(ids if n == 1 else f"{n} x {ids}" for ids, n in sorted(count.items()))


def link_check(gpus: Sequence[GuestFunction], smi: Sequence[SmiGpu | None]) -> Check:
    """Width and speed against what the card can; `smi` is what nvidia-smi says of each GPU.

    A slow link is no fault by itself: idle GPUs lower its speed to save power. A port of QEMU
    copies the state of the device below it, and its own limits are no hardware's.
    """
    if not gpus:
        return Check("link", CheckStatus.NOT_RUN, _NO_GPU)
    said = [_link_words(gpu, known) for gpu, known in zip(gpus, smi, strict=True)]
    evidence = "; ".join(words for words, _ in said)
    if "narrow" in (cause := {cause for _, cause in said}):
        return Check("link", _WARN, evidence, _NARROW, "narrow-link")
    if "slow" in cause:
        remedy = "the slot's and the firmware's link speed; seat the card anew, without a riser"
        return Check("link", _WARN, evidence, remedy, "slow-link")
    return Check("link", _OK, evidence)


def _link_words(gpu: GuestFunction, smi: SmiGpu | None) -> tuple[str, str | None]:
    link = gpu.link
    words = f"{gpu.address}: {_shown(link.width, link.speed)} of {_shown(*_most(link))}"
    if link.width is None or link.max_width is None:
        return f"{gpu.address}: its link is not to be seen", None
    if link.width < link.max_width:
        port = gpu.port
        if port and not port.emulated and port.link.max_width == link.width:
            words += f", which is all that the port {port.address} has"
        return words, "narrow"
    if link.speed is None or link.max_speed is None or link.speed >= link.max_speed:
        return words, None
    if smi and (smi.utilization or 0) >= _BUSY_PERCENT and smi.slow_link:
        return f"{words}, under load", "slow"
    return f"{words} (idle GPUs slow down their link)", None


def _most(link: LinkHealth) -> tuple[int | None, float | None]:
    return link.max_width, link.max_speed


def _shown(width: int | None, speed: float | None) -> str:
    lanes = f"x{width}" if width else "x?"
    return f"{lanes} at {speed:g} GT/s" if speed else lanes


def bar1_check(gpus: Sequence[GuestFunction], smi: Sequence[SmiGpu | None]) -> Check:
    """BARs 0 and 1 of NVIDIA's GPUs have a size and an address; of other vendors', any BAR has."""
    if not gpus:
        return Check("bar1", CheckStatus.NOT_RUN, _NO_GPU)
    bad = [words for gpu in gpus if (words := _bar_fault(gpu))]
    if bad:
        return _failed("bar1", "; ".join(bad), MMIO_WINDOW, "bar-unassigned")
    sizes = []
    for gpu, known in zip(gpus, smi, strict=True):
        mib = bar1_mib(gpu)
        words = f"{gpu.address}: BAR 1 has {mib} MiB"
        if known and known.bar1_mib is not None and known.bar1_mib != mib:
            words += f" (nvidia-smi: {known.bar1_mib})"
        sizes.append(words)
    return Check("bar1", _OK, "; ".join(sizes))


def _bar_fault(gpu: GuestFunction) -> str | None:
    if not gpu.bars:
        return f"{gpu.address}: the kernel names no BARs"
    if not gpu.is_nvidia:
        placed = any(bar.size and bar.start for bar in gpu.bars)
        return None if placed else f"{gpu.address}: no BAR has an address"
    for number, bar in enumerate((gpu.bars[0], gpu.aperture)):
        if bar is None or not bar.size:
            return f"{gpu.address}: BAR {number} is missing"
        if not bar.start:
            return f"{gpu.address}: BAR {number} ({bar.size // _MIB} MiB) has no address"
    return None


def bar1_mib(gpu: GuestFunction) -> int | None:
    """The size of BAR 1 in MiB; None where it is not known."""
    return gpu.aperture.size // _MIB if gpu.aperture else None


def _failed(code: str, evidence: str, remedy: str, cause: str) -> Check:
    return Check(code, _FAILED, evidence, remedy, cause)
