"""What the interceptor costs a server: throughput and CPU beside an interceptor that does nothing, in one run.

Several servers for each kind (`grpc.server`, `grpc.aio.server`), each in a process of its own: bare; with an
interceptor that does nothing; with one whose handlers are busy for 10 us, to no end; with one whose handlers append a
line to a file and hash it, and do nothing else; with authz (a known token, the default bundle, a `written` audit record
for each call), without and with its `telemetry`; and with the best that can be put together of PyPI's packages
(grpc-interceptor, PyJWT's decode for each call, pycasbin about the same bundle, a line by `logging.FileHandler` for
each call), without and with an `lru_cache` in front of the decode and of the decision. The last four refuse the same
calls, which is tried first. The same client process calls them by turns with 32 callers at once, in short rounds, so
that a change of the machine's mood meets all of them. CPU is the server process's own, user and system, divided by its
calls. A call has *failed* that was not answered as it should be: pycasbin parses the matcher for each call, and CPython
3.11's parser gives up now and then where threads do that at once.

*One core*: the server may use one core and the client the others, as where a host runs one server process for each
core. Else the system moves both about: a thread of a server that has to wait for the interpreter's lock is woken on
another core, whose caches know nothing of it, so that a microsecond of Python costs a server two.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc

from benchmarks.serving import OPEN, VARIANTS, server_process
from benchmarks.table import machine, write
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.keys import make_keys
from examples.orders.server import CONFIG

CALLERS = 32
BODY = "x" * 200


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _round(port: int, metadata: list[tuple[str, str]], seconds: float) -> tuple[list[float], int]:
    """Call for some seconds: the latency of each call in seconds, and how many failed."""
    latencies: list[float] = []
    failed = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.OrdersStub(channel)
        request = pb.GetOrderRequest(namespace="acme", id=BODY)
        await stub.GetOrder(request, metadata=metadata)
        until = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal failed
            while (began := time.perf_counter()) < until:
                try:
                    reply = await stub.GetOrder(request, metadata=metadata)
                except grpc.aio.AioRpcError:
                    failed += 1
                    continue
                latencies.append(time.perf_counter() - began)
                if reply.item != BODY:
                    raise AssertionError("the server answered something else")

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return latencies, failed


async def _refused(port: int, metadata: list[tuple[str, str]]) -> list[str]:
    """The codes of what must be refused: no token, two, a damaged one, and another tenant's order."""
    ((key, token),) = metadata
    tries = [([], "acme"), (metadata * 2, "acme"), ([(key, token[:-8])], "acme"), (metadata, "globex")]
    codes = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for shown, namespace in tries:
            code = (
                await rpc.OrdersStub(channel).GetOrder(pb.GetOrderRequest(namespace=namespace), metadata=shown).code()
            )
            codes.append(code.name)
    return codes


def run(*, quick: bool = False) -> None:
    """Measure, print, and write benchmarks/results/interceptor.md."""
    rounds, seconds = (2, 1.0) if quick else (10, 1.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("sync", "aio"):
            for cores in _places():
                rows += _measure(kind, Path(folder), rounds, seconds, cores)
    header = ["server", "interceptor", "calls/s", "of no-op", "p50 ms", "p99 ms", "CPU us/call", "added us", "failed"]
    write("interceptor", __doc__ or "", header, rows, machine(f"{rounds} rounds of {seconds:g} s, {CALLERS} callers"))


def _places() -> list[set[int] | None]:
    """The cores for a server: any, then one of several."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        print("   there is one core, or no way to choose one: not measured on one core")
        return [None]
    return [None, {min(os.sched_getaffinity(0))}]


@contextmanager
def _away_from(cores: set[int] | None) -> Iterator[None]:
    """This process, the client, on other cores than ``cores``."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        _move(before - cores)
        yield
    finally:
        _move(before)


def _move(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def _measure(kind: str, folder: Path, rounds: int, seconds: float, cores: set[int] | None) -> list[list[str]]:
    name = kind if cores is None else f"{kind}, one core"
    config, minter = _configure(folder / name)
    metadata = [("authorization", f"Bearer {minter()}")]
    variants = [each for each in VARIANTS if _is_installed(each)]
    calls: dict[str, list[float]] = {variant: [] for variant in variants}
    cpu: dict[str, list[float]] = {variant: [] for variant in variants}
    latencies: dict[str, list[float]] = {variant: [] for variant in variants}
    failures = dict.fromkeys(variants, 0)
    with ExitStack() as stack:
        servers = {each: stack.enter_context(server_process(kind, each, CALLERS, config, cores)) for each in variants}
        stack.enter_context(_away_from(cores))
        for variant in [each for each in variants if each not in OPEN]:
            codes = asyncio.run(_refused(servers[variant][1], metadata))
            if codes != ["UNAUTHENTICATED"] * 3 + ["PERMISSION_DENIED"]:
                raise AssertionError(f"the {kind} server with {variant} answered {codes}")
        for number in range(rounds + 1):
            for variant in variants if number % 2 else reversed(variants):
                pid, port = servers[variant]
                before = _cpu(pid)
                times, failed = asyncio.run(_round(port, metadata, seconds))
                if failed and variant.startswith("authz"):
                    raise AssertionError(f"the {kind} server with {variant} failed {failed} calls")
                failures[variant] += failed
                if number:  # the first round warms up
                    calls[variant].append(len(times) / seconds)
                    cpu[variant].append((_cpu(pid) - before) / len(times) * 1e6)
                    latencies[variant] += times
    rows = []
    noop = statistics.median(calls["no-op"]), statistics.median(cpu["no-op"])
    for variant in variants:
        throughput, burned = statistics.median(calls[variant]), statistics.median(cpu[variant])
        ordered = sorted(latencies[variant])
        rows.append(
            [
                name,
                variant,
                f"{throughput:,.0f}",
                f"{throughput / noop[0]:.3f}",
                f"{ordered[len(ordered) // 2] * 1e3:.2f}",
                f"{ordered[len(ordered) * 99 // 100] * 1e3:.2f}",
                f"{burned:.0f}",
                f"{burned - noop[1]:+.0f}",
                str(failures[variant]),
            ]
        )
    return rows


def _is_installed(variant: str) -> bool:
    if not variant.startswith("PyPI") or importlib.util.find_spec("grpc_interceptor") is not None:
        return True
    print(f"   grpc-interceptor is not installed, and {variant} left out (pip install '.[bench]')")
    return False


def _configure(folder: Path) -> tuple[Path, Callable[[], str]]:
    """A configuration of its own, with keys of its own: the file, and a maker of tokens."""
    keys = make_keys(folder / "keys")
    config = folder / "authz.yaml"
    bundle = (CONFIG.parent / "../../policies/default").resolve()
    config.write_text(CONFIG.read_text().replace("../../policies/default", str(bundle)))
    return config, lambda: keys.rsa.mint(sub="rita", permissions=["acme:read"])
