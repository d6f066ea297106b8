"""KeyServer: an issuer's key server on loopback that does as it is told, and counts what it is asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from authz.testing import SigningKey

Answer = Callable[[BaseHTTPRequestHandler], None]


class KeyServer:
    """Serves a discovery document and a key set.

    Attributes:
        keys: what it publishes.
        asked: the paths of the requests, in order.
        unchanged: how many answers were 304.
        answer: takes the place of the key set, if it is not None.
    """

    def __init__(self, *keys: SigningKey, tls: ssl.SSLContext | None = None) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []
        self.unchanged = 0
        self.answer: Answer | None = None
        self.discovery: dict[str, Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> KeyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, path: str = "/jwks") -> int:
        return self.asked.count(path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path.endswith("/openid-configuration"):
                    document = {"issuer": outer.url, "jwks_uri": outer.url + "/jwks", **outer.discovery}
                    send(self, json.dumps(document).encode())
                elif outer.answer is not None:
                    outer.answer(self)
                else:
                    outer.publish(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def publish(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        tag = f'"{hash(body)}"'
        if handler.headers.get("If-None-Match") == tag:
            self.unchanged += 1
            handler.send_response(304)
            handler.end_headers()
            return
        send(handler, body, {"ETag": tag})


def send(
    handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str] | None = None, status: int = 200
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Take the request and never answer."""
    time.sleep(30)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send a header's bytes so slowly that it never ends, and never pause so long that a reading times out."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    try:
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.02)
    except OSError:
        return


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def eventually(what: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until ``what`` is true, and fail the test if that takes too long."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
