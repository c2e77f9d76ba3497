"""Which commands of README a newcomer types."""

from tests.docs.pages import read_page
from tests.lab.newcomer import Step, _outcome, _script, commands
from tests.lab.product import CHECKOUT

PAGE = """\
<!-- run: readme -->
```sh
apt-get install a \\
    b
# a remark
tool --version
```
<!-- run: shell -->
```sh
not this
```
<!-- run: readme name=demo -->
```sh
scripts/demo
```
"""


def test_those_of_the_blocks_that_are_marked_in_their_order() -> None:
    assert list(commands(PAGE)) == ["apt-get install a b", "tool --version", "scripts/demo"]


def test_all_blocks_that_the_manuals_tests_leave_to_a_newcomer_are_found() -> None:
    readme = CHECKOUT / "README.md"
    blocks = [b for b in read_page(readme).blocks if b.marker and b.marker.kind == "readme"]
    left = " ".join(block.text.replace("\\\n", " ") for block in blocks)
    assert left.split() == " ".join(commands(readme.read_text("utf-8"))).split()


def test_readme_installs_and_plays_the_demo() -> None:
    found = list(commands((CHECKOUT / "README.md").read_text()))
    assert found[0].startswith("apt-get")
    assert found[-1] == "scripts/demo"


def test_what_came_after_a_failure_was_not_run() -> None:
    steps = _outcome(["a", "b", "c"], "0 0 10.5 12.0\n1 3 12.0 12.5\n")
    assert steps == [Step("a", 0, 1.5), Step("b", 3, 0.5), Step("c", None, 0.0)]


def test_each_command_is_run_as_it_is_written() -> None:
    assert '\necho "it\'s" | cat\n' in _script(['echo "it\'s" | cat'])
