"""Asks other servers for the pages that the manual names; for a scheduled job, never for a test."""

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

_AGENT = "vfio-kit-links/1 (+https://github.com/)"
_GONE = frozenset({404, 410})
_TIMEOUT = 30.0


def ask_all(links: list[str]) -> int:
    """Prints what is gone (404, 410) and what could not be asked; returns 1 where any is gone.

    Servers refuse robots, or are down for an hour: only what they say is gone fails.
    """
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(links, pool.map(_ask, links), strict=True))
    for link, (_, told) in answers.items():
        if told:
            print(f"{told}  {link}")
    gone = [link for link, (is_gone, _) in answers.items() if is_gone]
    print(f"{len(links)} asked, {len(gone)} gone")
    return 1 if gone else 0


def _ask(link: str) -> tuple[bool, str]:
    """Whether it is gone, and what there is to tell of it."""
    request = urllib.request.Request(link, headers={"User-Agent": _AGENT})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT):
            return False, ""
    except urllib.error.HTTPError as error:
        return error.code in _GONE, f"{error.code}"
    except (OSError, ValueError) as error:
        return False, f"not asked: {error}"
