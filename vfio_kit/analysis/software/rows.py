"""Which rows of the tables go with the cards and with each other, and why the others do not."""

from vfio_kit.analysis.advice.fit import driver_misfit, native_cuda, pair_misfit, toolkit_misfit
from vfio_kit.analysis.software.nouns import Card, No, Wanted
from vfio_kit.knowledge.provisioning import (
    AUTO,
    CUDA_ROWS,
    DRIVER_ROWS,
    NO_CUDA,
    CudaRow,
    DriverRow,
)
from vfio_kit.model.advice import Advice
from vfio_kit.model.vm import CudaWay


def rows(guest: str) -> list[DriverRow]:
    """The drivers of a guest system, newest first; of one branch the open modules first, which
    NVIDIA recommends for all cards that they drive."""
    found = [row for row in DRIVER_ROWS.values() if row.guest == guest]
    return sorted(found, key=lambda row: (row.branch, row.open_modules), reverse=True)


def driver_nos(row: DriverRow, cards: tuple[Card, ...]) -> list[No]:
    """Why the driver is none for each of the cards; empty: it is one for all that are known."""
    nos: list[No] = []
    for card in cards:
        if isinstance(card.known, Advice):
            no = driver_misfit(card.known, row.branch, open_modules=row.open_modules)
            if no is not None:
                nos.append(No(f"{card.label}: {no.reason}", no.source))
    return nos


def toolkit(
    wanted: Wanted, driver: DriverRow, cards: tuple[Card, ...]
) -> tuple[CudaRow | None, list[No]]:
    """The toolkit for this driver and these cards, or why there is none."""
    name = wanted.cuda or driver.default_cuda or NO_CUDA
    if name == NO_CUDA:
        return None, []
    if name != AUTO:
        row = CUDA_ROWS.get((wanted.guest, name))
        if row is None:
            return None, [No(f"vfio-kit does not install CUDA {name} in {wanted.guest}")]
        return row, toolkit_nos(row, driver, wanted.cuda_way, cards)
    nos = [No(f"no CUDA of {wanted.guest} is one that driver {driver.name} speaks")]
    for row in toolkits(wanted.guest):
        if row.version > native_cuda(driver.branch):
            continue
        nos = toolkit_nos(row, driver, wanted.cuda_way, cards)
        if not nos:
            return row, []
    return None, nos


def toolkits(guest: str) -> list[CudaRow]:
    """The toolkits of a guest system, newest first."""
    found = [row for row in CUDA_ROWS.values() if row.guest == guest]
    return sorted(found, key=lambda row: row.version, reverse=True)


def toolkit_nos(row: CudaRow, driver: DriverRow, way: CudaWay, cards: tuple[Card, ...]) -> list[No]:
    """Why this toolkit does not go with the driver, the cards, or the way; empty: it does."""
    nos: list[No] = []
    pair = pair_misfit(driver.branch, row.version)
    if pair is not None:
        nos.append(No(pair.reason, pair.source))
    for card in cards:
        no = toolkit_misfit(card.known, row.version) if isinstance(card.known, Advice) else None
        if no is not None:
            nos.append(
                No(f"CUDA {row.name} does not compile for {card.label}: {no.reason}", no.source)
            )
    if way not in row.ways:
        ways = ", ".join(row.ways)
        nos.append(No(f"CUDA {row.name} comes by {ways} alone, not by {way}"))
    return nos
