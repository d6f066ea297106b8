"""What the interceptor costs a server: throughput and CPU beside an interceptor that does nothing, in one run.

Three servers for each kind (`grpc.server`, `grpc.aio.server`), each in a process of its own: bare, with an interceptor
that does nothing, and with authz (a known token, the default bundle, a `written` audit record for each call). The same
client process calls them by turns with 32 callers at once, in short rounds, so that a change of the machine's mood
meets all of them. CPU is the server process's own, user and system, divided by its calls.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from benchmarks.table import machine, write
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.keys import make_keys
from examples.orders.server import CONFIG

CALLERS = 32
BODY = "x" * 200
VARIANTS = ("bare", "no-op", "authz")


class _Echo(rpc.OrdersServicer):
    def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:
        return pb.Order(namespace=request.namespace, item=request.id)


class _AsyncEcho(rpc.OrdersServicer):
    async def GetOrder(self, request: pb.GetOrderRequest, context: Any) -> pb.Order:
        return pb.Order(namespace=request.namespace, item=request.id)


class _NoOp(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


class _AsyncNoOp(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


def _serve(kind: str, variant: str, config: Path, pipe: Connection) -> None:
    import authz

    with ExitStack() as stack:
        interceptors: list[Any] = []
        if variant == "no-op":
            interceptors = [_NoOp() if kind == "sync" else _AsyncNoOp()]
        if variant == "authz":
            engine = stack.enter_context(authz.load_config(config))
            adapter = authz.adapters.grpc if kind == "sync" else authz.adapters.grpc_aio
            interceptors = [adapter.AuthorizationInterceptor(engine)]
        if kind == "sync":
            server = grpc.server(futures.ThreadPoolExecutor(CALLERS), interceptors=interceptors)
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
def server_process(kind: str, variant: str, config: Path) -> Iterator[tuple[int, int]]:
    """A server process: its pid and its port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(kind, variant, config, there))
    process.start()
    try:
        if not here.poll(30):
            raise RuntimeError(f"the {kind} {variant} server did not start")
        assert process.pid is not None
        yield process.pid, here.recv()
        here.send("stop")
        process.join(10)
    finally:
        process.kill()


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _round(port: int, metadata: list[tuple[str, str]], seconds: float) -> tuple[int, list[float]]:
    """Call for some seconds: the number of calls, and the latency of each in seconds."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.OrdersStub(channel)
        request = pb.GetOrderRequest(namespace="acme", id=BODY)
        await stub.GetOrder(request, metadata=metadata)
        until = time.perf_counter() + seconds

        async def caller() -> None:
            while (began := time.perf_counter()) < until:
                reply = await stub.GetOrder(request, metadata=metadata)
                latencies.append(time.perf_counter() - began)
                if reply.item != BODY:
                    raise AssertionError("the server answered something else")

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(latencies), latencies


def run(*, quick: bool = False) -> None:
    """Measure, print, and write benchmarks/results/interceptor.md."""
    rounds, seconds = (2, 1.0) if quick else (10, 2.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("sync", "aio"):
            rows += _measure(kind, Path(folder), rounds, seconds)
    header = ["server", "interceptor", "calls/s", "of no-op", "p50 ms", "p99 ms", "server CPU us/call", "added us"]
    write("interceptor", __doc__ or "", header, rows, machine(f"{rounds} rounds of {seconds:g} s, {CALLERS} callers"))


def _measure(kind: str, folder: Path, rounds: int, seconds: float) -> list[list[str]]:
    config, minter = _configure(folder / kind)
    metadata = [("authorization", f"Bearer {minter()}")]
    calls: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    latencies: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        servers = {variant: stack.enter_context(server_process(kind, variant, config)) for variant in VARIANTS}
        for number in range(rounds + 1):
            for variant in VARIANTS if number % 2 else reversed(VARIANTS):
                pid, port = servers[variant]
                before = _cpu(pid)
                done, times = asyncio.run(_round(port, metadata, seconds))
                if number:  # the first round warms up
                    calls[variant].append(done / seconds)
                    cpu[variant].append((_cpu(pid) - before) / done * 1e6)
                    latencies[variant] += times
    rows = []
    noop = statistics.median(calls["no-op"]), statistics.median(cpu["no-op"])
    for variant in VARIANTS:
        throughput, burned = statistics.median(calls[variant]), statistics.median(cpu[variant])
        ordered = sorted(latencies[variant])
        rows.append(
            [
                kind,
                variant,
                f"{throughput:,.0f}",
                f"{throughput / noop[0]:.3f}",
                f"{ordered[len(ordered) // 2] * 1e3:.2f}",
                f"{ordered[len(ordered) * 99 // 100] * 1e3:.2f}",
                f"{burned:.0f}",
                f"{burned - noop[1]:+.0f}",
            ]
        )
    return rows


def _configure(folder: Path) -> tuple[Path, Callable[[], str]]:
    """A configuration of its own, with keys of its own: the file, and a maker of tokens."""
    keys = make_keys(folder / "keys")
    config = folder / "authz.yaml"
    bundle = (CONFIG.parent / "../../policies/default").resolve()
    config.write_text(CONFIG.read_text().replace("../../policies/default", str(bundle)))
    return config, lambda: keys.rsa.mint(sub="rita", permissions=["acme:read"])
