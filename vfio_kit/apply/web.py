"""HTTP: answers to questions, attempts in a bad network, and no host that nobody named.

Python's own urllib is enough for it: redirects have to be judged one by one and attempts have to
go on where the last one broke off, which no library does for us; and it takes proxies from the
environment (https_proxy, no_proxy) and certificates from the system.
"""

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from email.message import Message
from typing import IO, TypeVar
from urllib.parse import urlsplit

from vfio_kit import __version__
from vfio_kit.errors import HypervisorError, Refused, VfioKitError

MIB = 1 << 20
PAST_END = 416
"""The status for a range that begins behind the end."""
KEPT = "what is there is kept: the same command goes on from it"

_CHUNK = 1 << 18
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE = 60

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How a bad network is borne; times in seconds."""

    attempts: int = 6
    """In a row, with no mebibyte won between them."""
    pause: float = 1
    """Before the second attempt; doubled before each later one."""
    timeout: float = 30
    """For the connection, and for the next bytes to come."""


@dataclass(frozen=True, slots=True)
class Web:
    """How to ask for files, and whom to tell."""

    hosts: tuple[str, ...]
    """Where we may be sent on to, besides the same host; `.example` is every host below it."""
    note: Callable[[str], None]
    """Called with what is worth a line: another attempt, a new beginning."""
    meter: Callable[[int, int | None], None]
    """Called with the bytes there are, and those there will be where the server tells."""
    patience: Patience = Patience()
    timed: Callable[[str, str], AbstractContextManager[None]] = lambda _what, _doing: nullcontext()
    """Entered for each part of the work, with what it is when it is done, and until then."""


class Broken(VfioKitError):
    """What another attempt may put right; `pause` is what the server asks for, in seconds."""

    def __init__(self, message: str, pause: float = 0) -> None:
        super().__init__(message)
        self.pause = pause


def patiently(url: str, web: Web, once: Callable[[], _T], won: Callable[[], int]) -> _T:
    """What `once` gives, after as many attempts as patience has; each new mebibyte renews it."""
    failures, best = 0, won()
    while True:
        try:
            return once()
        except Broken as error:
            if won() >= best + MIB:
                failures, best = 0, won()
            failures += 1
            if failures >= web.patience.attempts:
                hint = "is the network there, and does it need a proxy (https_proxy)? A mirror is "
                hint += "named with --mirror"
                raise HypervisorError(
                    f"{url}: {error.message} ({failures} attempts)",
                    f"{hint}\n{KEPT}" if won() else hint,
                ) from None
            pause = max(web.patience.pause * 2 ** (failures - 1), error.pause)
            pause = min(pause, _LONGEST_PAUSE)
            web.note(f"{error.message}; again in {pause:.0f} s")
            time.sleep(pause)


class Answer:
    """An HTTP answer that is about the file: 200, 206, or 416."""

    def __init__(self, status: int, headers: Message, body: http.client.HTTPResponse) -> None:
        self.status, self.headers = status, headers
        self._body = body

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        with _reading():
            return self._body.read(size)

    def some(self, size: int | None) -> bytes:
        """What has come of the next `size` bytes; waits for the first; empty at the end."""
        with _reading():
            return self._body.read1(_CHUNK if size is None else min(size, _CHUNK))


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_words(error)) from None


@contextmanager
def ask(
    url: str, headers: dict[str, str], web: Web, *, may_be_past_end: bool = False
) -> Iterator[Answer]:
    """Asks, and closes the connection in the end."""
    request = urllib.request.Request(
        url, headers={"User-Agent": f"vfio-kit/{__version__}", "Accept": "*/*", **headers}
    )
    try:
        body = _opener(url, web.hosts).open(request, timeout=web.patience.timeout)
    except urllib.error.HTTPError as error:
        if error.code != PAST_END or not may_be_past_end:
            with error:
                raise _http_failure(url, error) from None
        body = error
    except urllib.error.URLError as error:
        raise _no_answer(url, error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(url, error) from None
    except ValueError as error:  # a server may send us on to anything
        raise HypervisorError(f"{url}: what the server sends us on to is no URL: {error}") from None
    with body:
        yield Answer(body.status, body.headers, body)


def _http_failure(url: str, error: urllib.error.HTTPError) -> VfioKitError:
    what = f"the server says {error.code} {error.reason}"
    if error.code in _TRANSIENT:
        asked = error.headers["Retry-After"] or ""
        return Broken(what, int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 0)
    hint = "another serial, or another mirror?" if error.code in (404, 410) else ""
    return HypervisorError(f"{url}: {what}", hint)


def _no_answer(url: str, reason: object) -> VfioKitError:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return HypervisorError(
            f"{url}: the server's certificate is not accepted: {reason.verify_message}",
            "is the clock right, and ca-certificates installed? A proxy that looks inside wants "
            "its own certificate among them",
        )
    return Broken(_words(reason))


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection ended too early"
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)


def _opener(url: str, hosts: tuple[str, ...]) -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, proxies of the environment, and nothing else that urllib could do."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(urlsplit(url).hostname or "", hosts),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the same host and to those of the list, and never out of TLS."""

    def __init__(self, origin: str, hosts: tuple[str, ...]) -> None:
        self._allowed = (origin, *hosts)

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            self._require_allowed(req, newurl)
        except Refused:
            fp.close()  # urllib would have gone on with it, and forgets it
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def _require_allowed(self, req: urllib.request.Request, newurl: str) -> None:
        new = urlsplit(newurl)
        if new.scheme not in ("https", req.type):
            raise Refused(
                f"{req.full_url} sends us on to {newurl}, which is not {req.type}",
                "a captive portal or a proxy may do that; name a mirror with --mirror",
            )
        if not any(_is_host(new.hostname or "", allowed) for allowed in self._allowed):
            raise Refused(
                f"{req.full_url} sends us on to another host, {new.hostname}",
                f"if you trust it, name it: --mirror {new.scheme}://{new.netloc}/…",
            )


def _is_host(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and host.endswith(allowed))
