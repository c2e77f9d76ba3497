"""What all tests share: the flag that writes the goldens anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write tests/golden/ anew from what is rendered now, in the place of comparing",
    )
