"""Which functions the kernel puts into one IOMMU group, worked out anew from its rule.

The rule is that of Linux 3.17 to 6.x, drivers/iommu/iommu.c pci_device_group() with
drivers/pci/pci.c pci_acs_enabled() and drivers/pci/search.c pci_for_each_dma_alias(), told here in
our own words:

1. A function below a conventional bridge, or below a bridge between PCI Express and conventional
   PCI, is seen by the IOMMU as that bridge: it is in the bridge's group. Likewise what a VMD
   controller carries is seen as the controller.
2. A function is in the group of the bridge above it, unless every bridge from there up to the root
   bus keeps peers apart by ACS.
3. Functions of one slot that do not keep each other apart by ACS are in one group.
4. Every other function has a group of its own.

Bridges come before what is below them, so that one pass over the functions settles all. DMA alias
quirks of single devices are left out. This is the model that tests hold the product against: it
shares no line with it.
"""

from collections.abc import Iterable
from dataclasses import replace

from tests.hosts.config_space import ACS_ALL, PORT_TYPES, Config
from tests.hosts.description import Function

_ROOT, _UP, _DOWN = (PORT_TYPES[f"{name}-port"] for name in ("root", "upstream", "downstream"))
_ALONE_IF_SINGLE = {PORT_TYPES[n] for n in ("endpoint", "legacy-endpoint", "rc-endpoint")} | {_UP}
_NEVER = {PORT_TYPES[n] for n in ("pcie-to-pci-bridge", "pci-to-pcie-bridge", "rc-event-collector")}


class KernelRule:
    """The rule, applied to the functions of one machine."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self._all = {function.address: function for function in functions}
        self.groups: dict[str, int] = {}
        """Address -> number of its group."""
        for function in sorted(self._all.values(), key=self._depth_first):
            self._place(function)

    def _depth_first(self, function: Function) -> tuple[tuple[int, ...], ...]:
        above = [function, *self.above(function)]
        return tuple(_numbers(one.address) for one in reversed(above))

    def above(self, function: Function) -> list[Function]:
        """The bridges above a function, the nearest first."""
        found = []
        while function.parent is not None:
            function = self._all[function.parent]
            found.append(function)
        return found

    def slot(self, function: Function) -> list[Function]:
        mine = _numbers(function.address)[:-1]
        return [one for one in self._all.values() if _numbers(one.address)[:-1] == mine]

    def multifunction(self, function: Function) -> bool:
        """As the kernel sees it: never of a VF, always of a function other than 0."""
        if function.physfn is not None:
            return False
        if _numbers(function.address)[-1] > 0:
            return True
        said = _config(function).multifunction
        others = [one for one in self.slot(function) if one.physfn is None]
        return len(others) > 1 if said is None else said

    def keeps_apart(self, function: Function) -> bool:
        """Whether peers cannot reach each other through this function."""
        if function.acs_quirk is not None:
            return function.acs_quirk
        kind = _config(function).pcie_type
        if kind is None or kind in _NEVER:
            return False
        if kind in _ALONE_IF_SINGLE and not self.multifunction(function):
            return True
        if kind not in _ALONE_IF_SINGLE | {_ROOT, _DOWN}:
            return True
        acs = _config(function).acs
        if acs is None:
            return False
        # What the function cannot switch, it does not need to: there is nothing to redirect.
        capability, control = acs
        needed = ACS_ALL & capability
        return control & needed == needed

    def aliases_below(self, bridge: Function) -> bool:
        """Whether the IOMMU sees all that is below as the bridge itself."""
        kind = _config(bridge).pcie_type
        return kind is None or kind in _NEVER or not _is_bridge(bridge)

    def _place(self, function: Function) -> None:
        above = self.above(function)
        home = next((one for one in above if self.aliases_below(one)), None)
        if home is None and above and not all(map(self.keeps_apart, above)):
            home = above[0]
        if home is None and self.multifunction(function) and not self.keeps_apart(function):
            home = next(
                (
                    one
                    for one in self.slot(function)
                    if one.address in self.groups and not self.keeps_apart(one)
                ),
                None,
            )
        self.groups[function.address] = (
            len(set(self.groups.values())) if home is None else self.groups[home.address]
        )


def with_groups(functions: Iterable[Function]) -> tuple[Function, ...]:
    """The functions, each in the group that the kernel would put it into."""
    known = tuple(functions)
    groups = KernelRule(known).groups
    return tuple(replace(function, group=groups[function.address]) for function in known)


def _is_bridge(function: Function) -> bool:
    return function.ids[2].startswith("0604")


def _config(function: Function) -> Config:
    assert isinstance(function.config, Config), f"{function.address} has no config space"
    return function.config


def _numbers(address: str) -> tuple[int, int, int, int]:
    domain, bus, rest = address.split(":")
    device, _, number = rest.partition(".")
    return int(domain, 16), int(bus, 16), int(device, 16), int(number)
