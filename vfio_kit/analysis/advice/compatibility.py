"""What drives a GPU: the tables of knowledge/ applied to one card and one kernel. Pure."""

from vfio_kit.analysis.advice.chips import chip_of, family_of, short_name
from vfio_kit.analysis.advice.drivability import drivability
from vfio_kit.knowledge.branches import BRANCHES, Branch
from vfio_kit.knowledge.gpus import (
    BOARDS,
    FAMILIES,
    NOUVEAU_SOURCE,
    OPEN_MODULES_SOURCE,
    OPEN_ONLY_SOURCE,
    Board,
    GpuFamily,
)
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.ollama import (
    LEAST_CAPABILITY,
    NO_ROW_SOURCE,
    OLLAMA,
    OLLAMA_FORKS,
    OllamaRow,
)
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.knowledge.provisioning import DEFAULT_DRIVER, DRIVER_ROWS, DriverRow
from vfio_kit.model.advice import (
    Advice,
    Alternative,
    Answer,
    BranchAnswer,
    Drivable,
    HostAnswer,
    OllamaAnswer,
    OpenModules,
    Recommendation,
    UnknownGpu,
    Version,
    Way,
)


def advise(
    vendor_id: int, device_id: int, name: str | None, kernel_release: str
) -> Advice | UnknownGpu:
    """What is known about driving the device with these ids and this name (None: it has none).

    kernel_release  that of the host, as `uname -r` has it; empty if it is not known.
    """
    ids = f"{vendor_id:04x}:{device_id:04x}"
    if vendor_id != NVIDIA:
        return UnknownGpu(ids, name, "not a GPU of NVIDIA's, and the table knows those alone")
    if name is None:
        return UnknownGpu(ids, None, "no list of names has this id")
    chip = chip_of(name)
    if chip is None:
        return UnknownGpu(ids, name, "the name begins with no codename of a GPU")
    family = family_of(chip)
    if family is None:
        return UnknownGpu(ids, name, f"the table does not have the chip {chip}")
    board = next((board for board in BOARDS if board.device_id == device_id), None)
    return _advice(ids, name, chip, family, board, kernel_release)


def advise_capability(capability: str) -> Advice | UnknownGpu:
    """What is known about driving the cards of a compute capability, as in 5.2."""
    for family in FAMILIES:
        if str(family.compute_capability) == capability:
            chip = family.chips[0]
            return _advice("", f"{chip} [{family.architecture}]", chip, family, None, "")
    return UnknownGpu(None, None, f"the table has no compute capability {capability}")


def _advice(
    ids: str, name: str, chip: str, family: GpuFamily, board: Board | None, kernel_release: str
) -> Advice:
    last_branch, source = family.last_branch, family.source
    if board is not None:
        last_branch, source = board.last_branch, board.source
    branches = tuple(
        _branch_answer(branch, family, last_branch, source)
        for branch in BRANCHES
        if branch.general or branch.number == last_branch
    )
    host = drivability(branches, last_branch, kernel_release)
    chosen = _chosen(branches, family, last_branch)
    rows = _rows(chosen.branch, family)
    return Advice(
        ids=ids,
        name=name,
        chip=chip,
        architecture=family.architecture,
        compute_capability=family.compute_capability,
        first_cuda=family.first_cuda,
        last_cuda=family.last_cuda,
        last_branch=last_branch,
        source=source,
        branches=branches,
        open_modules=_open_modules(family),
        nouveau=Answer(
            False,
            "CUDA is libcuda, and libcuda speaks to NVIDIA's own modules alone",
            NOUVEAU_SOURCE,
        ),
        ollama=_ollama_answer(chosen.branch, family.compute_capability),
        host=host,
        recommendation=_recommendation(short_name(name), chosen, rows, branches, last_branch, host),
    )


def _branch_answer(
    branch: Branch, family: GpuFamily, last_branch: int | None, source: str
) -> BranchAnswer:
    """A branch drives a chip from the first that speaks a CUDA which compiles for it, to its last.

    (Each branch keeps all chips of the one before, but for those whose last branch that was.)
    """
    cuda: Version | None = None
    if last_branch is not None and branch.number > last_branch:
        answer = Answer(False, f"{last_branch} is the last branch for this card", source)
    elif branch.cuda < family.first_cuda:
        why = f"speaks CUDA {branch.cuda}; this chip wants CUDA {family.first_cuda}"
        answer = Answer(False, why, branch.source)
    else:
        cuda = branch.cuda if family.last_cuda is None else min(branch.cuda, family.last_cuda)
        why = f"speaks CUDA {branch.cuda}"
        if cuda < branch.cuda:
            why += f"; the last toolkit for this chip is {cuda}"
        if family.open_modules is OpenModules.ONLY:
            why += "; with the open modules only"
        answer = Answer(True, why, branch.source)
    row = _ollama_row(branch.number, family.compute_capability) if answer.supported else None
    return BranchAnswer(
        branch=branch.number,
        answer=answer,
        release=branch.release,
        native_cuda=branch.cuda,
        cuda=cuda,
        ollama=row.version if row else None,
        guests=branch.guests,
        kernels=branch.kernels,
    )


def _open_modules(family: GpuFamily) -> Answer:
    match family.open_modules:
        case OpenModules.NO:
            return Answer(False, "they begin with Turing", OPEN_MODULES_SOURCE)
        case OpenModules.YES:
            return Answer(True, "they drive Turing and all that came later", OPEN_MODULES_SOURCE)
        case OpenModules.ONLY:
            return Answer(True, "the proprietary ones do not drive this chip", OPEN_ONLY_SOURCE)


def _ollama_row(branch: int, capability: Version) -> OllamaRow | None:
    for row in OLLAMA:
        fits = row.first_capability <= capability and (
            row.last_capability is None or capability <= row.last_capability
        )
        if fits and branch >= row.first_branch:
            return row
    return None


def _ollama_answer(branch: int, capability: Version) -> OllamaAnswer:
    row = _ollama_row(branch, capability)
    if row is not None:
        return OllamaAnswer(row.version, branch, row.reason, row.source)
    if capability >= LEAST_CAPABILITY:
        why = f"no stock release is known to run on driver {branch}"
        return OllamaAnswer(None, branch, why, NO_ROW_SOURCE)
    why, source = f"stock builds begin with compute capability {LEAST_CAPABILITY}", NO_ROW_SOURCE
    for fork in OLLAMA_FORKS:
        if fork.capability == capability:
            why, source = f"{why}; the fork {fork.name} is built for {capability}", fork.source
    return OllamaAnswer(None, branch, why, source)


def _chosen(
    branches: tuple[BranchAnswer, ...], family: GpuFamily, last: int | None
) -> BranchAnswer:
    """The driver to recommend: of those that drive the card, for one whose branches have ended
    vfio-kit's default, else what it installs, else the last; for a current one the newest
    long-term branch."""
    able = [answer for answer in branches if answer.answer.supported]
    if last is None:
        long_term = {branch.number for branch in BRANCHES if branch.long_term}
        preferred = [answer for answer in able if answer.branch in long_term]
    else:
        installed = [answer for answer in able if _rows(answer.branch, family)]
        default = [answer for answer in installed if str(answer.branch) == DEFAULT_DRIVER]
        preferred = default or installed
    return (preferred or able)[-1]


def _rows(branch: int, family: GpuFamily) -> tuple[DriverRow, ...]:
    """What vfio-kit installs of the branch for the family, the default guest system first."""
    return tuple(
        row
        for guest in GUESTS
        for row in DRIVER_ROWS.values()
        if (row.guest, row.branch) == (guest, branch)
        and row.open_modules is (family.open_modules is OpenModules.ONLY)
    )


def _recommendation(
    card: str,
    chosen: BranchAnswer,
    rows: tuple[DriverRow, ...],
    branches: tuple[BranchAnswer, ...],
    last_branch: int | None,
    host: HostAnswer,
) -> Recommendation:
    assert chosen.cuda is not None
    carried = [package.guest for package in chosen.guests if package.guest in GUESTS]
    last = next((answer for answer in branches if answer.branch == last_branch), None)
    others: tuple[Alternative, ...] = ()
    if last is not None and last.cuda is not None and last.branch != chosen.branch:
        others = (Alternative(last.branch, last.cuda),)
    way = _way(last_branch, host)
    return Recommendation(
        way=way,
        summary=f"{card}: {_summary(way, chosen, others, host)}",
        driver=chosen.branch,
        release=chosen.release,
        cuda=chosen.cuda,
        guest=next(iter((*(row.guest for row in rows), *carried)), None),
        installed=bool(rows),
        alternatives=others,
        notes=_notes(way, chosen, rows),
    )


def _way(last_branch: int | None, host: HostAnswer) -> Way:
    """A card whose branches have ended holds its host to an old driver: it goes to a guest."""
    if last_branch is not None:
        return Way.PASSTHROUGH
    if host.drivable in (Drivable.YES, Drivable.KERNEL_UNKNOWN):
        return Way.NOT_NEEDED
    return Way.UNDECIDED


def _summary(
    way: Way, chosen: BranchAnswer, others: tuple[Alternative, ...], host: HostAnswer
) -> str:
    driver = f"driver {chosen.release or chosen.branch} with CUDA {chosen.cuda}"
    if way is Way.PASSTHROUGH:
        rest = "".join(f", or driver {o.driver} with CUDA up to {o.cuda}" for o in others)
        return f"passthrough, {driver}{rest or ', and nothing newer'}"
    if way is Way.NOT_NEEDED:
        kernel = f"on Linux {host.kernel}" if host.kernel else "on a modern kernel"
        branch = chosen.branch
        if host.branches and branch not in host.branches:
            branch = host.branches[-1]
        return (
            f"you don't need this tool for that card: driver {branch} drives it {kernel}. "
            "Pass it through only to isolate it"
        )
    return (
        f"no driver of a stable release is known to build on Linux {host.kernel}; if none does, "
        f"passthrough, {driver}"
    )


def _notes(way: Way, chosen: BranchAnswer, rows: tuple[DriverRow, ...]) -> tuple[str, ...]:
    if way is Way.NOT_NEEDED:
        return ()
    notes: list[str] = []
    if rows and rows[0].name != DEFAULT_DRIVER:
        notes.append(f"ask for it: --driver {rows[0].name}")
    toolkit = Version.leading(rows[0].default_cuda or "") if rows else None
    if toolkit and chosen.cuda and toolkit > chosen.cuda:
        notes.append(
            f"the CUDA {toolkit} that vfio-kit installs does not compile for this chip: take "
            f"--cuda none, and the toolkit {chosen.cuda}"
        )
    if not rows:
        notes.append(
            f"vfio-kit does not install driver {chosen.branch}: take --driver none, and install "
            "it in the guest"
        )
    if not any(kernel.stable for kernel in chosen.kernels):
        notes.append(f"no kernel is known on which driver {chosen.branch} builds")
    return tuple(notes)
