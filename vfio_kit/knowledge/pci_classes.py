"""PCI class names, base class and subclass. Source: PCI Code and ID Assignment Specification."""

CLASS_NAMES: dict[str, str] = {
    "0101": "IDE controller",
    "0104": "RAID controller",
    "0106": "SATA controller",
    "0107": "SAS controller",
    "0108": "NVMe controller",
    "0200": "Ethernet controller",
    "0207": "InfiniBand controller",
    "0280": "network controller",
    "0300": "VGA controller",
    "0302": "3D controller",
    "0380": "display controller",
    "0401": "multimedia audio controller",
    "0403": "audio device",
    "0600": "host bridge",
    "0601": "ISA bridge",
    "0604": "PCI bridge",
    "0607": "CardBus bridge",
    "0609": "semi-transparent PCI bridge",
    "0805": "SD host controller",
    "0c03": "USB controller",
    "0c05": "SMBus",
    "0c80": "serial bus controller",
    "1180": "signal processing controller",
}


def class_name(pci_class: str) -> str:
    """The name of a class as `lspci -n` writes it (four hex digits)."""
    return CLASS_NAMES.get(pci_class, f"class {pci_class}")
