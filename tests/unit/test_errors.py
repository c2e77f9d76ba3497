"""Exit codes are public: scripts and runbooks hold on to them."""

import pytest

from vfio_kit import errors
from vfio_kit.errors import VfioKitError

EXIT_CODES = {
    "VfioKitError": 1,
    "UsageError": 2,
    "Refused": 3,
    "HostError": 4,
    "HypervisorError": 5,
    "GuestError": 6,
}


def test_every_error_has_its_exit_code() -> None:
    found = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, VfioKitError)
    }
    assert found == EXIT_CODES


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_says_what_failed_and_what_to_do(name: str) -> None:
    error = getattr(errors, name)("the card is gone", "look behind the sofa")
    assert isinstance(error, VfioKitError)
    assert str(error) == error.message == "the card is gone"
    assert error.hint == "look behind the sofa"


def test_a_hint_may_be_missing() -> None:
    assert VfioKitError("the card is gone").hint == ""
