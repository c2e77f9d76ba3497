"""Which driver and which CUDA go into a guest: the wish, the cards and the tables. Pure."""

from dataclasses import replace
from fnmatch import fnmatchcase

from vfio_kit.analysis.advice.fit import native_cuda
from vfio_kit.analysis.software.baked import choose_baked as choose_baked
from vfio_kit.analysis.software.nouns import Card as Card
from vfio_kit.analysis.software.nouns import Choice as Choice
from vfio_kit.analysis.software.nouns import No, capabilities
from vfio_kit.analysis.software.nouns import Wanted as Wanted
from vfio_kit.analysis.software.nouns import card_of as card_of
from vfio_kit.analysis.software.nouns import card_with as card_with
from vfio_kit.analysis.software.refusal import refusal, require_common_branch, require_nvidia
from vfio_kit.analysis.software.rows import driver_nos, rows, toolkit
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.findings import finding
from vfio_kit.knowledge.findings.software import NEWER_TOOLKIT, UNKNOWN_CARD
from vfio_kit.knowledge.provisioning import (
    AUTO,
    DEFAULT_DRIVER,
    DRIVER_ROWS,
    NO_DRIVER,
    CudaRow,
    DriverRow,
)
from vfio_kit.model import Finding
from vfio_kit.model.advice import UnknownGpu, Version
from vfio_kit.model.vm import Software


def choose(wanted: Wanted, cards: tuple[Card, ...]) -> Choice:
    """The driver, and the CUDA for it, that all of the cards take.

    Raises Refused where there is none, with the reason of the tables, and UsageError for `auto`
    without cards.
    """
    name = wanted.driver or DEFAULT_DRIVER
    if name == NO_DRIVER:
        return Choice(_software(wanted, None, None, cards))
    require_nvidia(cards)
    require_common_branch(cards)
    if name == AUTO:
        driver, cuda = _newest(wanted, cards)
    else:
        driver, cuda = _named(wanted, name, cards)
    _require_harmless_packages(wanted, driver)
    findings = [_unknown(card, driver) for card in cards if isinstance(card.known, UnknownGpu)]
    native = native_cuda(driver.branch)
    if cuda is not None and cuda.version > native:
        findings.append(_newer_toolkit(driver, cuda, native))
    return Choice(_software(wanted, driver, cuda, cards), tuple(findings))


def _software(
    wanted: Wanted, driver: DriverRow | None, cuda: CudaRow | None, cards: tuple[Card, ...]
) -> Software:
    return Software(
        driver=driver.name if driver else NO_DRIVER,
        cuda=cuda.name if cuda else None,
        cuda_way=wanted.cuda_way,
        capabilities=capabilities(cards),
        packages=wanted.packages,
        bundle=wanted.bundle,
    )


def _named(wanted: Wanted, name: str, cards: tuple[Card, ...]) -> tuple[DriverRow, CudaRow | None]:
    """The driver of this name, with its CUDA; the reasons of the cards come before the guest's."""
    somewhere = next((row for row in DRIVER_ROWS.values() if row.name == name), None)
    row = DRIVER_ROWS.get((wanted.guest, name))
    nos = driver_nos(somewhere, cards) if somewhere else []
    if nos:
        raise refusal(f"{_called(wanted, name)} does not go", nos, wanted, cards)
    if row is None:
        no = No(f"vfio-kit does not install driver {name} in {wanted.guest}")
        raise refusal("", [no], wanted, cards)
    cuda, nos = toolkit(wanted, row, cards)
    if nos:
        raise refusal(f"{_called(wanted, name)} goes, its CUDA does not", nos, wanted, cards)
    return row, cuda


def _called(wanted: Wanted, name: str) -> str:
    return f"driver {name}" if wanted.driver else f"driver {name} (the default)"


def _newest(wanted: Wanted, cards: tuple[Card, ...]) -> tuple[DriverRow, CudaRow | None]:
    """The newest driver of the guest that all cards take, with a CUDA that is wanted."""
    if not cards:
        raise UsageError(
            "driver auto chooses by the card, and no card is named",
            f"name the driver, as in --driver {DEFAULT_DRIVER}, or the compute capability",
        )
    for card in cards:
        if isinstance(card.known, UnknownGpu):
            raise Refused(
                f"no driver can be chosen for {card.label}: {card.known.reason}",
                f"name it, as in --driver {DEFAULT_DRIVER}, or --driver {NO_DRIVER}",
            )
    refused: dict[No, list[str]] = {}
    for row in rows(wanted.guest):
        nos = driver_nos(row, cards)
        if not nos:
            cuda, nos = toolkit(wanted, row, cards)
            if not nos:
                return row, cuda
        refused.setdefault(nos[0], []).append(row.name)
    reasons = [
        replace(no, reason=f"driver {', '.join(names)}: {no.reason}")
        for no, names in refused.items()
    ]
    raise refusal(f"{wanted.guest} has no driver for this", reasons, wanted, cards)


def _require_harmless_packages(wanted: Wanted, driver: DriverRow) -> None:
    """Raises Refused for a package that would put another driver in the place of this one."""
    for package in wanted.packages:
        name = package.partition("=")[0]
        if any(fnmatchcase(name, pattern) for pattern in driver.never):
            raise Refused(
                f"the package {name} would replace driver {driver.name}",
                "leave it out: the driver and CUDA are chosen by --driver and --cuda",
            )


def _unknown(card: Card, driver: DriverRow) -> Finding:
    assert isinstance(card.known, UnknownGpu)
    return finding(
        UNKNOWN_CARD,
        card.address,
        f"whether driver {driver.name} drives {card.label} is not known: {card.known.reason}",
        f"if it does not: --driver {NO_DRIVER}, and install in the guest what does",
    )


def _newer_toolkit(driver: DriverRow, cuda: CudaRow, native: Version) -> Finding:
    return finding(
        NEWER_TOOLKIT,
        None,
        f"CUDA {cuda.name} is newer than the {native} that driver {driver.name} speaks: what it "
        "compiles for the card runs, PTX that the driver would have to compile does not",
        f"compile for the card (nvcc -arch=sm_NN), or take a toolkit up to {native}",
    )
