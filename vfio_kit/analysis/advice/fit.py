"""Whether a driver, a toolkit and a card go together: each time the reason why not. Pure."""

from vfio_kit.analysis.advice.chips import family_of
from vfio_kit.knowledge.branches import BRANCHES
from vfio_kit.knowledge.gpus import OPEN_ONLY_SOURCE
from vfio_kit.knowledge.provisioning import LEAST_BRANCH, LEAST_BRANCH_SOURCE
from vfio_kit.model.advice import Advice, Answer, OpenModules, Version


def driver_misfit(card: Advice, branch: int, *, open_modules: bool) -> Answer | None:
    """Why this branch, with these kernel modules, does not drive the card; None: it does."""
    answer = next((one.answer for one in card.branches if one.branch == branch), None)
    if answer is None:
        return Answer(False, "nothing is known of this branch and the card", "")
    if not answer.supported:
        return answer
    if open_modules and not card.open_modules.supported:
        reason = f"the open modules: {card.open_modules.reason}"
        return Answer(False, reason, card.open_modules.source)
    if not open_modules and wants_open_modules(card):
        return Answer(False, "only the open modules drive this chip", OPEN_ONLY_SOURCE)
    return None


def wants_open_modules(card: Advice) -> bool:
    """Whether the proprietary modules do not drive the card at all."""
    family = family_of(card.chip)
    return family is not None and family.open_modules is OpenModules.ONLY


def toolkit_misfit(card: Advice, toolkit: Version) -> Answer | None:
    """Why this toolkit does not compile for the card; None: it does."""
    what = f"compute capability {card.compute_capability}"
    if toolkit < card.first_cuda:
        return Answer(False, f"the first for {what} is CUDA {card.first_cuda}", card.source)
    if card.last_cuda is not None and toolkit > card.last_cuda:
        return Answer(False, f"the last for {what} is CUDA {card.last_cuda}", card.source)
    return None


def pair_misfit(branch: int, toolkit: Version) -> Answer | None:
    """Why what this toolkit compiles does not run on this branch; None: it does."""
    native = native_cuda(branch)
    if toolkit.major <= native.major:
        return None
    least = LEAST_BRANCH.get(toolkit.major)
    wants = f"driver {least} or newer" if least else "a newer driver"
    reason = f"CUDA {toolkit.major}.x wants {wants}, and {branch} speaks CUDA {native}"
    return Answer(False, reason, LEAST_BRANCH_SOURCE)


def native_cuda(branch: int) -> Version:
    """What the branch's libcuda speaks; raises KeyError for one that the table does not have."""
    return _NATIVE[branch]


_NATIVE = {branch.number: branch.cuda for branch in BRANCHES}
