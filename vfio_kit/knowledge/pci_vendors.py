"""Vendor ids of PCI. Source: the PCI ID Repository (pci-ids.ucw.cz)."""

NVIDIA = 0x10DE
