"""The nouns of vfio-kit: frozen values, no I/O.

The nouns of the host and of the judgement are here. Those of a VM (model.vm), of a guest's health
(model.health) and of `advise` (model.advice) stand apart: `scan` must feel instant, and needs none.
"""

from vfio_kit.model.machine import (
    Cpu,
    Framebuffer,
    Holder,
    Host,
    NumaNode,
    Platform,
    ReadProblem,
    Use,
    UseKind,
)
from vfio_kit.model.pci import Acs, Bar, ConfigSpace, PciAddress, PciDevice, PcieType
from vfio_kit.model.report import Finding, GpuReport, Level, Verdict

__all__ = [
    "Acs",
    "Bar",
    "ConfigSpace",
    "Cpu",
    "Finding",
    "Framebuffer",
    "GpuReport",
    "Holder",
    "Host",
    "Level",
    "NumaNode",
    "PciAddress",
    "PciDevice",
    "PcieType",
    "Platform",
    "ReadProblem",
    "Use",
    "UseKind",
    "Verdict",
]
