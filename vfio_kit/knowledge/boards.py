"""Boards that carry several GPUs behind a switch of their own.

Only ids that no board with a single GPU shares: an A16, a Radeon Pro Duo (Fiji) or a Pro V340 has
the ids of its single sisters, and two of those in one chassis would pass for it.

Sources: ids from the PCI ID Repository (pci-ids.ucw.cz, 2023-04-10), vendors 10de and 1002; the
number of GPUs from the vendors' board specifications and product pages: NVIDIA Tesla K80
(BD-07317-001), Tesla M60, Tesla M10, Tesla K10, GRID K1/K2, GRID K340/K520, GeForce GTX 295/590/690
and TITAN Z; AMD Radeon HD 5970/6990/7990 and R9 295X2.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Board:
    """A row of the table."""

    name: str
    gpus: int
    """How many GPUs the board carries."""


BOARDS: dict[tuple[int, int], Board] = {
    (0x10DE, 0x05E0): Board("GeForce GTX 295", 2),
    (0x10DE, 0x05EB): Board("GeForce GTX 295", 2),
    (0x10DE, 0x1088): Board("GeForce GTX 590", 2),
    (0x10DE, 0x118F): Board("Tesla K10", 2),
    (0x10DE, 0x1188): Board("GeForce GTX 690", 2),
    (0x10DE, 0x118A): Board("GRID K520", 2),
    (0x10DE, 0x11BF): Board("GRID K2", 2),
    (0x10DE, 0x0FF2): Board("GRID K1", 4),
    (0x10DE, 0x0FEF): Board("GRID K340", 4),
    (0x10DE, 0x1001): Board("GeForce GTX TITAN Z", 2),
    (0x10DE, 0x102D): Board("Tesla K80", 2),
    (0x10DE, 0x13F2): Board("Tesla M60", 2),
    (0x10DE, 0x13BD): Board("Tesla M10", 4),
    (0x1002, 0x689C): Board("Radeon HD 5970", 2),
    (0x1002, 0x671D): Board("Radeon HD 6990", 2),
    (0x1002, 0x679B): Board("Radeon HD 7990", 2),
    (0x1002, 0x67B9): Board("Radeon R9 295X2", 2),
}
"""Vendor and device id of each of the board's GPUs -> the board."""
