"""Displays that a board's management controller (BMC) shows as its remote console.

Vendor and device id -> what it is. Source: the id tables of the Linux kernel's drivers ast,
mgag200 and hibmc (drivers/gpu/drm/{ast/ast_drv.c, mgag200/mgag200_drv.c,
hisilicon/hibmc/hibmc_drm_drv.c}). Matrox' 0520 and 0521 are graphics cards, and not in here.
"""

from collections.abc import Mapping

BMC_DISPLAYS: Mapping[tuple[int, int], str] = {
    (0x1A03, 0x2000): "ASPEED AST2000 to AST2600",
    (0x1A03, 0x2010): "ASPEED AST2100",
    (0x102B, 0x0522): "Matrox G200e in a ServerEngines Pilot",
    (0x102B, 0x0524): "Matrox G200e in a ServerEngines Pilot",
    (0x102B, 0x0530): "Matrox G200eV",
    (0x102B, 0x0532): "Matrox G200eW",
    (0x102B, 0x0533): "Matrox G200eH in an HPE iLO",
    (0x102B, 0x0534): "Matrox G200eR in a Dell iDRAC",
    (0x102B, 0x0536): "Matrox G200eW3",
    (0x102B, 0x0538): "Matrox G200eH3 in an HPE iLO",
    (0x102B, 0x053A): "Matrox G200eH5 in an HPE iLO",
    (0x19E5, 0x1711): "HiSilicon Hi1710",
}
