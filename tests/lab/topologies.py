"""The hosts that the lab can be: one row each, and what its real kernel shows of it."""

from dataclasses import dataclass

from .cards import K80_HALF, M4000, M4000_AUDIO, Function

IOMMU = "intel-iommu,caching-mode=on,intremap=on"
CMDLINE = "intel_iommu=on iommu=pt mitigations=off"


@dataclass(frozen=True, slots=True)
class Card:
    """A function of an emulated card, plugged in at `addr` (device.function) of QEMU's `bus`."""

    name: str
    function: Function
    bus: str
    addr: str
    multifunction: bool = False

    def device(self, fd: int) -> str:
        """Return the value of QEMU's -device, with our end of the socketpair."""
        flag = "on" if self.multifunction else "off"
        return (
            f"x-pci-proxy-dev,id={self.name},bus={self.bus},addr={self.addr},"
            f"multifunction={flag},fd={fd}"
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the host's kernel says of one PCI function once it has settled."""

    address: str
    driver: str | None
    group: frozenset[str] | None
    boot_vga: bool | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """A host: bridges and plain devices of QEMU, cards, IOMMU, kernel parameters."""

    name: str
    what: str
    cards: tuple[Card, ...]
    bridges: tuple[str, ...]
    seen: tuple[Seen, ...]
    display: str | None = "VGA,addr=2.0"
    extra: tuple[str, ...] = ()
    iommu: str | None = IOMMU
    cmdline: str = CMDLINE
    nodes: int = 1
    """NUMA nodes, with two CPUs each and an equal share of the memory."""
    disks: tuple[str, ...] = ()
    """QEMU's devices for disks of `machine.DISK_MIB` that are empty at each start."""


_PORT = "pcie-root-port,id=rp1,chassis=1,slot=1,addr=1.0"


def _m4000(bus: str, slot: int) -> tuple[Card, ...]:
    return (
        Card("gpu", M4000, bus, f"{slot}.0", multifunction=True),
        Card("audio", M4000_AUDIO, bus, f"{slot}.1"),
    )


def _nic(model: str, bus: str, addr: str) -> tuple[str, ...]:
    """A NIC in a network of its own, from which nothing else is reached."""
    return (
        # Without IPv6, whose router would have the host take a default route over it.
        *("-netdev", "user,id=n1,restrict=on,net=10.9.9.0/24,ipv6=off"),
        *("-device", f"{model},netdev=n1,bus={bus},addr={addr},romfile="),
    )


def _seen_m4000(group: frozenset[str] | None, *, boot_vga: bool = False) -> tuple[Seen, ...]:
    return (
        Seen("0000:01:00.0", None, group, boot_vga=boot_vga),
        Seen("0000:01:00.1", "snd_hda_intel", group),
    )


_ALONE = frozenset({"0000:01:00.0", "0000:01:00.1"})
_FAR = frozenset({"0000:41:00.0", "0000:41:00.1"})
_SHARED = frozenset({"0000:01:00.0", "0000:02:01.0", "0000:02:01.1", "0000:02:02.0"})
_BELOW_PORT = frozenset(
    {"0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:02:01.0"}
    | {"0000:03:00.0", "0000:03:00.1", "0000:04:00.0"}
)
_BELOW_FUNCTIONS = frozenset(
    {"0000:00:01.0", "0000:00:01.1", "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"}
)

TOPOLOGIES = {
    row.name: row
    for row in (
        Topology(
            name="m4000-isolated",
            what="an M4000 and its audio alone in one group; another VGA is the boot display",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            seen=_seen_m4000(_ALONE),
        ),
        Topology(
            name="m4000-shared-with-nic",
            what="an M4000, its audio and a NIC in use, in one group below a PCIe-to-PCI bridge",
            bridges=(_PORT, "pcie-pci-bridge,id=br1,bus=rp1"),
            cards=_m4000("br1", 1),
            extra=_nic("e1000", "br1", "2"),
            seen=(
                Seen("0000:02:01.0", None, _SHARED, boot_vga=False),
                Seen("0000:02:01.1", "snd_hda_intel", _SHARED),
                Seen("0000:02:02.0", "e1000", _SHARED),
            ),
        ),
        Topology(
            name="k80-pair",
            # The switch has no ACS, so each half is in the group of the port above it.
            what="the two halves of a K80 (class 0302) behind a PCIe switch, each in its own group",
            bridges=(
                _PORT,
                "x3130-upstream,id=up1,bus=rp1",
                "xio3130-downstream,id=dn1,bus=up1,chassis=11,slot=11,addr=8.0",
                "xio3130-downstream,id=dn2,bus=up1,chassis=12,slot=12,addr=10.0",
            ),
            cards=(
                Card("half0", K80_HALF, "dn1", "0.0"),
                Card("half1", K80_HALF, "dn2", "0.0"),
            ),
            seen=(
                Seen("0000:03:00.0", None, frozenset({"0000:02:08.0", "0000:03:00.0"})),
                Seen("0000:04:00.0", None, frozenset({"0000:02:10.0", "0000:04:00.0"})),
            ),
        ),
        Topology(
            name="no-iommu",
            what="an M4000 in a host without an IOMMU, whose kernel is told to use one",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            iommu=None,
            seen=_seen_m4000(None),
        ),
        Topology(
            name="iommu-off",
            what="an M4000 in a host whose IOMMU its kernel is told to leave alone",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            cmdline="intel_iommu=off mitigations=off",
            seen=_seen_m4000(None),
        ),
        Topology(
            name="boot-display",
            what="an M4000 that is the host's only display, and so its boot display",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            display=None,
            seen=_seen_m4000(_ALONE, boot_vga=True),
        ),
        Topology(
            name="port-without-acs",
            # An ioh3420 has no ACS, as the root ports of many a desktop.
            what="an M4000 and a NIC at two ports of a switch, below a root port without ACS",
            bridges=(
                "ioh3420,id=rp1,chassis=1,slot=1,addr=1.0",
                "x3130-upstream,id=up1,bus=rp1",
                "xio3130-downstream,id=dn1,bus=up1,chassis=11,slot=11,addr=0.0",
                "xio3130-downstream,id=dn2,bus=up1,chassis=12,slot=12,addr=1.0",
            ),
            cards=_m4000("dn1", 0),
            extra=_nic("e1000e", "dn2", "0"),
            seen=(
                Seen("0000:03:00.0", None, _BELOW_PORT, boot_vga=False),
                Seen("0000:03:00.1", "snd_hda_intel", _BELOW_PORT),
                Seen("0000:04:00.0", "e1000e", _BELOW_PORT),
            ),
        ),
        Topology(
            name="functions-without-acs",
            what="an M4000 and a NIC below two root ports that are functions of one slot",
            bridges=(
                "ioh3420,id=rp1,chassis=1,slot=1,addr=1.0,multifunction=on",
                "ioh3420,id=rp2,chassis=2,slot=2,addr=1.1",
            ),
            cards=_m4000("rp1", 0),
            extra=_nic("e1000e", "rp2", "0"),
            seen=(
                *_seen_m4000(_BELOW_FUNCTIONS),
                Seen("0000:02:00.0", "e1000e", _BELOW_FUNCTIONS),
            ),
        ),
        Topology(
            name="m4000-shared-with-disk",
            what="an M4000, its audio and an empty disk below a PCIe-to-PCI bridge, and another "
            "disk elsewhere",
            bridges=(_PORT, "pcie-pci-bridge,id=br1,bus=rp1"),
            cards=_m4000("br1", 1),
            disks=(
                "virtio-blk-pci,bus=br1,addr=2.0,serial=LABSERIAL0001",
                "virtio-blk-pci,addr=13.0,serial=LABSERIAL0002",
            ),
            seen=(
                Seen("0000:02:01.0", None, _SHARED, boot_vga=False),
                Seen("0000:02:01.1", "snd_hda_intel", _SHARED),
                Seen("0000:02:02.0", "virtio-pci", _SHARED),
            ),
        ),
        Topology(
            name="two-nodes",
            what="an M4000 below a root complex of the second of two NUMA nodes",
            # Its buses begin with 0x40; QEMU has no root port in a root complex but behind a pxb.
            bridges=(
                "pxb-pcie,id=pxb1,bus=pcie.0,addr=3.0,bus_nr=64,numa_node=1",
                "pcie-root-port,id=rp1,bus=pxb1,chassis=1,slot=1,addr=0.0",
            ),
            cards=_m4000("rp1", 0),
            nodes=2,
            seen=(
                Seen("0000:41:00.0", None, _FAR, boot_vga=False),
                Seen("0000:41:00.1", "snd_hda_intel", _FAR),
            ),
        ),
        Topology(
            name="no-intremap",
            what="an M4000 alone in its group, in a host whose IOMMU remaps no interrupts",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            iommu="intel-iommu,caching-mode=on,intremap=off",
            seen=_seen_m4000(_ALONE),
        ),
        Topology(
            name="acs-override",
            what="an M4000 alone in its group, in a host that is told to override ACS",
            bridges=(_PORT,),
            cards=_m4000("rp1", 0),
            cmdline=f"{CMDLINE} pcie_acs_override=downstream,multifunction",
            seen=_seen_m4000(_ALONE),
        ),
    )
}
