"""Reads the descriptions of machines: tests/hosts/*.toml, explained in tests/hosts/README.md."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.hosts.config_space import ACS_ALL, PORT_TYPES, Config
from tests.hosts.description import (
    IO,
    MEM,
    MEM_64,
    PREFETCH,
    UNSET,
    Block,
    Function,
    Input,
    Machine,
    Mount,
    Process,
    Region,
    VirtualInterface,
)
from tests.hosts.kernel_rule import with_groups

FOLDER = Path(__file__).parent
DESCRIPTIONS = sorted(FOLDER.glob("*.toml"))

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_BAR = re.compile(r"(\d+) (io|mem32|mem64) (prefetch )?(\d+)([KMG]?) at (0x[0-9a-f]+|nowhere)")
_ACS = {"on": (ACS_ALL | 0x02, ACS_ALL), "off": (ACS_ALL | 0x02, 0), "hard-wired": (0, 0)}
_PLAIN = ("driver", "boot_vga", "reset", "removable", "power_state", "nvidia_minor", "acs_quirk")
_CONFIG = ("multifunction", "msi", "msix", "total_vfs", "size")


@dataclass(frozen=True)
class Expectation:
    """What is due to one GPU, by the reasoning in the description."""

    verdict: str
    can_go: bool
    codes: frozenset[str] = frozenset()
    """Findings that must be there: on the GPU, or on the host."""
    not_codes: frozenset[str] = frozenset()
    culprits: frozenset[str] = frozenset()
    """Devices that VK105, VK106 or VK107 must name."""


@dataclass(frozen=True)
class Description:
    """A machine, and what is due to its GPUs."""

    title: str
    because: str
    machine: Machine
    expect: Mapping[str, Expectation]


def load(path: Path) -> Description:
    """The description in a file. A key that nobody knows is an error."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    title, because = data.pop("title"), data.pop("because")
    expect = {_address(a): _expectation(e) for a, e in data.pop("expect").items()}
    functions = tuple(map(_function, data.pop("functions")))
    if data.pop("iommu", True) and all(function.group is None for function in functions):
        functions = with_groups(functions)
    return Description(title, because, _machine(functions, data), expect)


def _address(text: str) -> str:
    return text if text.count(":") == 2 else f"0000:{text}"


def _expectation(data: dict[str, Any]) -> Expectation:
    sets: dict[str, Any] = {
        "codes": frozenset(data.pop("codes", ())),
        "not_codes": frozenset(data.pop("not_codes", ())),
        "culprits": frozenset(map(_address, data.pop("culprits", ()))),
    }
    return Expectation(**data, **sets)


def _function(data: dict[str, Any]) -> Function:
    row = dict(data)
    address = _address(row.pop("at"))
    vendor, device = row.pop("ids").split(":")
    kind, acs = row.pop("type", None), row.pop("acs", None)
    config = Config(
        pcie_type=None if kind is None else PORT_TYPES[kind],
        acs=_acs(acs),
        **{key: row.pop(key) for key in _CONFIG if key in row},
    )
    domain, bus, _ = address.split(":")
    above = row.pop("under", None)
    found: dict[str, Any] = {key: row.pop(key) for key in _PLAIN if key in row}
    found |= {
        "parent": None if above is None else _address(above),
        "root": f"{row.pop('root', '')}pci{domain}:{bus}",
        "config": config,
        "group": row.pop("group", None),
        "numa_node": row.pop("node", -1),
        "regions": tuple(map(_region, row.pop("bars", ()))),
        "d3cold_allowed": row.pop("d3cold", True),
        "interfaces": tuple(row.pop("net", ())),
        "cards": tuple(row.pop("cards", ())),
        "inputs": tuple(Input(**one) for one in row.pop("inputs", ())),
        "mdev": row.pop("mdev", None),
    }
    found.setdefault("reset", "pm" if kind else None)
    found.setdefault("power_state", "D0")
    if "physfn" in row:
        found["physfn"] = _address(row.pop("physfn"))
    if "subsystem" in row:
        found["subsystem"] = tuple(row.pop("subsystem").split(":"))
    found["reset"] = found["reset"] or None
    class_code = row.pop("class")
    if row:
        raise ValueError(f"{address}: unknown {', '.join(row)}")
    return Function(address, (vendor, device, class_code), **found)


def _acs(text: str | None) -> tuple[int, int] | None:
    if text is None or text in _ACS:
        return None if text is None else _ACS[text]
    capability, _, control = text.partition("/")
    return int(capability, 16), int(control, 16)


def _region(text: str) -> Region:
    match = _BAR.fullmatch(text)
    if match is None:
        raise ValueError(f"not a BAR: {text!r}")
    index, space, prefetch, number, unit, start = match.groups()
    flags = IO if space == "io" else MEM
    flags |= (MEM_64 | 0x4) if space == "mem64" else 0
    flags |= (PREFETCH | 0x8) if prefetch else 0
    flags |= UNSET if start == "nowhere" else 0
    place = 0 if start == "nowhere" else int(start, 16)
    return Region(int(index), place, int(number) * _UNITS[unit], flags)


def _machine(functions: tuple[Function, ...], data: dict[str, Any]) -> Machine:
    known = {field.name for field in fields(Machine)}
    rows: dict[str, Any] = {
        "blocks": tuple(map(_block, data.pop("blocks", ()))),
        "mounts": tuple(Mount(**row) for row in data.pop("mounts", ())),
        "processes": tuple(
            Process(row["pid"], row["command"], tuple(row["opens"]))
            for row in data.pop("processes", ())
        ),
        "virtual_interfaces": tuple(
            VirtualInterface(row["name"], row["kind"], tuple(row["lower"]))
            for row in data.pop("virtual_interfaces", ())
        ),
        "framebuffers": tuple(map(tuple, data.pop("framebuffers", ()))),
        "aliases": tuple(map(tuple, data.pop("aliases", ()))),
        "nodes": {int(n): (all_, free) for n, (all_, free) in data.pop("nodes", {}).items()},
        "memory": {int(n): (all_, free) for n, (all_, free) in data.pop("memory", {}).items()},
        "distances": {int(n): tuple(row) for n, row in data.pop("distances", {}).items()},
        "cores": {int(n): cores(*lists) for n, lists in data.pop("cores", {}).items()},
        "offline": tuple(data.pop("offline", ())),
        "isolated": tuple(data.pop("isolated", ())),
        "files": {name: text.encode() for name, text in data.pop("files", {}).items()},
        "btrfs": {uuid: tuple(names) for uuid, names in data.pop("btrfs", {}).items()},
    }
    for key in ("acpi", "iommus", "swaps", "cpu_flags"):
        if key in data:
            rows[key] = tuple(data.pop(key))
    for key in ("vfio_pci",):
        if key in data:
            rows[key] = data.pop(key) or None
    if data.keys() - known:
        raise ValueError(f"unknown: {', '.join(data.keys() - known)}")
    return Machine(functions, **rows, **data)


def cores(*threads: str) -> tuple[tuple[int, ...], ...]:
    """Cores from lists as in 0-7,16: the first CPU of each core, the second of those that have one,
    and so on."""
    lists = [
        [n for a, _, b in ends for n in range(int(a), int(b or a) + 1)]
        for ends in ([word.partition("-") for word in one.split(",")] for one in threads)
    ]
    return tuple(tuple(cpu for cpu in core if cpu is not None) for core in zip_longest(*lists))


def _block(row: dict[str, Any]) -> Block:
    row = dict(row)
    if "function" in row:
        row["function"] = _address(row["function"])
    for key in ("slaves", "dm"):
        if key in row:
            row[key] = tuple(row[key])
    return Block(**row)
