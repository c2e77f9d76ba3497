"""GPUs by their names: codename, short name, and the search for one. Values in, values out."""

import re
from collections.abc import Mapping

from vfio_kit.knowledge.gpus import FAMILIES, GpuFamily

# "GM204GL [Quadro M4000]": the chip, a B for a later revision, letters for the market (GL, M).
_CODENAME = re.compile(r"([A-Z]{2}\d{3}B?)(?:GL|M|S)*(?:$|[ /\[])")
# Functions of a card, and devices of a family, that compute nothing.
_NO_GPU = re.compile(r"\b(?:Audio|USB|UCSI|NVSwitch)\b")
_BRACKETS = re.compile(r"\[(.+)\]")
_BRANDS = ("geforce ", "grid ", "quadro ", "tesla ")

_FAMILY_OF = {chip: family for family in FAMILIES for chip in family.chips}


def chip_of(name: str) -> str | None:
    """The codename of the GPU that pci.ids or the hwdb calls so; None if it names no GPU by one."""
    match = _CODENAME.match(name)
    return None if match is None or _NO_GPU.search(name) else match[1]


def family_of(chip: str) -> GpuFamily | None:
    """The row of the table; None for a chip that the table does not have."""
    return _FAMILY_OF.get(chip)


def short_name(name: str) -> str:
    """What people call the card: `Quadro M4000` of `GM204GL [Quadro M4000]`."""
    match = _BRACKETS.search(name)
    return match[1].strip() if match else name


def find_gpus(names: Mapping[int, str], wanted: str) -> dict[int, str]:
    """Device id -> name of the GPUs that are called so, by the best kind of match that finds any.

    The whole name, with or without its brand; else its words; else a part of it. Upper and lower
    case count the same. A name without a codename is no GPU's.
    """
    text = _plain(wanted)
    words = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")
    gpus = {device: name for device, name in sorted(names.items()) if chip_of(name)}
    whole = {device: name for device, name in gpus.items() if text in _whole(name)}
    if whole:
        return whole
    worded = {device: name for device, name in gpus.items() if words.search(_plain(name))}
    return worded or {device: name for device, name in gpus.items() if text in _plain(name)}


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removeprefix("nvidia ")


def _whole(name: str) -> set[str]:
    """The name in brackets, each of several between slashes, and each without its brand."""
    full = [_plain(part) for part in short_name(name).split(" / ")]
    return {*full, *(part.removeprefix(brand) for part in full for brand in _BRANDS)}
