"""Pages that are made from tables, schemas and commands are as these are now."""

import pytest

from tests.docs.pages import CHECKOUT
from tests.docs.written import WRITTEN, Written, write_all


@pytest.mark.parametrize("one", WRITTEN, ids=lambda one: one.path)
def test_it_is_current(one: Written, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-goldens"):
        write_all(CHECKOUT)
    file = CHECKOUT / one.path
    assert file.exists() and file.read_text("utf-8") == one.due(CHECKOUT), (
        "scripts/docs --write writes it anew"
    )
