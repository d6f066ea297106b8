"""Serving: a server of a test's own on a free port of the loopback, behind the interceptor, and a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc

from authz.adapters import grpc as sync_adapter
from authz.adapters import grpc_aio as async_adapter
from authz.engine import Engine

_ADDRESS = "127.0.0.1"
_THREADS = 8


@contextmanager
def serve(engine: Engine, add: Callable[[Any], object]) -> Iterator[Any]:
    """A ``grpc.server`` behind ``engine``, while the context lasts.

    Args:
        engine: who decides.
        add: adds the servicers to the server that it is given.

    Yields:
        a ``grpc.Channel`` to the server, in plaintext.
    """
    interceptor = sync_adapter.AuthorizationInterceptor(engine)
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS), interceptors=[interceptor])
    add(server)
    port = server.add_insecure_port(f"{_ADDRESS}:0")
    server.start()
    try:
        with grpc.insecure_channel(f"{_ADDRESS}:{port}") as channel:
            yield channel
    finally:
        server.stop(None).wait()


@asynccontextmanager
async def serve_aio(engine: Engine, add: Callable[[Any], object]) -> AsyncIterator[Any]:
    """A ``grpc.aio.server`` behind ``engine``, and a ``grpc.aio.Channel`` to it. See :func:`serve`."""
    server = grpc.aio.server(interceptors=[async_adapter.AuthorizationInterceptor(engine)])
    add(server)
    port = server.add_insecure_port(f"{_ADDRESS}:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{_ADDRESS}:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
