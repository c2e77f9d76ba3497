"""Reads what the probe found out about the NVIDIA kernel module."""

import re
from dataclasses import dataclass

_VERSION = re.compile(r"(?<![\d.])(\d{3}\.\d{1,3}(?:\.\d{1,3})?)(?![\d.])", re.ASCII)
_OPEN = "Open Kernel Module"


@dataclass(frozen=True, slots=True)
class DriverState:
    """The NVIDIA module on a machine.

    kernel     release of the running kernel.
    loaded     modules of interest that are loaded.
    version    of the loaded module; None where none is loaded.
    open       whether the loaded one is NVIDIA's open module.
    installed  version of the one that is built for the running kernel, "" if it names none.
    built_for  kernels that the module is built for.
    """

    kernel: str | None
    loaded: frozenset[str]
    version: str | None
    open: bool
    installed: str | None
    built_for: tuple[str, ...]
    secure_boot: bool
    lockdown: str | None

    @property
    def is_loaded(self) -> bool:
        return self.version is not None or "nvidia" in self.loaded


def parse_driver_state(text: str) -> DriverState:
    """Reads the output of the module probe; what it does not say is None, empty or False."""
    facts: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        facts.setdefault(key, []).append(value.strip())

    def first(key: str) -> str | None:
        return facts[key][0] or None if key in facts else None

    proc = " ".join(facts.get("proc", ()))
    match = _VERSION.search(proc)
    files = facts.get("file")
    lockdown = re.search(r"\[(\w{1,20})\]", first("lockdown") or "")
    return DriverState(
        kernel=first("kernel"),
        loaded=frozenset(facts.get("loaded", ())),
        version=first("version") or (match[1] if match else None),
        open=_OPEN in proc,
        installed=None if files is None else files[0].partition(" ")[2],
        built_for=tuple(sorted({line.partition(" ")[0] for line in facts.get("built", ())})),
        secure_boot=first("secure-boot") == "1",
        lockdown=lockdown[1] if lockdown and lockdown[1] != "none" else None,
    )
