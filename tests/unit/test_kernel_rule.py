"""Random PCI trees: what vfio-kit says of them, and what follows from the kernel's own rule.

The model (tests/hosts/kernel_rule.py) works the groups out from port types, ACS registers and
multifunction bits. vfio-kit sees the groups and the config space in sysfs, as on a real machine.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.hosts.config_space import ACS_ALL, PORT_TYPES
from tests.hosts.kernel_rule import KernelRule, with_groups
from tests.machines import Config, Function, Machine, write_machine
from vfio_kit.analysis.isolation import judge
from vfio_kit.host.read import read_host
from vfio_kit.model import GpuReport

GPU = ("10de", "13f1", "030000")
TESLA = ("10de", "102d", "030200")
NIC = ("8086", "1521", "020000")
BRIDGE = ("10b5", "8747", "060400")

REASONS = {"VK105", "VK106", "VK107"}

# What may sit where: the kinds of functions below each kind of bridge. None: on the root bus.
_BELOW: dict[str | None, tuple[str, ...]] = {
    None: ("root-port", "root-port", "rc-endpoint", "conventional", "conventional-bridge"),
    "root-port": ("endpoint", "endpoint", "upstream-port", "pcie-to-pci-bridge"),
    "upstream-port": ("downstream-port",),
    "downstream-port": ("endpoint", "endpoint", "upstream-port", "pcie-to-pci-bridge"),
    "pcie-to-pci-bridge": ("conventional", "conventional-bridge", "pci-to-pcie-bridge"),
    "conventional-bridge": ("conventional", "conventional-bridge"),
    "pci-to-pcie-bridge": ("endpoint", "upstream-port"),
}
_SINGLE_SLOT = ("root-port", "downstream-port", "pci-to-pcie-bridge")
"""A link of PCI Express has one device at its end."""

_registers = st.sampled_from(
    (
        None,
        (ACS_ALL, ACS_ALL),
        (ACS_ALL, ACS_ALL),
        (ACS_ALL, 0),
        (0, 0),
        (0x5F, 0x1D),
        (0x0F, 0x0D),
        (0x1D, 0x15),
        (0x7F, 0x62),
    )
)


def _is_bridge_kind(kind: str) -> bool:
    return kind.endswith(("bridge", "port"))


class _Tree:
    """Draws the functions of a machine; buses are numbered as they are met."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.functions: list[Function] = []
        self._buses = 0

    def number(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def bus(self, bridge: str | None, kind: str | None, depth: int) -> None:
        bus = self._buses
        self._buses += 1
        slots = self.number(1, 1 if kind in _SINGLE_SLOT else 3)
        for slot in range(slots):
            several = self.number(1, 3)
            # A slot of plain endpoints, as a card is, or one where bridges sit beside endpoints.
            kinds = _BELOW[kind]
            if self.number(0, 1):
                kinds = tuple(own for own in kinds if not _is_bridge_kind(own)) or kinds
            for number in range(several):
                if len(self.functions) < 14:
                    self._function(f"0000:{bus:02x}:{slot:02x}.{number}", bridge, kinds, depth)

    def _multifunction_bit(self, address: str) -> bool | None:
        """Function 0 says whether there are more; what the others say does not matter."""
        return (None, True, None if address.endswith(".0") else False)[self.number(0, 2)]

    def _function(
        self, address: str, above: str | None, kinds: tuple[str, ...], depth: int
    ) -> None:
        own = kinds[self.number(0, len(kinds) - 1)]
        bridge = _is_bridge_kind(own)
        ids = BRIDGE if bridge else (NIC, GPU, TESLA)[self.number(0, 2)]
        self.functions.append(
            Function(
                address,
                ids,
                parent=above,
                config=Config(
                    pcie_type=PORT_TYPES.get(own),
                    acs=self._draw(_registers),
                    multifunction=self._multifunction_bit(address),
                ),
            )
        )
        if bridge and depth < 4:
            self.bus(address, own, depth + 1)


@st.composite
def trees(draw: st.DrawFn) -> tuple[Function, ...]:
    tree = _Tree(draw)
    tree.bus(None, None, 0)
    return with_groups(tree.functions)


def read_and_judge(functions: tuple[Function, ...]) -> dict[str, GpuReport]:
    # A memory file system where there is one: thousands of small files.
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        host = read_host(write_machine(Path(folder), Machine(functions)))
    assert host.problems == ()
    return {str(report.gpu.address): report for report in judge(host)}


def is_bridge(function: Function) -> bool:
    return function.ids[2].startswith("0604")


def due(functions: tuple[Function, ...], gpu: Function) -> tuple[str, set[str]]:
    """The verdict, and what is in the way: sets of the model's groups, nothing else."""
    slot = gpu.address.rpartition(".")[0]
    going = {one.address: one.group for one in functions if one.address.startswith(f"{slot}.")}
    foreign = {
        one.address
        for one in functions
        if one.address not in going and one.group in going.values() and not is_bridge(one)
    }
    return ("shared" if foreign else "isolated"), foreign


def fails(rule: KernelRule, code: str, function: Function) -> bool:
    """Whether a device deserves to be named by this code."""
    port = isinstance(function.config, Config) and function.config.pcie_type in (0x4, 0x5, 0x6)
    return {
        "VK105": is_bridge(function) and rule.aliases_below(function),
        "VK106": port and not rule.keeps_apart(function),
        "VK107": rule.multifunction(function) and not rule.keeps_apart(function),
    }[code]


def concerned(rule: KernelRule, functions: tuple[Function, ...], gpu: Function) -> set[str]:
    """The members of the groups of the slot, all above them, and the slots of all these."""
    groups = {one.group for one in rule.slot(gpu)}
    members = [one for one in functions if one.group in groups]
    above = [one for member in members for one in (member, *rule.above(member))]
    return {mate.address for one in above for mate in rule.slot(one)}


def check(functions: tuple[Function, ...], *, as_root: bool) -> None:
    rule = KernelRule(functions)
    by_address = {function.address: function for function in functions}
    reports = read_and_judge(functions if as_root else tuple(map(as_user, functions)))
    gpus = [function for function in functions if function.ids[2].startswith("03")]
    assert set(reports) == {gpu.address for gpu in gpus}
    for gpu in gpus:
        report = reports[gpu.address]
        verdict, foreign = due(functions, gpu)
        assert report.verdict.value == verdict
        assert {str(device.address) for device in report.foreign_endpoints} == foreign
        relevant = concerned(rule, functions, gpu)
        codes = {finding.code for finding in report.findings}
        for finding in report.findings:
            if finding.code in REASONS:
                culprit = by_address[str(finding.device)]
                assert fails(rule, finding.code, culprit), finding.message
                assert culprit.address in relevant, finding.message
        assert "VK108" not in codes or not as_root
        explained = bool(codes & REASONS) or (not as_root and "VK108" in codes)
        assert explained == (verdict == "shared"), (gpu.address, verdict, codes)


def as_user(function: Function) -> Function:
    """The function as an ordinary user reads it: 64 bytes of config space."""
    assert isinstance(function.config, Config)
    return replace(function, config=replace(function.config, size=64))


_quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(_quick, max_examples=few(40))
@given(trees())
def test_the_verdict_and_its_reason_are_those_of_the_kernels_rule(
    functions: tuple[Function, ...],
) -> None:
    check(functions, as_root=True)


@settings(_quick, max_examples=few(12))
@given(trees())
def test_an_ordinary_user_sees_the_verdict_and_no_wrong_reason(
    functions: tuple[Function, ...],
) -> None:
    check(functions, as_root=False)


def port(address: str, kind: str, under: str | None = None, **config: Any) -> Function:
    """A function of this Device/Port Type, or a conventional one."""
    ids = BRIDGE if _is_bridge_kind(kind) else NIC
    return Function(
        address,
        ids,
        parent=under,
        config=Config(pcie_type=PORT_TYPES.get(kind), **config),
    )


ON = (ACS_ALL, ACS_ALL)
ROOT = "0000:00:01.0"
BELOW = "0000:01:00.0"


@pytest.mark.parametrize(
    ("functions", "groups"),
    [
        ((port(ROOT, "root-port", acs=ON), port(BELOW, "endpoint", ROOT)), [0, 1]),
        ((port(ROOT, "root-port"), port(BELOW, "endpoint", ROOT)), [0, 0]),
        ((port(ROOT, "root-port", acs=(0, 0)), port(BELOW, "endpoint", ROOT)), [0, 1]),
        ((port(ROOT, "root-port", acs=(ACS_ALL, 0x1C)), port(BELOW, "endpoint", ROOT)), [0, 0]),
        ((port("0000:00:01.0", "root-port"), port("0000:00:01.1", "root-port")), [0, 0]),
        ((port("0000:00:01.0", "root-port", acs=ON), port("0000:00:01.1", "root-port")), [0, 1]),
        (
            (
                port(ROOT, "root-port", acs=ON),
                port("0000:01:00.0", "endpoint", ROOT),
                port("0000:01:00.1", "endpoint", ROOT, multifunction=False),
                port("0000:01:00.2", "endpoint", ROOT, acs=(0, 0)),
            ),
            [0, 1, 1, 2],
        ),
        (
            (
                port(ROOT, "root-port", acs=ON),
                port(BELOW, "pcie-to-pci-bridge", ROOT),
                port("0000:02:01.0", "conventional", BELOW),
                port("0000:02:02.0", "conventional", BELOW),
            ),
            [0, 1, 1, 1],
        ),
        (
            (
                port(ROOT, "root-port", acs=ON),
                port(BELOW, "upstream-port", ROOT),
                port("0000:02:00.0", "downstream-port", BELOW),
                port("0000:02:01.0", "downstream-port", BELOW, acs=ON),
                port("0000:03:00.0", "endpoint", "0000:02:00.0"),
                port("0000:04:00.0", "endpoint", "0000:02:01.0"),
            ),
            [0, 1, 2, 3, 2, 4],
        ),
    ],
    ids=[
        "a port with ACS",
        "a port without ACS",
        "nothing to switch on",
        "source validation is off",
        "two ports of a slot, neither with ACS",
        "two ports of a slot, one with ACS",
        "three functions, one with ACS",
        "a bridge to conventional PCI",
        "a switch, one of its ports without ACS",
    ],
)
def test_the_model_itself(functions: tuple[Function, ...], groups: list[int]) -> None:
    found = [function.group for function in with_groups(functions)]
    first: dict[int | None, int] = {}
    assert [first.setdefault(group, len(first)) for group in found] == groups
