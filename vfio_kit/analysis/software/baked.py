"""What an image that was made holds, against what is wanted and the cards that come."""

from vfio_kit.analysis.advice.fit import driver_misfit, toolkit_misfit
from vfio_kit.analysis.software.nouns import (
    Card,
    Choice,
    No,
    Wanted,
    capabilities,
)
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.provisioning import AUTO, NO_CUDA, NO_DRIVER
from vfio_kit.model.advice import UnknownGpu, Version
from vfio_kit.model.vm import BakedImage, Software


def choose_baked(wanted: Wanted, baked: BakedImage, cards: tuple[Card, ...]) -> Choice:
    """What an image holds, where that is what is wanted, and what the cards take.

    Raises UsageError that names both sides.
    """
    _require_match("guest", wanted.guest, baked.guest)
    if wanted.driver != AUTO:
        _require_match("driver", wanted.driver, baked.driver)
    if wanted.cuda != AUTO:
        _require_match("cuda", wanted.cuda, baked.cuda or NO_CUDA)
    has = {*baked.packages, *(package.partition("=")[0] for package in baked.packages)}
    missing = ", ".join(package for package in wanted.packages if package not in has)
    if missing:
        raise UsageError(
            f"the spec asks for {missing}, and the image was made without",
            "leave it out of the spec, or make the image anew: vfio-kit bake --package",
        )
    for card in cards:
        no = _baked_misfit(baked, card)
        if no is not None:
            raise UsageError(
                f"the image is not for {card.label}: {no.reason}",
                "make one for this card: vfio-kit bake",
            )
    software = Software(
        driver=baked.driver,
        cuda=baked.cuda,
        cuda_way=baked.cuda_way,
        capabilities=capabilities(cards) or baked.capabilities,
        packages=baked.packages,
        baked=True,
    )
    return Choice(software)


def _require_match(key: str, wanted: str | None, has: str) -> None:
    if wanted not in (None, has):
        raise UsageError(
            f"the spec asks for {key} {wanted}, and the image was made with {key} {has}",
            f"{key} = {has!r} in the spec, or an image that was made so: vfio-kit bake",
        )


def _baked_misfit(baked: BakedImage, card: Card) -> No | None:
    if isinstance(card.known, UnknownGpu) or baked.driver == NO_DRIVER:
        return None
    branch, _, flavour = baked.driver.partition("-")
    if not branch.isdecimal():
        return No(f"its manifest names a driver that there is none of: {baked.driver!r}")
    no = driver_misfit(card.known, int(branch), open_modules=flavour == "open")
    if no is not None:
        return No(f"its driver is {baked.driver}, and {no.reason}")
    cuda = Version.leading(baked.cuda or "")
    no = toolkit_misfit(card.known, cuda) if cuda else None
    if no is not None:
        return No(f"its CUDA is {baked.cuda}, and {no.reason}")
    # What is compiled for a capability runs on newer ones, by its PTX, and on no older one.
    built = [found for text in baked.capabilities if (found := Version.leading(text))]
    if built and card.known.compute_capability < min(built):
        return No(
            f"its samples are built for {', '.join(baked.capabilities)}, "
            f"and the card has {card.known.compute_capability}"
        )
    return None
