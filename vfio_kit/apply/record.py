"""What is remembered of a VM: all that the other commands must know without its plan."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from vfio_kit.model import PciAddress
from vfio_kit.model.health import Planned
from vfio_kit.model.placement import Hugepages
from vfio_kit.model.vm import DeviceIdentity, UpPlan

SCHEMA = "vfio-kit/vm/2"
_OLDER = "vfio-kit/vm/1"
"""It has none of what stands below `cuda`."""


@dataclass(frozen=True, slots=True)
class VmRecord:
    """What the other commands must know of a VM. `address` is None until the guest has a lease.

    What a record of an older vfio-kit does not have is empty, zero or None.
    """

    name: str
    uuid: str
    guest: str
    user: str
    gpus: tuple[str, ...]
    network: str
    mac: str
    console_log: str
    address: str | None = None
    functions: tuple[str, ...] = ()
    """vendor:device of each function that was handed over."""
    driver: str | None = None
    """As in the spec: 470, 580-open, none."""
    cuda: str | None = None
    devices: tuple[DeviceIdentity, ...] = ()
    """All functions that were handed over, as they were when it was planned."""
    memory_mib: int = 0
    page_kib: int | None = None
    """Size of its hugepages; None where it has none."""
    pages: tuple[tuple[int, int], ...] = ()
    """(node, hugepages on it), as in Placement; empty: on any node."""
    cpus: tuple[int, ...] = ()
    """Host CPUs that its vCPUs have for themselves."""
    autostart: bool = False
    identity: str | None = None
    """The operator's own private key to log in with; None: the one in the VM's folder."""
    plan: str = ""
    """plan_digest of what it was made by."""
    disk: str = ""
    seed: str = ""
    bundle: str | None = None

    @property
    def planned(self) -> Planned:
        """What verification may expect of the guest."""
        none = self.driver in (None, "none")
        branch = None if none or self.driver is None else self.driver.removesuffix("-open")
        return Planned(self.functions, len(self.gpus), branch)

    @property
    def hugepages(self) -> Hugepages | None:
        """The pages that its memory takes; who preallocates them is in the domain's XML alone."""
        if self.page_kib is None:
            return None
        return Hugepages(self.page_kib, (self.memory_mib << 10) // self.page_kib, threads=1)

    @classmethod
    def of(cls, plan: UpPlan) -> Self:
        domain, placement = plan.domain, plan.domain.placement
        return cls(
            name=domain.name,
            uuid=domain.uuid,
            guest=plan.guest,
            user=plan.user,
            gpus=tuple(map(str, plan.gpus)),
            network=domain.network,
            mac=domain.mac,
            console_log=domain.console_log,
            functions=tuple(device.ids for device in plan.devices),
            driver=plan.software.driver,
            cuda=plan.software.cuda,
            devices=plan.devices,
            memory_mib=domain.memory_mib,
            page_kib=domain.hugepages.size_kib if domain.hugepages else None,
            pages=placement.pages if placement else (),
            cpus=tuple(sorted(placement.cpus)) if placement else (),
            autostart=plan.autostart,
            identity=plan.identity,
            plan=plan_digest(plan),
            disk=domain.disk,
            seed=domain.seed,
            bundle=domain.bundle,
        )

    def document(self) -> dict[str, Any]:
        """As a JSON object; `read` gives the record back."""
        return {"schema": SCHEMA, **_plain(asdict(replace(self, devices=()))), "devices": [
            {f.name: _plain(getattr(device, f.name)) for f in fields(device)}
            for device in self.devices
        ]}  # fmt: skip

    @classmethod
    def read(cls, document: object) -> Self:
        """The record in a JSON value; raises TypeError or ValueError where it is none."""
        if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, _OLDER):
            raise ValueError(f"it is not of the schema {SCHEMA}")
        values = {key: value for key, value in document.items() if key != "schema"}
        return cls(**_read_all(values, _READERS))


def plan_digest(plan: UpPlan) -> str:
    """The SHA-256 of what a plan makes of a spec and of the cards, in hexadecimal digits.

    Without what the host's state of today adds to it, so that it is the same while the VM runs:
    findings, drivers, the words of the steps, and the place of the VM's CPUs and memory.
    """
    devices = tuple(replace(device, driver=None, name=None) for device in plan.devices)
    domain = replace(plan.domain, placement=None)
    asked = replace(plan, domain=domain, devices=devices, steps=(), findings=())
    text = json.dumps(_plain(asdict(asked)), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it; addresses as the kernel names them."""
    if isinstance(value, PciAddress):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


_Readers = dict[str, Callable[[Any], Any]]


def _read_all(values: dict[str, Any], readers: _Readers) -> dict[str, Any]:
    unknown = values.keys() - readers.keys()
    if unknown:
        raise ValueError(f"nobody knows its key {min(unknown)!r}")
    return {key: readers[key](value) for key, value in values.items()}


def _of_type(*types: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError("a value is of another type")
        return value

    return read


def _several(each: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("a value is of another type")
        return tuple(map(each, value))

    return read


_text, _number = _of_type(str), _of_type(int)
_text_or_none, _number_or_none = _of_type(str, type(None)), _of_type(int, type(None))


def _pair(value: Any) -> tuple[int, int]:
    first, second = _several(_number)(value)
    return first, second


def _address(value: Any) -> PciAddress:
    return PciAddress.parse(_text(value))


def _device(value: Any) -> DeviceIdentity:
    if not isinstance(value, dict):
        raise ValueError("a value is of another type")
    return DeviceIdentity(**_read_all(value, _DEVICE_READERS))


_DEVICE_READERS: _Readers = {
    "address": _address,
    "ids": _text,
    "driver": _text_or_none,
    "name": _text_or_none,
    "subsystem": _text_or_none,
    "class_code": _number_or_none,
    "iommu_group": _number_or_none,
    "upstream": _several(_address),
    "numa_node": _number_or_none,
}

_READERS: _Readers = {
    "name": _text,
    "uuid": _text,
    "guest": _text,
    "user": _text,
    "gpus": _several(_text),
    "network": _text,
    "mac": _text,
    "console_log": _text,
    "address": _text_or_none,
    "functions": _several(_text),
    "driver": _text_or_none,
    "cuda": _text_or_none,
    "devices": _several(_device),
    "memory_mib": _number,
    "page_kib": _number_or_none,
    "pages": _several(_pair),
    "cpus": _several(_number),
    "autostart": _of_type(bool),
    "identity": _text_or_none,
    "plan": _text,
    "disk": _text,
    "seed": _text,
    "bundle": _text_or_none,
}
