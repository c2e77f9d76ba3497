"""Whether a domain runs: one notion for all commands."""

import pytest

from vfio_kit.analysis.leftovers import VmFacts
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.model.domain import DomainState, runs


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", True),
        ("blocked", True),
        ("paused", True),
        ("shutting down", True),
        ("suspended", True),
        ("shut off", False),
        ("crashed", False),
        (None, False),
    ],
)
def test_whoever_asks_it_is_the_same(state: str | None, expected: bool) -> None:
    assert runs(state) is expected
    assert VmFacts("vm", domain=state).runs is expected
    assert state is None or DomainState("vm", "", state).runs is expected


def test_the_words_are_those_that_libvirt_gives() -> None:
    with Hypervisor("test:///default") as hypervisor:
        (found,) = hypervisor.domains()
        assert found.runs
        hypervisor.destroy(found.name)
        try:
            (ended,) = hypervisor.domains()
            assert (ended.state, ended.runs) == ("shut off", False)
        finally:
            hypervisor.start(found.name)
