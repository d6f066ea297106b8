"""Hostile clients, and a server behind that fails: clean codes, and memory that has a bound."""

from __future__ import annotations

import resource
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from tests.adapters.behind import (
    BOTH,
    SERVICE,
    SETTINGS,
    UNARY,
    Echo,
    Front,
    Heard,
    Message,
    echo_behind_proxy,
    proxy,
    server_behind,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with echo_behind_proxy(tmp_path_factory.mktemp("proxy")) as front:
        yield front


@pytest.fixture
def front(running: Front) -> Front:
    running.heard.clear()
    return running


def order(namespace: str = "acme", text: str = "1") -> bytes:
    return bytes(Message(namespace=namespace, id=text).SerializeToString())


def status(front: Front, method: str, request: bytes, metadata: Any, **options: Any) -> tuple[str, str]:
    with front.channel(options=[("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/{method}")(request, metadata=metadata, **{"timeout": 15, **options})
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


def raw(
    port: int, body: bytes, *more: tuple[bytes, bytes], path: str = f"/{SERVICE}/{UNARY}", end: bool = True
) -> dict[str, str]:
    """One request made of frames; the headers and trailers of its answer."""
    connection = H2Connection(config=H2Configuration(header_encoding=None, validate_outbound_headers=False))
    connection.initiate_connection()
    headers = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *more,
    ]  # fmt: skip
    found: dict[str, str] = {}
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        connection.send_headers(1, headers)
        for at in range(0, len(body), 16_000):
            connection.send_data(1, body[at : at + 16_000])
        if end:
            connection.end_stream(1)
        peer.sendall(connection.data_to_send())
        peer.settimeout(10)
        while data := peer.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    found.update({key.decode(): value.decode("latin-1") for key, value in event.headers or ()})
                elif isinstance(event, DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, StreamReset):
                    return {**found, "reset": str(event.error_code)}
                elif isinstance(event, StreamEnded):
                    return found
            peer.sendall(connection.data_to_send())
    return found


def bearer(front: Front, *permissions: str) -> tuple[bytes, bytes]:
    ((key, value),) = front.token(permissions=list(permissions))
    return key.encode(), value.encode()


def test_a_message_beyond_the_limit_is_refused(front: Front) -> None:
    token = front.token(permissions=["acme:read"])
    assert status(front, UNARY, order(text="x" * 4_300_000), token)[0] == "RESOURCE_EXHAUSTED"
    assert status(front, UNARY, order(text="x" * 4_000_000), token)[0] == "OK"


def test_a_message_that_grows_beyond_the_limit_when_it_is_decompressed_is_refused(front: Front) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(order(text="x" * 50_000_000)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frame = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
    found = raw(front.ports[0], frame, (b"grpc-encoding", b"gzip"), bearer(front, "acme:read"))
    assert found["grpc-status"] == "8"
    assert front.heard.metadata == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize(
    ("name", "body", "more"),
    [
        ("no message", b"", ()),
        ("compressed without an encoding", b"\x01\0\0\0\x01x", ()),
        ("an encoding that is not known", b"\x01\0\0\0\x01x", ((b"grpc-encoding", b"snappy"),)),
        ("gzip that is none", b"\x01\0\0\0\x01x", ((b"grpc-encoding", b"gzip"),)),
        ("half a frame", b"\0\0", ()),
        ("a length beyond the body", b"\0\0\0\0\xff" + order(), ()),
    ],
)
def test_what_is_badly_framed_ends_without_reaching_the_server_behind(
    front: Front, name: str, body: bytes, more: tuple[tuple[bytes, bytes], ...]
) -> None:
    stream = f"/{SERVICE}/{BOTH}"
    found = raw(front.ports[0], body, *more, bearer(front, "acme:read"), path=stream)
    assert "reset" in found or found["grpc-status"] not in ("0", "2")
    assert front.heard.messages == []
    assert status(front, UNARY, order(), front.token(permissions=["acme:read"]))[0] == "OK"


@pytest.mark.parametrize(
    "more",
    [
        [("x-text", "a\x7f\x01b")],
        [("x-text", "k" * 7000)],
        [("x-many", "v")] * 100,
        [("traceparent", "00-zz-zz-00")],
        [("grpc-timeouts", "1S"), ("te", "gzip"), ("host", "elsewhere")],
    ],
)
def test_odd_metadata_is_no_crash(front: Front, more: list[tuple[str, str]]) -> None:
    found = raw(
        front.ports[0],
        b"\0" + len(order()).to_bytes(4, "big") + order(),
        *((key.encode(), value.encode("latin-1")) for key, value in more if key not in ("te", "host")),
        bearer(front, "acme:read"),
    )
    assert found.get("grpc-status") is not None or "reset" in found
    assert found.get("grpc-status") != "2"
    assert "Traceback" not in str(found)


def test_a_caller_who_is_not_proven_is_refused_before_a_stream_has_sent_anything(front: Front) -> None:
    stop = threading.Event()

    def silent() -> Iterator[bytes]:
        stop.wait(20)
        yield order()

    with front.channel() as channel:
        reply = channel.stream_stream(f"/{SERVICE}/{BOTH}")(
            silent(), metadata=[("authorization", "Bearer x")], timeout=20
        )
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            next(reply)
        stop.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began < 10


def test_a_thousand_silent_streams_do_not_keep_others_out(front: Front) -> None:
    stop = threading.Event()

    def silent() -> Iterator[bytes]:
        stop.wait(30)
        yield from ()

    with front.channel() as channel:
        stub = channel.stream_stream(f"/{SERVICE}/{BOTH}")
        token = front.token(permissions=["acme:read"])
        waiting = [stub(silent(), metadata=token, timeout=30) for _ in range(100)]
        assert status(front, UNARY, order(), token)[0] == "OK"
        for reply in waiting:
            reply.cancel()
        stop.set()


def test_a_server_behind_that_dies_midway_is_unavailable_and_its_address_stays_unknown(tmp_path: Path) -> None:
    heard, relayed = Heard(), Relayed()
    with server_behind(Echo(heard)) as port, relayed.to(port) as between, proxy(tmp_path, between, heard) as front:
        keep = threading.Event()

        def requests() -> Iterator[bytes]:
            yield order()
            keep.wait(20)

        with front.channel() as channel:
            token = front.token(permissions=["acme:read"])
            reply = channel.stream_stream(f"/{SERVICE}/{BOTH}")(requests(), metadata=token, timeout=20)
            assert next(reply) == order()
            relayed.cut()
            with pytest.raises(grpc.RpcError) as caught:
                next(reply)
            keep.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "127.0.0.1" not in caught.value.details()


def test_many_clients_share_the_connection_to_the_server_behind(tmp_path: Path) -> None:
    heard, relayed = Heard(), Relayed()
    with server_behind(Echo(heard)) as port, relayed.to(port) as between, proxy(tmp_path, between, heard) as front:
        token = front.token(permissions=["acme:read"])
        for _ in range(10):
            with front.channel(options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                channel.unary_unary(f"/{SERVICE}/{UNARY}")(order(), metadata=token, timeout=10)
        assert len(heard.messages) == 10
        assert relayed.connections == 1


class Relayed:
    """A TCP relay that can be cut, as a server that is killed cuts its connections."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self.connections = 0

    @contextmanager
    def to(self, port: int) -> Iterator[int]:
        listening = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listening)

        def copy(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    one, _ = listening.accept()
                    self.connections += 1
                    other = socket.create_connection(("127.0.0.1", port))
                    self._sockets += [one, other]
                    for pair in ((one, other), (other, one)):
                        threading.Thread(target=copy, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])
        self.cut()

    def cut(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_server_behind_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with proxy(tmp_path, port, Heard()) as front:
            code, details = status(front, UNARY, order(), front.token(permissions=["acme:read"]))
            assert code == "UNAVAILABLE"
            assert "127.0.0.1" not in details
            assert str(port) not in details
            assert front.records[-1]["decision"] == "allow"


def test_a_full_server_behind_answers_at_the_deadline(tmp_path: Path) -> None:
    heard = Heard()
    settings = SETTINGS
    with (
        server_behind(Echo(heard)) as port,
        proxy(tmp_path, port, heard, settings) as front,
        front.channel() as channel,
    ):
        token = front.token(permissions=["acme:read"])
        stub = channel.unary_unary(f"/{SERVICE}/{UNARY}")
        hanging = [stub.future(order(), metadata=[*token, ("x-behave", "hang")], timeout=2) for _ in range(200)]
        assert {future.exception().code().name for future in hanging} == {"DEADLINE_EXCEEDED"}
        assert status(front, UNARY, order(), token)[0] == "OK"


def test_more_calls_than_a_worker_may_have_are_refused_at_once(tmp_path: Path) -> None:
    heard = Heard()
    settings = f"{SETTINGS}    limits: {{{{calls_per_worker: 5}}}}\n"
    with (
        server_behind(Echo(heard)) as port,
        proxy(tmp_path, port, heard, settings) as front,
        front.channel() as channel,
    ):
        token = front.token(permissions=["acme:read"])
        stub = channel.unary_unary(f"/{SERVICE}/{UNARY}")
        hanging = [stub.future(order(), metadata=[*token, ("x-behave", "hang")], timeout=3) for _ in range(20)]
        codes = [future.exception().code().name for future in hanging]
        assert sorted(set(codes)) == ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]
        assert codes.count("DEADLINE_EXCEEDED") == 5


def test_a_slow_reader_does_not_make_the_proxy_hold_what_it_does_not_read(front: Front) -> None:
    megabytes = 64
    metadata = [*front.token(permissions=["acme:read"]), ("x-behave", f"flood-{megabytes * 16}")]
    with front.channel() as channel:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = channel.unary_stream(f"/{SERVICE}/ListOrders")(order(), metadata=metadata, timeout=60)
        next(reply)
        time.sleep(1.5)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert sum(1 for _ in reply) == megabytes * 16 - 1
    # client, proxy and server are one process here: the windows of two connections, and no more
    assert held < 40_000


def test_a_log_that_cannot_be_written_makes_the_proxy_unavailable_and_not_open(tmp_path: Path) -> None:
    heard = Heard()
    with server_behind(Echo(heard)) as port, proxy(tmp_path, port, heard) as front:
        front.server._engine.close()
        for method in (UNARY, BOTH):
            assert status(front, method, order(), front.token(permissions=["acme:read"]))[0] == "UNAVAILABLE"
        assert heard.metadata == []
