"""Intel's Volume Management Devices: controllers that carry a PCI domain of their own.

Source: Linux, drivers/pci/controller/vmd.c, vmd_ids; the PCI ID Repository, vendor 8086.
"""

VMD_DEVICES = frozenset(
    (
        0x201D,
        0x28C0,
        0x467F,
        0x4C3D,
        0x7D0B,
        0x9A0B,
        0xA77F,
        0xAD0B,
        0xB06F,
        0xB07F,
        0xB60B,
    )
)
