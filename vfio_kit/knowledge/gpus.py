"""GPU names that every installation knows, also without pci.ids or a hwdb.

Source: the PCI ID Repository (pci-ids.ucw.cz), entries of vendor 10de.
"""

SHIPPED_NAMES: dict[tuple[int, int], str] = {
    (0x10DE, 0x102D): "GK210GL [Tesla K80]",
    (0x10DE, 0x1021): "GK110GL [Tesla K20Xm]",
    (0x10DE, 0x1023): "GK110BGL [Tesla K40m]",
    (0x10DE, 0x11BF): "GK104GL [GRID K2]",
    (0x10DE, 0x13BA): "GM107GL [Quadro K2200]",
    (0x10DE, 0x13F0): "GM204GL [Quadro M5000]",
    (0x10DE, 0x13F1): "GM204GL [Quadro M4000]",
    (0x10DE, 0x0FBB): "GM204 High Definition Audio Controller",
    (0x10DE, 0x17FD): "GM200GL [Tesla M40]",
    (0x10DE, 0x13F2): "GM204GL [Tesla M60]",
    (0x10DE, 0x15F8): "GP100GL [Tesla P100 PCIe 16GB]",
    (0x10DE, 0x1B38): "GP102GL [Tesla P40]",
    (0x10DE, 0x1BB3): "GP104GL [Tesla P4]",
    (0x10DE, 0x1BB1): "GP104GL [Quadro P4000]",
    (0x10DE, 0x1DB4): "GV100GL [Tesla V100 PCIe 16GB]",
    (0x10DE, 0x1EB8): "TU104GL [Tesla T4]",
}
