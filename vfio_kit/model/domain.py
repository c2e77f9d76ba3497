"""A domain as libvirt shows it, and the one notion of whether it runs."""

from dataclasses import dataclass

_OFF = ("shut off", "crashed")
"""States without a QEMU: crashed is one that ended, and was not taken for shut off (libvirt,
docs/formatdomain.rst, on_crash)."""


def runs(state: str | None) -> bool:
    """Whether a domain in this state has its devices and its memory; None: there is no domain.

    One that is paused, suspended or shutting down has them still.
    """
    return state is not None and state not in _OFF


@dataclass(frozen=True, slots=True)
class DomainState:
    """state  in libvirt's word: running, paused, shut off …"""

    name: str
    uuid: str
    state: str

    @property
    def runs(self) -> bool:
        return runs(self.state)
