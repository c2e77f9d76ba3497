"""The shape of a row."""

from dataclasses import dataclass

from vfio_kit.model.health import CheckStatus


@dataclass(frozen=True, slots=True)
class Signature:
    """A row: `cause` is its stable name; it matches a part of a text, or an exit status.

    status is what the rung becomes; OK marks what is known to do no harm.
    lasts  of a line of the kernel log: the rung that fails for as long as it is so, and by which it
           is past; None: it counts for the whole boot.
    """

    probe: str
    cause: str
    meaning: str
    remedy: str
    text: str | None = None
    exit_status: int | None = None
    status: CheckStatus = CheckStatus.FAILED
    lasts: str | None = None
