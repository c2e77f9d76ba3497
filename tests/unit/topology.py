"""Short ways to write down PCI functions with what their config space says."""

from typing import Any

from tests.machines import ROOT_PORT
from tests.unit.values import at, function
from vfio_kit.model import Acs, ConfigSpace, PciDevice, PcieType

ALL = Acs(0x1D, 0x1D)
"""All four services that the kernel asks for: there, and switched on."""
SWITCH = ("10b5", "8747", "060400")


def config(
    kind: PcieType | None = None,
    acs: Acs | None = None,
    *,
    multifunction: bool = False,
    capabilities: bool = True,
    extended: bool = True,
) -> ConfigSpace:
    return ConfigSpace(multifunction, capabilities, extended, kind, acs)


def port(
    address: str,
    kind: PcieType = PcieType.ROOT_PORT,
    acs: Acs | None = ALL,
    *,
    group: int | None = 1,
    above: tuple[str, ...] = (),
    ids: tuple[str, str, str] = ROOT_PORT,
    multifunction: bool = False,
    **fields: Any,
) -> PciDevice:
    """A port, with ACS unless told otherwise."""
    space = config(kind, acs, multifunction=multifunction)
    known = {"config": space, "upstream": tuple(map(at, above)), "driver": "pcieport", **fields}
    return function(address, ids, group, **known)


def endpoint(
    address: str, ids: tuple[str, str, str], group: int | None, *above: str, **fields: Any
) -> PciDevice:
    """An endpoint below the functions of `above`, without ACS."""
    known = {"config": config(PcieType.ENDPOINT), "upstream": tuple(map(at, above)), **fields}
    return function(address, ids, group, **known)
