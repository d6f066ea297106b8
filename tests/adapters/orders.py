"""The orders service behind a real engine, on both servers: what the adapter tests call."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from authz.engine import Engine
from examples.orders.keys import Keys, make_keys
from examples.orders.server import CONFIG

POLICIES = Path(__file__).parents[2] / "policies"


def configure(folder: Path, bundle: str = "default", *, certificates: bool = True) -> tuple[Path, Keys]:
    """The example's configuration in a folder of its own, with fresh keys; ``certificates``: whether these count."""
    keys = make_keys(folder / "keys")
    path = folder / "authz.yaml"
    text = CONFIG.read_text().replace("../../policies/default", str(POLICIES / bundle))
    if not certificates:
        text = text[: text.index("  mtls:")].replace("  combine: jwt\n", "")
    path.write_text(text)
    return path, keys


def records(folder: Path) -> list[dict[str, Any]]:
    """The audit records so far."""
    lines = map(json.loads, (folder / "audit.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "decision"]


@contextmanager
def sync_port(engine: Engine, *handlers: Any, registered: Any = None) -> Iterator[int]:
    """A `grpc.server` with ``handlers`` behind the interceptor: its port."""
    from authz.adapters.grpc import AuthorizationInterceptor

    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[AuthorizationInterceptor(engine)])
    _add(server, handlers, registered)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def async_port(engine: Engine, *handlers: Any, registered: Any = None) -> Iterator[int]:
    """A `grpc.aio.server` with ``handlers`` behind the interceptor, in a thread of its own: its port."""
    from authz.adapters.grpc_aio import AuthorizationInterceptor

    ready, stop = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = grpc.aio.server(interceptors=[AuthorizationInterceptor(engine)])
        _add(server, handlers, registered)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield ports[0]
    finally:
        stop.set()
        thread.join(20)


def _add(server: Any, handlers: tuple[Any, ...], registered: dict[str, Any] | None) -> None:
    server.add_generic_rpc_handlers(handlers)
    for service, methods in (registered or {}).items():
        server.add_registered_method_handlers(service, methods)
