"""docs/verify.md tells of all there is; its end is written from tables: tests/docs/written."""

from pathlib import Path

import pytest

from tests.unit.verified import WHEN, sound
from vfio_kit.analysis.guest.expect import KEYS
from vfio_kit.cli.verify_command import command
from vfio_kit.cli.verify_prometheus import prometheus_text
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.model.health import CheckStatus

PAGE = Path(__file__).parents[2] / "docs/verify.md"


@pytest.mark.parametrize(
    "word",
    [
        *(f"| `{rung.code}` |" for rung in RUNGS),
        *(f"| `{status.value}` |" for status in CheckStatus),
        *(f"`{key.name}`" for key in KEYS),
        *(
            f"| `{line.split()[2]}` |"
            for line in prometheus_text([sound("k80", "k80")], WHEN).splitlines()
            if line.startswith("# TYPE ")
        ),
        *(
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--") and option not in ("--state-dir", "--json", "--no-color")
        ),
    ],
)
def test_the_page_tells_of(word: str) -> None:
    assert word in PAGE.read_text("utf-8")
