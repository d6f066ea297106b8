"""A proxy in front of a server that knows nothing of authorization, each in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

import authz
from authz.adapters.proxy import ProxyServer
from authz.config.serve import load_serve
from examples.orders import orders_pb2 as pb
from examples.orders.keys import Keys
from tests.adapters.orders import configure, records

SERVICE = "example.orders.v1.Orders"
UNARY, RESPONSES, REQUESTS, BOTH = "GetOrder", "ListOrders", "ImportOrders", "TrackOrders"
Message = pb.TrackOrdersRequest  # the same fields as the other requests: namespace = 1, id = 2


def write_descriptors(path: Path, *files: Any) -> Path:
    """The descriptor set of the orders API (or of ``files``) with its imports, in the file ``path``."""
    found = descriptor_pb2.FileDescriptorSet()
    waiting = list(files or (pb.DESCRIPTOR,))
    seen: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file.name not in seen:
            seen.add(file.name)
            file.CopyToProto(found.file.add())
            waiting += list(file.dependencies)
    path.write_bytes(found.SerializeToString())
    return path


@contextmanager
def on_a_loop(
    start: Callable[[], Coroutine[Any, Any, Any]], stop: Callable[[], Coroutine[Any, Any, Any]]
) -> Iterator[Any]:
    """Run ``start`` on an event loop in a thread, and ``stop`` at the end of the block: what ``start`` gave."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


DISK = 0.2
"""Seconds that a record waits for, after :func:`wait_for_the_disk`."""


def wait_for_the_disk(monkeypatch: pytest.MonkeyPatch, engine: authz.Engine) -> None:
    """Have each record wait, in the way that its writer is asked for it: on the event loop, or for all of it."""
    write, write_async = engine._sink.write, engine._write_async
    assert write_async is not None

    def waiting(record: Any) -> None:
        time.sleep(DISK)
        write(record)

    async def waiting_async(record: Any) -> None:
        await asyncio.sleep(DISK)
        await write_async(record)

    monkeypatch.setattr(engine._sink, "write", waiting)
    monkeypatch.setattr(engine, "_write_async", waiting_async)
    monkeypatch.setattr(engine, "waits", True)


@dataclass
class Heard:
    """What the server behind was sent."""

    metadata: list[dict[str, Any]] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    remaining: list[float | None] = field(default_factory=list)

    def clear(self) -> None:
        """Begin anew: a call of before, which may still be ending, is not heard any more."""
        self.metadata, self.messages, self.remaining = [], [], []
        self.cancelled, self.ended = threading.Event(), threading.Event()


class Echo(grpc.GenericRpcHandler):
    """Any method: as many replies as requests, byte for byte; or what the request's `x-behave` asks for."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if dict(details.invocation_metadata).get("x-behave") == "missing":
            return None

        async def behave(_: Any, context: Any) -> None:
            metadata = tuple(context.invocation_metadata() or ())
            asked = dict(metadata)
            messages, cancelled, ended = self.heard.messages, self.heard.cancelled, self.heard.ended
            self.heard.metadata.append(asked)
            self.heard.remaining.append(context.time_remaining())
            await context.send_initial_metadata((("x-initial", "first"), ("x-initial-bin", b"\x00\xff")))
            context.set_trailing_metadata((("x-trailer", "last"), ("x-trailer-bin", b"\x01\xfe")))
            wanted = asked.get("x-behave", "")
            try:
                if wanted == "hang":
                    await asyncio.sleep(60)
                if wanted == "abort":
                    details_bin = (("grpc-status-details-bin", b"\x08\x05"), ("x-why", "because"))
                    await context.abort(grpc.StatusCode.NOT_FOUND, "no ördér 100%", details_bin)
                if wanted == "crash":
                    raise ValueError("a secret")
                if wanted.startswith("flood"):
                    await context.read()
                    for _number in range(int(wanted.split("-")[1])):
                        await context.write(b"x" * 65_536)
                    return
                count = 0
                while (message := await context.read()) is not grpc.aio.EOF:
                    messages.append(message)
                    count += 1
                    if details.method.endswith(REQUESTS):
                        continue
                    await context.write(message)
                    if wanted == "abort-midway":
                        await context.abort(grpc.StatusCode.ABORTED, "midway")
                if details.method.endswith(REQUESTS):
                    await context.write(pb.Order(id=str(count)).SerializeToString())
            except asyncio.CancelledError:
                cancelled.set()
                raise
            finally:
                ended.set()

        return grpc.stream_stream_rpc_method_handler(behave)


class Relayed:
    """A TCP relay that can be cut, as a server that is killed cuts its connections.

    Attributes:
        connections: that were made.
        there, back: bytes that went to the server, and came from it.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self.connections = 0
        self.there = self.back = 0
        self._frozen: set[socket.socket] = set()

    @contextmanager
    def to(self, port: int) -> Iterator[int]:
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)

        def copy(source: socket.socket, target: socket.socket, there: bool) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    if source in self._frozen:
                        continue
                    if there:
                        self.there += len(data)
                    else:
                        self.back += len(data)
                    target.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    one, _ = listening.accept()
                    self.connections += 1
                    other = socket.create_connection(("127.0.0.1", port))
                    self._sockets += [one, other]
                    for pair in ((one, other, True), (other, one, False)):
                        threading.Thread(target=copy, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])
        self.cut()

    def freeze(self) -> None:
        """Lose all that is sent from now on over the connections there are, as a network that is gone does."""
        self._frozen = set(self._sockets)

    def cut(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def server_behind(handler: Any, port: int = 0, credentials: Any = None, **more: int) -> Iterator[int]:
    """A `grpc.aio` server with ``handler`` and, beside the usual ones, the options ``grpc.<more>``: its port."""
    made: list[Any] = []

    async def start() -> int:
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", 65_536),
            *((f"grpc.{name}", value) for name, value in more.items()),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((handler,))
        address = f"127.0.0.1:{port}"
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        await server.start()
        made.append(server)
        return int(bound)

    async def stop() -> None:
        await made[0].stop(None)

    with on_a_loop(start, stop) as bound:
        yield bound


@dataclass
class Front:
    """A running proxy.

    Attributes:
        ports: one for each listener.
    """

    ports: list[int]
    keys: Keys
    folder: Path
    heard: Heard
    server: ProxyServer

    def channel(self, **options: Any) -> Any:
        return grpc.insecure_channel(f"127.0.0.1:{self.ports[0]}", **options)

    def token(self, **claims: Any) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.keys.rsa.mint(**claims)}")]

    @property
    def records(self) -> list[dict[str, Any]]:
        return records(self.folder)


SETTINGS = """
serve:
  proxy:
    listen: [{{address: "127.0.0.1:0", plaintext: true}}]
    upstream: {{address: "127.0.0.1:{port}", plaintext: true}}
    descriptors: [orders.binpb]
    strip: [x-user, x-team-*]
    forward: {{principal: x-authz-principal, roles: x-authz-roles}}
"""


@contextmanager
def proxy(folder: Path, port: int, heard: Heard, settings: str = SETTINGS, authn: str = "") -> Iterator[Front]:
    """A proxy with the example's configuration, ``settings`` and more of ``authn``, in front of ``port``."""
    config, keys = configure(folder)
    write_descriptors(folder / "orders.binpb")
    text = config.read_text().replace("authn:\n", f"authn:\n{authn}", 1)
    config.write_text(text + settings.format(port=port))
    found = load_serve(config).proxy
    assert found is not None
    with authz.load_config(config) as engine:
        server = ProxyServer(engine, found)
        with on_a_loop(server.start, lambda: server.stop(0)) as ports:
            yield Front(ports, keys, folder, heard, server)


@contextmanager
def echo_behind_proxy(folder: Path, settings: str = SETTINGS, authn: str = "") -> Iterator[Front]:
    """The echo server with a proxy in front."""
    heard = Heard()
    with ExitStack() as stack:
        port = stack.enter_context(server_behind(Echo(heard)))
        yield stack.enter_context(proxy(folder, port, heard, settings, authn))
