"""Serving: servers of both kinds with one of several interceptors, each in a process of its own, to be measured.

=====================  ==============================================================================================
bare                   no interceptor
no-op                  an interceptor that does nothing
busy for 10 us         an interceptor whose handlers are, to no end: what the budget of the corridor costs a server
a line                 an interceptor whose handlers append a line to a file, with the hash of the one before: what no
                       audit log of each call can do without
authz                  a ``written`` audit record for each call, the rest as in the example's configuration
authz, telemetry       the same with the section ``telemetry``, into OpenTelemetry's SDK
PyPI                   see :mod:`benchmarks.alternative`
PyPI, remembering      the same, with what it found for a token and for a question kept by ``lru_cache``
=====================  ==============================================================================================
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc

BUSY = "busy for 10 us"
LINE = "a line"
OPEN = ("bare", "no-op", BUSY, LINE)
"""Those that let everybody in."""
VARIANTS = (*OPEN, "authz", "authz, telemetry", "PyPI", "PyPI, remembering")


class _Echo(rpc.OrdersServicer):
    def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:
        return pb.Order(namespace=request.namespace, item=request.id)

    def TrackOrders(self, requests: Iterator[pb.TrackOrdersRequest], context: Any) -> Iterator[pb.Order]:
        for request in requests:
            yield pb.Order(namespace=request.namespace, item=request.id)


class _AsyncEcho(rpc.OrdersServicer):
    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:
        return pb.Order(namespace=request.namespace, item=request.id)

    async def TrackOrders(
        self, requests: AsyncIterator[pb.TrackOrdersRequest], context: Any
    ) -> AsyncIterator[pb.Order]:
        async for request in requests:
            yield pb.Order(namespace=request.namespace, item=request.id)


class _NoOp(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


class _AsyncNoOp(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


def _be_busy() -> None:
    until = time.perf_counter_ns() + 10_000
    while time.perf_counter_ns() < until:
        pass


class _Line:
    """Appends a line as long as an audit record of the example, with the SHA-256 of the one before."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._hash = "0" * 64
        self._rest = "x" * 900
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            line = f'{{"prev":"{self._hash}","rest":"{self._rest}"}}\n'.encode()
            os.write(self._descriptor, line)
            self._hash = sha256(line).hexdigest()


class _Before(grpc.ServerInterceptor):
    """Does something before each handler, where the handler runs."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._guards: dict[str, Any] = {}

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        guard = self._guards.get(handler_call_details.method)
        if guard is None:
            guard = self._guards[handler_call_details.method] = self._guard(continuation(handler_call_details))
        return guard

    def _guard(self, handler: Any) -> Any:
        do, behaviour = self._do, handler.unary_unary

        def guard(request: Any, context: Any) -> Any:
            do()
            return behaviour(request, context)

        return grpc.unary_unary_rpc_method_handler(guard, handler.request_deserializer, handler.response_serializer)


class _AsyncBefore(grpc.aio.ServerInterceptor):
    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self._guards: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        guard = self._guards.get(handler_call_details.method)
        if guard is None:
            guard = self._guards[handler_call_details.method] = self._guard(await continuation(handler_call_details))
        return guard

    def _guard(self, handler: Any) -> Any:
        do, behaviour = self._do, handler.unary_unary

        async def guard(request: Any, context: Any) -> Any:
            do()
            return await behaviour(request, context)

        return grpc.unary_unary_rpc_method_handler(guard, handler.request_deserializer, handler.response_serializer)


def _interceptors(kind: str, variant: str, config: Path, stack: ExitStack) -> list[Any]:
    threads = kind == "sync"
    if variant == "no-op":
        return [_NoOp() if threads else _AsyncNoOp()]
    if variant in (BUSY, LINE):
        do = _be_busy if variant == BUSY else _Line(config.with_name("line.jsonl"))
        return [_Before(do) if threads else _AsyncBefore(do)]
    if variant.startswith("PyPI"):
        from benchmarks.alternative import AsyncInterceptor, Check, Interceptor

        check = Check(config.parent, threads=threads, remembering="remembering" in variant)
        return [Interceptor(check) if threads else AsyncInterceptor(check)]
    if variant.startswith("authz"):
        import authz

        if "telemetry" in variant:
            config = _with_telemetry(config)
        engine = stack.enter_context(authz.load_config(config))
        adapter = authz.adapters.grpc if threads else authz.adapters.grpc_aio
        return [adapter.AuthorizationInterceptor(engine)]
    return []


def _with_telemetry(config: Path) -> Path:
    """A configuration beside ``config`` that has the section ``telemetry`` too, and a log of its own."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    # nobody looks while it is measured, as between two scrapes
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    path = config.with_name("telemetry.yaml")
    path.write_text(config.read_text().replace("audit.jsonl", "telemetry.jsonl") + "\ntelemetry: {}\n")
    return path


def _serve(
    kind: str, variant: str, threads: int, config: Path, cores: Collection[int] | None, pipe: Connection
) -> None:
    if cores is not None:
        os.sched_setaffinity(0, cores)
    with ExitStack() as stack:
        interceptors = _interceptors(kind, variant, config, stack)
        if kind == "sync":
            server = grpc.server(futures.ThreadPoolExecutor(threads), interceptors=interceptors)
            rpc.add_OrdersServicer_to_server(_Echo(), server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            pipe.send(port)
            pipe.recv()
            server.stop(0).wait()
        else:
            asyncio.run(_serve_async(interceptors, pipe))


async def _serve_async(interceptors: list[Any], pipe: Connection) -> None:
    server = grpc.aio.server(interceptors=interceptors)
    rpc.add_OrdersServicer_to_server(_AsyncEcho(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(0)


@contextmanager
def server_process(
    kind: str, variant: str, threads: int, config: Path, cores: Collection[int] | None = None
) -> Iterator[tuple[int, int]]:
    """A server process, ``sync`` (of so many threads) or ``aio``, with one of :data:`VARIANTS`: its pid and port.

    With ``cores``, it runs on no others.
    """
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(kind, variant, threads, config, cores, there))
    process.start()
    there.close()
    try:
        if not here.poll(30):
            raise RuntimeError(f"the {kind} server with {variant} did not start")
        assert process.pid is not None
        yield process.pid, here.recv()
        here.send("stop")
        process.join(10)
    finally:
        process.kill()
