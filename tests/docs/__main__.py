"""python -m tests.docs --write   writes the pages anew that are made from tables and commands
python -m tests.docs --links   prints the addresses of other servers that the manual names
python -m tests.docs --ask     asks for each of them, and exits with 1 where one is gone
"""

import sys

from tests.docs.pages import CHECKOUT


def main(words: list[str]) -> int:
    """Does what the one word says; returns the exit status."""
    if words == ["--write"]:
        from tests.docs.written import write_all

        for path in write_all(CHECKOUT):
            print(f"written: {path}")
        return 0
    if words in (["--links"], ["--ask"]):
        from tests.docs.links import external_links

        if words == ["--ask"]:
            from tests.docs.asking import ask_all

            return ask_all(external_links())
        print(*external_links(), sep="\n")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
