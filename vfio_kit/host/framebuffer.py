"""Where in memory the display is that firmware set up."""

import re

from vfio_kit.host.tree import LONG, Tree
from vfio_kit.model import Framebuffer

_LINE = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (\S+)")
_NAME = re.compile(
    r"BOOTFB|efifb|efidrm|vesafb|vesadrm|uvesafb|simplefb|simpledrm|ofdrm"
    r"|(simple|efi|vesa)-framebuffer(\.[0-9]+)?"
)
"""What the kernel's drivers for firmware framebuffers call their regions:
drivers/firmware/sysfb_simplefb.c, drivers/video/fbdev/{efifb,vesafb,uvesafb,simplefb}.c,
drivers/gpu/drm/{tiny,sysfb}."""


def read_framebuffers(tree: Tree) -> tuple[Framebuffer, ...]:
    """The regions of /proc/iomem that are firmware's framebuffers.

    Only root sees addresses there; others see zeros, and get nothing.
    """
    text = tree.extract("framebuffers", lambda: _extract(tree)) or ""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return tuple(
        Framebuffer(match[3], int(match[1], 16), int(match[2], 16))
        for match in found
        if match and _NAME.fullmatch(match[3]) and int(match[1], 16) <= int(match[2], 16)
    )


def _extract(tree: Tree) -> str:
    lines = (tree.text("proc/iomem", LONG, private=True) or "").splitlines()
    found = (_LINE.fullmatch(line.strip()) for line in lines)
    wanted = (match for match in found if match and _NAME.fullmatch(match[3]))
    return "\n".join(dict.fromkeys(match[0] for match in wanted if int(match[2], 16)))
