"""Whether a host's kernel could drive a card itself. Pure."""

from vfio_kit.model.advice import BranchAnswer, Drivable, HostAnswer, KernelRange, Version


def drivability(
    branches: tuple[BranchAnswer, ...], last_branch: int | None, kernel_release: str
) -> HostAnswer:
    """Which of the branches that support the card are known to build on this kernel.

    last_branch  that of the card; None while it has none.
    """
    kernel = Version.leading(kernel_release)
    if kernel is None:
        return HostAnswer(
            "", Drivable.KERNEL_UNKNOWN, (), "which kernel the host runs is not known", ""
        )
    for stable in (True, False):
        builds = _builds(branches, kernel, stable=stable)
        if builds:
            return HostAnswer(
                kernel=kernel_release,
                drivable=Drivable.YES if stable else Drivable.PATCHED,
                branches=tuple(builds),
                reason=_reason(tuple(builds), kernel, last_branch, stable=stable),
                source=builds[max(builds)].source,
            )
    return HostAnswer(
        kernel=kernel_release,
        drivable=Drivable.NOT_KNOWN,
        branches=(),
        reason=f"no driver that supports the card is known to build on Linux {kernel}",
        source="",
    )


def _builds(
    branches: tuple[BranchAnswer, ...], kernel: Version, *, stable: bool
) -> dict[int, KernelRange]:
    """Branch -> the range that holds the kernel, of those that support the card."""
    return {
        answer.branch: found
        for answer in branches
        if answer.answer.supported
        for found in answer.kernels
        if found.stable is stable and found.holds(kernel)
    }


def _reason(
    numbers: tuple[int, ...], kernel: Version, last_branch: int | None, *, stable: bool
) -> str:
    newest = f"driver {numbers[-1]} builds on Linux {kernel}"
    if not stable:
        return f"{newest} only with the patches of Debian unstable"
    if last_branch is None:
        return newest
    return (
        f"{newest}: the host could drive the card itself, and would be held to branch "
        f"{last_branch}, the card's last"
    )
