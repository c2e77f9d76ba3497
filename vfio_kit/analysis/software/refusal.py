"""The refusal of a driver or a toolkit: the reason, who says so, and what would be possible."""

from vfio_kit.analysis.advice.fit import wants_open_modules
from vfio_kit.analysis.software.nouns import Card, No, Wanted
from vfio_kit.analysis.software.rows import driver_nos, rows, toolkit_nos, toolkits
from vfio_kit.errors import Refused
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import NO_CUDA, NO_DRIVER
from vfio_kit.model.advice import Advice
from vfio_kit.model.vm import CudaWay


def refusal(what: str, nos: list[No], wanted: Wanted, cards: tuple[Card, ...]) -> Refused:
    """The refusal of `what`, for these reasons; the hint says what would be possible."""
    reasons = "; ".join(dict.fromkeys(no.reason for no in nos))
    sources = dict.fromkeys(no.source for no in nos if no.source)
    hints = [_possible(wanted.guest, cards), *(f"source: {source}" for source in sources)]
    return Refused(f"{what}: {reasons}" if what else reasons, "\n".join(hints))


def require_nvidia(cards: tuple[Card, ...]) -> None:
    """Raises Refused where there are cards, and none is NVIDIA's: no driver here drives them."""
    if cards and not any(card.nvidia for card in cards):
        raise Refused(
            f"NVIDIA's drivers drive no card of another maker: {', '.join(c.label for c in cards)}",
            f"take --driver {NO_DRIVER}, and install in the guest what drives it",
        )


def require_common_branch(cards: tuple[Card, ...]) -> None:
    """Raises Refused where no branch drives all of the cards, and says which wants what."""
    known = [card.known for card in cards if isinstance(card.known, Advice)]
    common = set.intersection(*map(_branches, known)) if known else {0}
    modules = {wants_open_modules(card): card for card in known}
    open_alone, closed = modules.get(True), [c for c in known if not c.open_modules.supported]
    if common and not (open_alone and closed):
        return
    wants = "; ".join(
        f"{card.label} {_takes(card.known)}" for card in cards if isinstance(card.known, Advice)
    )
    raise Refused(
        f"no driver drives all of these cards: {wants}",
        f"give them to several guests, or take --driver {NO_DRIVER} and install what you have",
    )


def _branches(card: Advice) -> set[int]:
    return {one.branch for one in card.branches if one.answer.supported}


def _takes(card: Advice) -> str:
    first = min(_branches(card))
    if card.last_branch is None:
        modules = ", with the open modules" if wants_open_modules(card) else ""
        return f"takes driver {first} or newer{modules}"
    if first == card.last_branch:
        return f"takes driver {first} alone"
    return f"takes driver {first} to {card.last_branch}"


def _possible(guest: str, cards: tuple[Card, ...]) -> str:
    """What vfio-kit installs for these cards: in this guest system, else in another, else none."""
    for system in (guest, *(other for other in GUESTS if other != guest)):
        ways = [
            f"--driver {row.name} with --cuda {' or '.join(_cudas(system, row.name, cards))}"
            for row in reversed(rows(system))
            if not driver_nos(row, cards)
        ]
        if ways:
            where = f"in {system}" if system == guest else f"with --guest {system}"
            return f"possible {where}: {'; '.join(ways)}"
    known = [card.known for card in cards if isinstance(card.known, Advice)]
    by_hand = dict.fromkeys(
        f"driver {card.recommendation.driver} with CUDA up to {card.recommendation.cuda}"
        for card in known
    )
    return f"take --driver {NO_DRIVER}, and install in the guest: {', '.join(by_hand)}"


def _cudas(guest: str, driver: str, cards: tuple[Card, ...]) -> list[str]:
    (row,) = (one for one in rows(guest) if one.name == driver)
    fitting = [
        toolkit.name
        for toolkit in reversed(toolkits(guest))
        if any(not toolkit_nos(toolkit, row, way, cards) for way in CudaWay)
    ]
    return fitting or [NO_CUDA]
