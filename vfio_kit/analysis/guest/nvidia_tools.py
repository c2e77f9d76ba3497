"""Reads what nvidia-smi and deviceQuery print."""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring


@dataclass(frozen=True, slots=True)
class SmiGpu:
    """A `<gpu>` of `nvidia-smi -q -x`; "N/A" becomes None.

    memory_mib, bar1_mib  MiB
    utilization           of the GPU's engines, percent
    link_gen              PCIe generation now, and the most that card and port can
    temperature_c         °C; headroom_c is what is left until the GPU slows itself down
    ecc                   Enabled, Disabled
    uncorrected_errors    volatile: since the driver was loaded
    retirement_pending    pages or rows wait for a restart to be retired or remapped
    remap_failed          a row could not be remapped
    throttle_reasons      the active ones: hw_slowdown, sw_thermal_slowdown…, without gpu_idle
    split                 by MIG: a CUDA program sees one instance, with a part of the memory
    """

    name: str | None
    bus_id: str | None
    memory_mib: int | None
    uuid: str | None = None
    bar1_mib: int | None = None
    utilization: int | None = None
    link_gen: tuple[int | None, int | None] = (None, None)
    temperature_c: int | None = None
    headroom_c: int | None = None
    ecc: str | None = None
    uncorrected_errors: int | None = None
    retirement_pending: bool | None = None
    remap_failed: bool | None = None
    persistence: str | None = None
    throttle_reasons: tuple[str, ...] = ()
    split: bool = False

    @property
    def slow_link(self) -> bool:
        """The link is of a lower generation than card and port can."""
        now, most = self.link_gen
        return now is not None and most is not None and now < most


@dataclass(frozen=True, slots=True)
class SmiLog:
    """`nvidia-smi -q -x` as values."""

    driver: str | None
    cuda: str | None
    gpus: tuple[SmiGpu, ...]


Place = tuple[int, int, int]
"""PCI domain, bus and device, as all of the tools have them: see place_at."""


def place_at(domain: int, bus: int, device: int) -> Place:
    """Of the domain its lower half: nvidia-smi wrote 3E3F8E05:00:00.0 for 8e05:00:00.0 on Hyper-V,
    which gives every GPU a domain of its own (NVIDIA/nvidia-docker#816)."""
    return (domain & 0xFFFF, bus, device)


@dataclass(frozen=True, slots=True)
class QueryDevice:
    """A device of deviceQuery."""

    name: str
    compute_capability: str | None
    memory_mib: int | None
    place: Place | None


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """deviceQuery's output as values; result is PASS, FAIL, or None where it printed none."""

    result: str | None
    devices: tuple[QueryDevice, ...]


_MOST_GPUS = 1024
"""No machine has as many, and a guest is not trusted with our time."""


_UNSAFE = ("processes", "supported_clocks")
"""Elements that nvidia-smi does not always write in form, and that nobody here reads: names of
processes with any bytes (common-workflow-language/cwltool#1910), clocks that are not nested."""


def _without(text: str, begin: str, end: str) -> str:
    """The text without its parts from `begin` to `end`; one that does not end is left."""
    kept, place = [], 0
    while (start := text.find(begin, place)) >= 0 and (stop := text.find(end, start)) >= 0:
        kept.append(text[place:start])
        place = stop + len(end)
    return "".join((*kept, text[place:]))


def parse_smi(text: str) -> SmiLog:
    """Reads `nvidia-smi -q -x`; raises ValueError where it is no such document.

    nvidia-smi writes its warnings to stdout as well, beside the document.
    """
    lines = (line for line in text.split("\n") if not line.startswith("WARNING: "))
    document = "\n".join(lines).strip()
    for tag in _UNSAFE:
        document = _without(document, f"<{tag}>", f"</{tag}>")
    try:
        root = fromstring(document, forbid_dtd=False)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(f"not nvidia-smi's XML: {error}") from None
    if root.tag != "nvidia_smi_log":
        raise ValueError(f"not nvidia-smi's XML: the root element is {root.tag!r}")
    gpus = root.findall("gpu")
    if len(gpus) > _MOST_GPUS:
        raise ValueError(f"nvidia-smi tells of {len(gpus)} GPUs, more than {_MOST_GPUS}")
    return SmiLog(
        driver=_known(root, "driver_version"),
        cuda=_known(root, "cuda_version"),
        gpus=tuple(map(_smi_gpu, gpus)),
    )


def _smi_gpu(gpu: Element) -> SmiGpu:
    link = "pci/pci_gpu_link_info/pcie_gen"
    return SmiGpu(
        name=_known(gpu, "product_name"),
        bus_id=gpu.get("id"),
        memory_mib=_number(gpu, "fb_memory_usage/total", "MiB"),
        uuid=_known(gpu, "uuid"),
        bar1_mib=_number(gpu, "bar1_memory_usage/total", "MiB"),
        utilization=_number(gpu, "utilization/gpu_util", "%"),
        link_gen=(_number(gpu, f"{link}/current_link_gen"), _number(gpu, f"{link}/max_link_gen")),
        temperature_c=_number(gpu, "temperature/gpu_temp", "C"),
        headroom_c=_headroom(gpu),
        ecc=_known(gpu, "ecc_mode/current_ecc"),
        uncorrected_errors=_uncorrected(gpu),
        retirement_pending=_any_yes(
            gpu,
            "retired_pages/pending_retirement",
            "retired_pages/pending_blacklist",
            "remapped_rows/remapped_row_pending",
        ),
        remap_failed=_any_yes(gpu, "remapped_rows/remapped_row_failure"),
        persistence=_known(gpu, "persistence_mode"),
        throttle_reasons=_throttle_reasons(gpu),
        split=_known(gpu, "mig_mode/current_mig") == "Enabled",
    )


def _headroom(gpu: Element) -> int | None:
    """Newer branches give the distance to the slowdown (T.Limit) in the place of a threshold."""
    distance = _number(gpu, "temperature/gpu_temp_tlimit", "C")
    at = _number(gpu, "temperature/gpu_temp_slow_tlimit_threshold", "C")
    if distance is not None and at is not None:
        return distance - at
    now = _number(gpu, "temperature/gpu_temp", "C")
    slow = _number(gpu, "temperature/gpu_temp_slow_threshold", "C")
    return None if now is None or slow is None else slow - now


def _uncorrected(gpu: Element) -> int | None:
    """Double bit errors before Turing, uncorrectable ones of SRAM and DRAM since."""
    total = _number(gpu, "ecc_errors/volatile/double_bit/total")
    if total is not None:
        return total
    volatile = gpu.find("ecc_errors/volatile")
    counts = [
        _number(volatile, each.tag)
        for each in ([] if volatile is None else volatile)
        if volatile is not None and "uncorrectable" in each.tag
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _any_yes(gpu: Element, *paths: str) -> bool | None:
    answers = [answer for path in paths if (answer := _known(gpu, path)) is not None]
    return "Yes" in answers if answers else None


_REASON = re.compile(r"clocks_(?:throttle|event)_reason_(\w+)")


def _throttle_reasons(gpu: Element) -> tuple[str, ...]:
    """Called `throttle` reasons up to branch 535, `event` reasons since."""
    reasons = []
    for group in ("clocks_throttle_reasons", "clocks_event_reasons"):
        for each in gpu.findall(f"{group}/*"):
            match = _REASON.fullmatch(each.tag)
            if match and match[1] != "gpu_idle" and (each.text or "").strip() == "Active":
                reasons.append(match[1])
    return tuple(reasons)


def _known(element: Element, path: str) -> str | None:
    text = (element.findtext(path) or "").strip()
    return None if text in ("", "N/A", "[N/A]", "ERR!", "Unknown Error") else text


def _number(element: Element, path: str, unit: str = "") -> int | None:
    """The whole number in front of a unit; below zero for a temperature alone."""
    sign = "-?" if unit == "C" else ""
    text = _known(element, path) or ""
    match = re.fullmatch(rf"({sign}\d{{1,9}}) ?{unit}", text, re.ASCII)
    return int(match[1]) if match else None


_DEVICE = re.compile(r'^Device (\d+): "(.*)"\s*$')
_CAPABILITY = re.compile(r"CUDA Capability Major/Minor version number:\s+(\d+\.\d+)")
_MEMORY = re.compile(r"Total amount of global memory:\s+(\d{1,9}) M(?:Bytes|iB|B)")
_LOCATION = re.compile(
    r"Device PCI Domain ID / Bus ID / location ID:\s+(\d{1,10}) / (\d{1,3}) / (\d{1,2})\b"
)
_RESULT = re.compile(r"^Result = (PASS|FAIL)\s*$", re.MULTILINE)


def parse_device_query(text: str) -> DeviceQuery:
    """Reads deviceQuery's output; older ones append `, Device0 = …` to the last line but one."""
    starts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        match = _DEVICE.match(line)
        if match:
            starts.append((match[2], []))
        elif starts:
            starts[-1][1].append(line)
    devices = tuple(_query_device(name, "\n".join(lines)) for name, lines in starts)
    results = _RESULT.findall(text)
    return DeviceQuery(results[-1] if results else None, devices)


def _query_device(name: str, text: str) -> QueryDevice:
    capability, memory, place = (
        _CAPABILITY.search(text),
        _MEMORY.search(text),
        _LOCATION.search(text),
    )
    return QueryDevice(
        name=name,
        compute_capability=capability[1] if capability else None,
        memory_mib=int(memory[1]) if memory else None,
        place=place_at(*map(int, place.groups())) if place else None,
    )
