"""Keyboards, and the PCI functions that they hang on."""

from collections.abc import Iterator
from dataclasses import dataclass

from vfio_kit.host.tree import Tree
from vfio_kit.host.uses.stack import function_above
from vfio_kit.model import PciAddress, Use, UseKind

_INPUT = "sys/class/input"

# include/uapi/linux/input-event-codes.h
_EV_KEY, _EV_REP = 1 << 0x01, 1 << 0x14
_LETTERS = sum(1 << key for key in range(16, 26))
"""KEY_Q to KEY_P: the upper row. All are in the lowest word, of 32 or of 64 bits."""
_BLUETOOTH = 0x0005
"""BUS_BLUETOOTH (include/uapi/linux/input.h)."""

_NOT_FOR_TYPING = ("yubikey",)
"""Parts of the names of devices that say that they are keyboards and have no keys."""
_OF_A_BMC = ("virtual", "ilo ", "idrac", "avocent", "hermon")
"""Parts of the names of the keyboards that a BMC plugs in for its remote console: American
Megatrends' and HP's "Virtual Keyboard", Avocent's in Dell's iDRAC, Winbond's Hermon."""


@dataclass(frozen=True, slots=True)
class _Keyboard:
    function: PciAddress | None
    """None: not below a PCI function, as one at the i8042."""
    bmc: bool


def keyboard_uses(tree: Tree) -> Iterator[Use]:
    """The function that all keyboards hang on, where there is just one such.

    Keyboards that somebody sits at decide, as far as there are any: a BMC's is no second one. Where
    there is nothing else, the BMC's is how an operator comes back in.
    """
    keyboards = list(_keyboards(tree))
    real = [keyboard for keyboard in keyboards if not keyboard.bmc]
    functions = {keyboard.function for keyboard in real or keyboards}
    if len(functions) == 1 and (function := functions.pop()) is not None:
        what = "the only keyboard" if real else "the only keyboard (the BMC's)"
        yield Use(function, UseKind.KEYBOARD, what)


def _keyboards(tree: Tree) -> Iterator[_Keyboard]:
    for name in tree.names(_INPUT):
        folder = f"{_INPUT}/{name}"
        if not name.startswith("input") or not _has_letters(tree, folder):
            continue
        target = tree.target(folder) or ""
        label = (tree.text(f"{folder}/name") or "").lower()
        # Made by a program, or by a radio that may be out of reach: nothing to come back in with.
        made = "/virtual/" in target or tree.number(f"{folder}/id/bustype") == _BLUETOOTH
        if not made and not any(part in label for part in _NOT_FOR_TYPING):
            yield _Keyboard(function_above(target), any(part in label for part in _OF_A_BMC))


def _has_letters(tree: Tree, folder: str) -> bool:
    """Buttons and hot keys have no letters, and no key of theirs repeats."""
    events = _lowest_word(tree, f"{folder}/capabilities/ev")
    if not events & _EV_KEY or not events & _EV_REP:
        return False
    return _lowest_word(tree, f"{folder}/capabilities/key") & _LETTERS == _LETTERS


def _lowest_word(tree: Tree, name: str) -> int:
    """A bitmap is words of hex digits, the highest first."""
    words = (tree.text(name) or "").split()
    try:
        return int(words[-1], 16) if words else 0
    except ValueError:
        tree.note(name, f"holds {words[-1][:40]!r}, not a bitmap")
        return 0
