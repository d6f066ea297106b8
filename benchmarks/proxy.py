"""What the proxy and the external authorizer cost a call, beside calling the server directly, in one run.

- *direct*: the server alone, an echo on `grpc.aio` that decides nothing.
- *naive proxy*: passes the bytes of every call through, message by message, and decides nothing: what a transparent
  asyncio proxy is at the least.
- *authz proxy*: `authz serve proxy` with one worker and with two: a known token, the default bundle, a descriptor set,
  a `written` audit record for each call. A method of which the descriptor set says that it is unary takes a short way.
- *Envoy*: Envoy alone, and Envoy that asks `authz serve ext-authz` with the body in its question.

Every part is a process of its own. One client process calls them by turns, in short rounds, so that a change of the
machine's mood meets all of them: with one caller (latency) in very short ones, then with 32 (throughput). CPU is that
of the processes in the middle (the proxy's workers; Envoy and the authorizer), user and system, divided by the calls.
On a machine with two cores the client, the server and what is between them share these, so that more workers find no
more cores. The column *held* shows what they give where there are cores for them: in rounds of their own each process
in the middle is held to a fifth of a core (a control group of Linux; without the right to make one it is empty).

Where the time goes: a known token, the namespace, the decision and its record take some 40 us of a proxied call; the
rest is gRPC's, once as a server and once as a client. In the authorizer an answer takes some 60 us; the rest is the
call from Envoy to it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2

from benchmarks.table import machine, write
from examples.orders import orders_pb2 as pb
from examples.orders.keys import make_keys

ROOT = Path(__file__).parent.parent
CALLERS = 32
SHARE = 0.2
_CGROUPS = Path("/sys/fs/cgroup/cpu")
METHOD = "/example.orders.v1.Orders/GetOrder"
REQUEST = pb.GetOrderRequest(namespace="acme", id="x" * 200).SerializeToString()
CONFIG = """
policy: {{bundle: {bundle}}}
audit: {{directory: audit-{name}}}
authn:
  issuers:
  - name: staff
    issuer: https://idp.orders.example
    audiences: [orders]
    algorithms: [RS256, ES256]
    keys: {{jwks_file: keys/jwks.json}}
    principal: {{claim: sub, prefix: "staff:"}}
    roles: [{{claim: permissions, format: temporal, system_namespace: system}}]
serve:
  workers: {workers}
  {what}:
    listen: [{{address: "127.0.0.1:{port}", plaintext: true}}]
    descriptors: [orders.binpb]
{more}"""


async def _serve_echo(port: int) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def echo(request: bytes, _: Any) -> bytes:
        return request

    class Any_(grpc.GenericRpcHandler):  # noqa: N801
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(echo)

    server.add_generic_rpc_handlers((Any_(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def _serve_naive(port: int, behind: int) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{behind}")

    class Relay(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            call_of = channel.stream_stream(details.method)

            async def relay(requests: Any, context: Any) -> Any:
                metadata = [pair for pair in context.invocation_metadata() if pair[0] != "user-agent"]
                call = call_of(requests, metadata=metadata, timeout=context.time_remaining())
                await context.send_initial_metadata(tuple(await call.initial_metadata()))
                async for reply in call:
                    yield reply
                context.set_trailing_metadata(tuple(await call.trailing_metadata()))

            return grpc.stream_stream_rpc_method_handler(relay)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Relay(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@dataclass
class Variant:
    """One way to the server, and what was measured of it.

    Attributes:
        name: as it is in the table.
        port: where to call.
        pids: finds the processes whose CPU counts.
    """

    name: str
    port: int
    pids: Callable[[], list[int]]
    one: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _process(arguments: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"log-{port}").open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, env=environment)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(30)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def _held(pids: list[int], share: float) -> Iterator[bool]:
    """Hold each of these processes to a ``share`` of a core while the block runs; False: that cannot be done here."""
    groups: list[Path] = []
    try:
        for pid in pids:
            group = _CGROUPS / f"authz-benchmark-{pid}"
            group.mkdir()
            groups.append(group)
            (group / "cpu.cfs_period_us").write_text("20000")
            (group / "cpu.cfs_quota_us").write_text(f"{int(20_000 * share)}")
            (group / "cgroup.procs").write_text(str(pid))
        yield True
    except OSError:
        yield False
    finally:
        for group, pid in zip(groups, pids, strict=False):
            with suppress(OSError):
                (_CGROUPS / "cgroup.procs").write_text(str(pid))
            with suppress(OSError):
                group.rmdir()


def _configure(folder: Path, name: str, what: str, port: int, workers: int, more: str) -> Path:
    path = folder / f"{name}.yaml"
    bundle = ROOT / "policies" / "default"
    path.write_text(CONFIG.format(bundle=bundle, name=name, what=what, port=port, workers=workers, more=more))
    return path


def _variants(stack: ExitStack, folder: Path) -> list[Variant]:
    def python(port: int, *words: str) -> subprocess.Popen[bytes]:
        return stack.enter_context(_process([sys.executable, *words], folder, port))

    def authz(name: str, what: str, port: int, workers: int, more: str) -> subprocess.Popen[bytes]:
        path = _configure(folder, name, what.replace("-", "_"), port, workers, more)
        return python(port, "-m", "authz", "serve", what, "--config", str(path))

    behind, naive, one, two = (_free_port() for _ in range(4))
    server = python(behind, "-m", "benchmarks.proxy", "echo", str(behind))
    between = python(naive, "-m", "benchmarks.proxy", "naive", str(naive), str(behind))
    upstream = f'    upstream: {{address: "127.0.0.1:{behind}", plaintext: true}}\n'
    proxy, proxies = authz("one", "proxy", one, 1, upstream), authz("two", "proxy", two, 2, upstream)
    found = [
        Variant("direct", behind, lambda: [server.pid]),
        Variant("naive proxy, 1 process", naive, lambda: [between.pid]),
        Variant("authz proxy, 1 worker", one, lambda: _children(proxy.pid)),
        Variant("authz proxy, 2 workers", two, lambda: _children(proxies.pid)),
    ]
    binary = Path(sys.executable).parent / "envoy"
    if binary.exists():
        plain, asking, asked = _free_port(), _free_port(), _free_port()
        authorizer = authz("ext", "ext-authz", asked, 1, "    namespaces_from: body\n")
        for port, name, asks in ((plain, "plain", False), (asking, "asking", True)):
            (folder / f"{name}.json").write_text(_envoy(port, behind, asked if asks else 0))
        command = [str(binary), "--disable-hot-restart", "--concurrency", "1", "-l", "error", "-c"]
        alone = stack.enter_context(_process([*command, "plain.json"], folder, plain))
        edge = stack.enter_context(_process([*command, "asking.json"], folder, asking))
        found.append(Variant("Envoy alone", plain, lambda: [alone.pid]))
        found.append(Variant("Envoy + authz ext_authz", asking, lambda: [edge.pid, *_children(authorizer.pid)]))
    return found


def _envoy(port: int, behind: int, asked: int) -> str:
    """A configuration for Envoy, made of the example's; it asks at the port ``asked``, or nobody if that is 0."""
    import json

    import yaml

    config = yaml.safe_load((ROOT / "examples" / "envoy" / "envoy.yaml").read_text())
    listener = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"]["port_value"] = port
    chain = listener["filter_chains"][0]
    del chain["transport_socket"]
    manager = chain["filters"][0]["typed_config"]
    manager["codec_type"] = "HTTP2"
    if not asked:
        del manager["http_filters"][0]
    ports = {"authz": asked or 1, "orders": behind, "http_api": 1}
    for cluster in config["static_resources"]["clusters"]:
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = ports[cluster["name"]]
    return json.dumps(config)


async def _round(port: int, metadata: list[tuple[str, str]], seconds: float, callers: int) -> list[float]:
    """Call for some seconds: the latency of each call in seconds. Callers share sixteen connections."""
    latencies: list[float] = []
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(min(callers, 16))]
    stubs = [channel.unary_unary(METHOD) for channel in channels]
    for stub in stubs:
        await stub(REQUEST, metadata=metadata)
    until = time.perf_counter() + seconds

    async def caller(stub: Any) -> None:
        while (began := time.perf_counter()) < until:
            reply = await stub(REQUEST, metadata=metadata)
            latencies.append(time.perf_counter() - began)
            if reply != REQUEST:
                raise AssertionError("the server answered something else")

    await asyncio.gather(*(caller(stubs[number % len(stubs)]) for number in range(callers)))
    for channel in channels:
        await channel.close()
    return latencies


def run(*, quick: bool = False) -> None:
    """Measure, print, and write benchmarks/results/proxy.md."""
    rounds, seconds = (2, 0.7) if quick else (14, 0.8)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        keys = make_keys(folder / "keys")
        files = descriptor_pb2.FileDescriptorSet()
        pb.DESCRIPTOR.CopyToProto(files.file.add())
        (folder / "orders.binpb").write_bytes(files.SerializeToString())
        minter = keys.rsa
        minter.lifetime = 3600
        metadata = [("authorization", f"Bearer {minter.mint(sub='rita', permissions=['acme:read'])}")]
        variants = _variants(stack, folder)
        for number in range(rounds + 1):
            for _ in range(4):
                for variant in variants:
                    single = asyncio.run(_round(variant.port, metadata, seconds / 4, 1))
                    variant.one += single if number else []
            for variant in variants if number % 2 else reversed(variants):
                before = _cpu(variant.pids())
                many = asyncio.run(_round(variant.port, metadata, seconds, CALLERS))
                if number:  # the first round warms up
                    variant.many += many
                    variant.rates.append(len(many) / seconds)
                    variant.cpu.append((_cpu(variant.pids()) - before) / len(many) * 1e6)
        for _ in range(max(rounds // 2, 1)):
            for variant in variants:
                if "proxy" in variant.name:
                    with _held(variant.pids(), SHARE) as can:
                        if can:
                            calls = asyncio.run(_round(variant.port, metadata, seconds * 2, CALLERS))
                            variant.held.append(len(calls) / seconds / 2)
    _report(variants, rounds, seconds)


def _report(variants: list[Variant], rounds: int, seconds: float) -> None:
    naive = next(variant for variant in variants if variant.name.startswith("naive"))
    rows = []
    for variant in variants:
        rate, cpu, one = (statistics.median(values) for values in (variant.rates, variant.cpu, variant.one))
        ordered = sorted(variant.many)
        rows.append(
            [
                variant.name,
                f"{one * 1e3:.2f}",
                f"{one / statistics.median(naive.one):.2f}",
                f"{rate:,.0f}",
                f"{rate / statistics.median(naive.rates):.2f}",
                f"{ordered[len(ordered) // 2] * 1e3:.1f}",
                f"{ordered[len(ordered) * 99 // 100] * 1e3:.1f}",
                f"{cpu:.0f}",
                f"{1e6 / cpu:,.0f}",
                f"{statistics.median(variant.held):,.0f}" if variant.held else "",
                f"{statistics.median(variant.held) / statistics.median(naive.held):.2f}" if variant.held else "",
            ]
        )
    header = [
        "way", "p50 ms, 1 caller", "of naive", "calls/s, 32 callers", "of naive", "p50 ms", "p99 ms",
        "CPU us/call in between", "calls/s per core of it", "calls/s, held", "of naive",
    ]  # fmt: skip
    write("proxy", __doc__ or "", header, rows, machine(f"{rounds} rounds of {seconds:g} s"))


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        asyncio.run(_serve_echo(int(sys.argv[2])))
    else:
        asyncio.run(_serve_naive(int(sys.argv[2]), int(sys.argv[3])))
