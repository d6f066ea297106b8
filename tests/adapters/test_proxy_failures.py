"""The proxy, its server behind failing or its limits met: clean codes, and memory that has a bound."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.adapters.behind import (
    BOTH,
    DISK,
    SERVICE,
    SETTINGS,
    UNARY,
    Echo,
    Front,
    Heard,
    Message,
    Relayed,
    echo_behind_proxy,
    proxy,
    server_behind,
    wait_for_the_disk,
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


def test_a_message_beyond_the_limit_is_refused(front: Front) -> None:
    token = front.token(permissions=["acme:read"])
    assert status(front, UNARY, order(text="x" * 4_300_000), token)[0] == "RESOURCE_EXHAUSTED"
    assert status(front, UNARY, order(text="x" * 4_000_000), token)[0] == "OK"


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


@pytest.mark.parametrize("method", [UNARY, BOTH])
def test_while_the_log_waits_for_the_disk_other_calls_go_on(
    front: Front, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    wait_for_the_disk(monkeypatch, front.server._engine)
    with front.channel() as channel:
        stub = channel.unary_unary(f"/{SERVICE}/{method}")
        for token in (front.token(permissions=["acme:read"]),) * 2:  # not known, then known
            began = time.monotonic()
            calls = [stub.future(order(), metadata=token, timeout=15) for _ in range(20)]
            assert [call.result() for call in calls] == [order()] * 20
            assert time.monotonic() - began < 10 * DISK


def test_a_log_that_cannot_be_written_makes_the_proxy_unavailable_and_not_open(tmp_path: Path) -> None:
    heard = Heard()
    with server_behind(Echo(heard)) as port, proxy(tmp_path, port, heard) as front:
        front.server._engine.close()
        for method in (UNARY, BOTH):
            assert status(front, method, order(), front.token(permissions=["acme:read"]))[0] == "UNAVAILABLE"
        assert heard.metadata == []
