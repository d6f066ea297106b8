"""Keepalive through the proxy: who pings honestly stays, who floods is told to calm down, who is gone is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from authz.adapters import listening
from authz.adapters.proxy import upstream
from tests.adapters.behind import (
    BOTH,
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
)
from tests.adapters.raw import RawClient

ORDER = bytes(Message(namespace="acme", id="1").SerializeToString())
IDLE = 3.5
KEEPING = SETTINGS.replace("plaintext: true}}\n    desc", "plaintext: true, keepalive: 1s}}\n    desc")
PING = 17  # bytes on the wire


def pinging(milliseconds: int) -> list[tuple[str, int]]:
    """A client that pings that often, whatever else there is."""
    return [
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


@contextmanager
def opened(front: Front, channel: Any) -> Iterator[tuple[Any, threading.Event]]:
    """A stream on which one message went back and forth, and an event to let a second one go, and the end."""
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield ORDER
        if go_on.wait(30):
            yield ORDER

    metadata = front.token(permissions=["acme:read"])
    reply = channel.stream_stream(f"/{SERVICE}/{BOTH}")(requests(), metadata=metadata, timeout=30)
    assert next(reply) == ORDER
    try:
        yield reply, go_on
    finally:
        go_on.set()


def code(front: Front, channel: Any) -> str:
    stub = channel.unary_unary(f"/{SERVICE}/{UNARY}")
    try:
        stub(ORDER, metadata=front.token(permissions=["acme:read"]), timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of a listener, shortened."""
    monkeypatch.setattr(listening, "_PINGED_EVERY_MS", 300)
    monkeypatch.setattr(listening, "_PING_AFTER_MS", 700)
    monkeypatch.setattr(listening, "_DEAD_AFTER_MS", 1_500)


@pytest.mark.usefixtures("quick")
def test_a_client_that_pings_as_often_as_it_may_keeps_an_idle_stream_and_an_idle_connection(tmp_path: Path) -> None:
    outer = Relayed()
    with (
        echo_behind_proxy(tmp_path) as front,
        outer.to(front.ports[0]) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}", pinging(500)) as channel,
    ):
        with opened(front, channel) as (reply, go_on):
            before = outer.there
            time.sleep(IDLE)
            assert outer.there - before >= 4 * PING, "it has pinged"
            go_on.set()
            assert list(reply) == [ORDER]
        before = outer.there
        time.sleep(IDLE)
        assert outer.there - before >= 4 * PING
        assert code(front, channel) == "OK"
        assert outer.connections == 1


def test_a_client_that_pings_too_often_is_told_so_and_nobody_else_is_disturbed(tmp_path: Path) -> None:
    with echo_behind_proxy(tmp_path) as front, front.channel() as other, opened(front, other) as (calm, go_on):
        with RawClient(front.ports[0]) as client:
            client.ping(5)
            assert client.goodbye() == (11, b"too_many_pings")
        with (
            grpc.insecure_channel(f"127.0.0.1:{front.ports[0]}", pinging(100)) as channel,
            opened(front, channel) as (reply, _),
            pytest.raises(grpc.RpcError) as caught,
        ):
            list(reply)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "oo many pings" in caught.value.details()
        go_on.set()
        assert list(calm) == [ORDER]


@pytest.mark.usefixtures("quick")
def test_a_client_that_is_gone_without_a_word_is_noticed_and_its_call_is_given_up(tmp_path: Path) -> None:
    outer = Relayed()
    with (
        echo_behind_proxy(tmp_path) as front,
        outer.to(front.ports[0]) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        opened(front, channel),
    ):
        outer.freeze()
        assert front.heard.ended.wait(10)


@contextmanager
def before(folder: Path, settings: str, **behind: int) -> Iterator[tuple[Front, Any, Relayed]]:
    """A proxy with ``settings``, a channel to it, and what lies between it and the server behind."""
    heard, inner = Heard(), Relayed()
    with ExitStack() as stack:
        port = stack.enter_context(server_behind(Echo(heard), **behind))
        front = stack.enter_context(proxy(folder, stack.enter_context(inner.to(port)), heard, settings))
        yield front, stack.enter_context(front.channel()), inner


PERMITTING = {"http2.min_ping_interval_without_data_ms": 500}


def test_the_proxy_pings_the_server_behind_for_as_long_as_a_stream_is_idle(tmp_path: Path) -> None:
    with before(tmp_path, KEEPING, **PERMITTING) as (front, channel, inner), opened(front, channel) as (reply, go_on):
        sent = inner.there
        time.sleep(IDLE)
        assert inner.there - sent >= 3 * PING
        go_on.set()
        assert list(reply) == [ORDER]
        assert inner.connections == 1


def test_a_server_behind_that_is_gone_without_a_word_is_noticed_in_time(tmp_path: Path) -> None:
    with before(tmp_path, KEEPING, **PERMITTING) as (front, channel, inner), opened(front, channel) as (reply, _):
        inner.freeze()
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            next(reply)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "127.0.0.1" not in caught.value.details()
        assert time.monotonic() - began < 8
        assert code(front, channel) == "OK", "the next call finds another connection"
        assert inner.connections == 2


def test_unless_it_is_told_to_the_proxy_does_not_ping_a_server_behind_more_than_any_permits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what gRPC's servers permit when nobody has told them otherwise: two pings, and then none for five minutes
    monkeypatch.setattr(upstream, "_PING_AFTER_MS", 300)
    with before(tmp_path, SETTINGS) as (front, channel, inner), opened(front, channel) as (reply, go_on):
        sent = inner.there
        time.sleep(5.5)  # the fourth is too many, and comes in less
        assert 0 < inner.there - sent < 4 * PING
        go_on.set()
        assert list(reply) == [ORDER]
