"""What all tests share: the flag that writes the goldens anew."""

import pytest
from hypothesis import settings

# A machine that does something else as well is slow now and then, and no test fails for that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write tests/golden/ anew from what is rendered now, in the place of comparing",
    )
