"""Serving: servers of both kinds with one of several interceptors, each in a process of its own, to be measured.

=====================  ==============================================================================================
bare                   no interceptor
no-op                  an interceptor that does nothing
busy for 10 us         an interceptor that is, to no end: what the budget of the corridor costs a server
authz                  a ``written`` audit record for each call, the rest as in the example's configuration
authz, telemetry       the same with the section ``telemetry``, into OpenTelemetry's SDK
PyPI                   see :mod:`benchmarks.alternative`
PyPI, remembering      the same, with what it found for a token and for a question kept by ``lru_cache``
=====================  ==============================================================================================
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc

BUSY = "busy for 10 us"
OPEN = ("bare", "no-op", BUSY)
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


class _Busy(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        _be_busy()
        return continuation(handler_call_details)


class _AsyncBusy(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        _be_busy()
        return await continuation(handler_call_details)


def _interceptors(kind: str, variant: str, config: Path, stack: ExitStack) -> list[Any]:
    threads = kind == "sync"
    if variant == "no-op":
        return [_NoOp() if threads else _AsyncNoOp()]
    if variant == BUSY:
        return [_Busy() if threads else _AsyncBusy()]
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


def _serve(kind: str, variant: str, threads: int, config: Path, pipe: Connection) -> None:
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
def server_process(kind: str, variant: str, threads: int, config: Path) -> Iterator[tuple[int, int]]:
    """A server process, ``sync`` (of so many threads) or ``aio``, with one of :data:`VARIANTS`: its pid and port."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(kind, variant, threads, config, there))
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
