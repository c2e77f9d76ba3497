"""An HTTP server in this process that serves a few files, and goes wrong as a test wants."""

import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass
class Request:
    """What was asked for."""

    path: str
    range: str | None
    if_range: str | None


@dataclass
class File:
    """A file on the server, and how the server behaves about it."""

    data: bytes
    etag: str | None = '"1"'
    last_modified: str | None = "Thu, 13 Jun 2024 08:00:00 GMT"
    ranges: bool = True
    """Whether Range is honoured."""
    heeds_if_range: bool = True
    length: bool = True
    """Whether Content-Length is sent; without it the end of the connection is that of the file."""
    break_after: list[int] = field(default_factory=list)
    """For each answer in turn: the bytes of its body after which the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """For each answer in turn: an error instead of the file."""
    redirect: str | None = None
    before: Callable[["File"], None] | None = None
    """Called before each answer; may change the file."""
    hang: threading.Event | None = None
    """After the first half of the body, waits for this, or for ten seconds."""
    content_range: str | None = None
    """Said in the place of the truth."""
    claimed: int | None = None
    """Said of its length in the place of the truth."""


class HttpServer:
    """Listens on 127.0.0.1 while it is entered; `files` by their path, which begins with a slash.

    certificate: a file with a certificate and its key, for https.
    """

    def __init__(self, files: dict[str, File] | None = None, certificate: Path | None = None):
        self.files = files if files is not None else {}
        self.requests: list[Request] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.requests.append(
                    Request(self.path, self.headers["Range"], self.headers["If-Range"])
                )
                # A client that goes away is what half of the tests are about.
                try:
                    _answer(self, owner.files.get(self.path))
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `requests`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if certificate is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def asked(self, ending: str) -> list[Request]:
        """The requests for paths with this ending."""
        return [request for request in self.requests if request.path.endswith(ending)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answer(handler: BaseHTTPRequestHandler, file: File | None) -> None:
    if file is None:
        return _error(handler, 404)
    if file.before is not None:
        file.before(file)
    if file.redirect is not None:
        handler.send_response(302)
        handler.send_header("Location", file.redirect)
        handler.send_header("Content-Length", "0")
        return handler.end_headers()
    if file.statuses and (status := file.statuses.pop(0)) != 200:
        return _error(handler, status)
    begin = _begin(handler, file)
    if begin > len(file.data) or (begin and begin == len(file.data)):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(file.data)}")
        handler.send_header("Content-Length", "0")
        return handler.end_headers()
    _send(handler, file, begin)
    return None


def _begin(handler: BaseHTTPRequestHandler, file: File) -> int:
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
    if_range = handler.headers["If-Range"]
    current = if_range in (None, file.etag, file.last_modified) or not file.heeds_if_range
    return int(found[1]) if found and file.ranges and current else 0


def _send(handler: BaseHTTPRequestHandler, file: File, begin: int) -> None:
    body = file.data[begin:]
    handler.send_response(206 if begin else 200)
    if begin:
        whole = len(file.data)
        truth = f"bytes {begin}-{whole - 1}/{whole}"
        handler.send_header("Content-Range", file.content_range or truth)
    for name, value in (("ETag", file.etag), ("Last-Modified", file.last_modified)):
        if value is not None:
            handler.send_header(name, value)
    if file.length:
        handler.send_header("Content-Length", str(file.claimed or len(body)))
    else:
        handler.send_header("Connection", "close")
        handler.close_connection = True
    handler.end_headers()
    cut = file.break_after.pop(0) if file.break_after else None
    if file.hang is not None:
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        file.hang.wait(10)
        body = body[len(body) // 2 :]
    handler.wfile.write(body[:cut])
    if cut is not None:
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


def _error(handler: BaseHTTPRequestHandler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    handler.wfile.write(b"oops\n")
