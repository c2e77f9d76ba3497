"""python -m tests.docs --write: writes the pages anew that are made from tables and commands."""

import sys

from tests.docs.pages import CHECKOUT
from tests.docs.written import write_all

if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"{__doc__}")
    for path in write_all(CHECKOUT):
        print(f"written: {path}")
