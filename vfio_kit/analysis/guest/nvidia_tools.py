"""Reads what nvidia-smi and deviceQuery print."""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring


@dataclass(frozen=True, slots=True)
class SmiGpu:
    """A `<gpu>` of `nvidia-smi -q -x`; memory in MiB; "N/A" becomes None."""

    name: str | None
    bus_id: str | None
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class SmiLog:
    """`nvidia-smi -q -x` as values."""

    driver: str | None
    cuda: str | None
    gpus: tuple[SmiGpu, ...]


@dataclass(frozen=True, slots=True)
class QueryDevice:
    """A device of deviceQuery; bus and device numbers are those of PCI."""

    name: str
    compute_capability: str | None
    memory_mib: int | None
    bus: int | None
    device: int | None


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """deviceQuery's output as values; result is PASS, FAIL, or None where it printed none."""

    result: str | None
    devices: tuple[QueryDevice, ...]


def parse_smi(text: str) -> SmiLog:
    """Reads `nvidia-smi -q -x`; raises ValueError where it is no such document."""
    try:
        root = fromstring(text, forbid_dtd=False)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(f"not nvidia-smi's XML: {error}") from None
    if root.tag != "nvidia_smi_log":
        raise ValueError(f"not nvidia-smi's XML: the root element is {root.tag!r}")
    return SmiLog(
        driver=_known(root, "driver_version"),
        cuda=_known(root, "cuda_version"),
        gpus=tuple(
            SmiGpu(
                name=_known(gpu, "product_name"),
                bus_id=gpu.get("id"),
                memory_mib=_mib(_known(gpu, "fb_memory_usage/total")),
            )
            for gpu in root.findall("gpu")
        ),
    )


def _known(element: Element, path: str) -> str | None:
    text = (element.findtext(path) or "").strip()
    return None if text in ("", "N/A", "[N/A]", "ERR!", "Unknown Error") else text


def _mib(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d{1,9}) MiB", text or "")
    return int(match[1]) if match else None


_DEVICE = re.compile(r'^Device (\d+): "(.*)"\s*$')
_CAPABILITY = re.compile(r"CUDA Capability Major/Minor version number:\s+(\d+\.\d+)")
_MEMORY = re.compile(r"Total amount of global memory:\s+(\d{1,9}) M(?:Bytes|iB|B)")
_LOCATION = re.compile(
    r"Device PCI Domain ID / Bus ID / location ID:\s+\d+ / (\d{1,3}) / (\d{1,2})\b"
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
        bus=int(place[1]) if place else None,
        device=int(place[2]) if place else None,
    )
