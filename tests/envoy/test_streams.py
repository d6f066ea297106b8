"""Envoy extracts the namespace from the first message: bidirectional streams are decided before they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.adapters.behind import BOTH, REQUESTS, RESPONSES, SERVICE, UNARY, Message
from tests.envoy.edge import Edge, edge, last

EXTRACTED = {
    "namespaces_from: body": f"namespaces_from: extracted\n    streams_decided_by_first_message: [/{SERVICE}/{BOTH}]"
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("envoy"), "envoy-streams.yaml", settings=EXTRACTED) as started:
        yield started


@pytest.fixture
def at(running: Edge) -> Edge:
    running.heard.clear()
    return running


def order(namespace: str) -> bytes:
    return bytes(Message(namespace=namespace, id="1").SerializeToString())


def call(at: Edge, method: str, *requests: bytes, metadata: Any, compression: Any = None) -> tuple[str, list[bytes]]:
    replies: list[bytes] = []
    with at.plain() as channel:
        stub = channel.stream_stream(f"/{SERVICE}/{method}")
        reply = stub(iter(requests), metadata=metadata, timeout=10, compression=compression)
        try:
            replies.extend(reply)
        except grpc.RpcError as error:
            return error.code().name, replies
        return reply.code().name, replies


@pytest.mark.parametrize("method", [UNARY, RESPONSES, BOTH])
def test_the_namespace_of_the_first_message_is_decided(at: Edge, method: str) -> None:
    token = at.token(permissions=["acme:read"])
    assert call(at, method, order("acme"), metadata=token) == ("OK", [order("acme")])
    assert last(at)["namespaces"] == ["acme"]
    assert call(at, method, order("globex"), metadata=token)[0] == "PERMISSION_DENIED"
    assert last(at)["namespaces"] == ["globex"]
    assert call(at, method, b"\x12\x011", metadata=token)[0] == "PERMISSION_DENIED"
    assert len(at.heard.metadata) == 1


def test_a_bidirectional_stream_goes_back_and_forth(at: Edge) -> None:
    answered = threading.Event()

    def requests() -> Iterator[bytes]:
        yield order("acme")
        assert answered.wait(10)
        yield order("acme")

    with at.plain() as channel:
        token = at.token(permissions=["acme:read"])
        reply = channel.stream_stream(f"/{SERVICE}/{BOTH}")(requests(), metadata=token, timeout=15)
        assert next(reply) == order("acme")
        answered.set()
        assert next(reply) == order("acme")
        with pytest.raises(StopIteration):
            next(reply)


def test_a_request_stream_that_is_not_listed_is_refused_because_not_all_of_it_is_seen(at: Edge) -> None:
    token = at.token(permissions=["system:admin"])
    assert call(at, REQUESTS, order("acme"), metadata=token)[0] == "PERMISSION_DENIED"
    record = last(at)
    assert record["reason"] == "namespace_unreadable"
    assert "`authz serve proxy`" in record["unreadable"]
    assert "`streams_decided_by_first_message`" in record["unreadable"]
    assert at.heard.metadata == []


def test_envoy_asks_once_about_a_stream_whatever_its_later_messages_say(at: Edge) -> None:
    # why a stream is refused unless it is listed: of what is listed, nobody but the server behind sees the rest
    token, before = at.token(permissions=["acme:read"]), len(at.records)
    assert call(at, BOTH, order("acme"), order("globex"), metadata=token)[0] == "OK"
    assert at.heard.messages == [order("acme"), order("globex")]
    assert [record["namespaces"] for record in at.records[before:]] == [["acme"]]


def test_a_method_whose_fields_are_not_extracted_is_refused(at: Edge) -> None:
    token = at.token(permissions=["system:admin"])
    assert call(at, "CreateOrder", order("acme"), metadata=token)[0] == "PERMISSION_DENIED"
    assert last(at)["reason"] == "namespace_unreadable"


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
@pytest.mark.parametrize("request_", [order("acme") + order("globex"), order("globex") + order("acme")])
def test_a_namespace_given_twice_is_no_way_around(at: Edge, request_: bytes, compression: Any) -> None:
    # the server behind takes the last; whatever the filter takes, what reaches the server must be allowed
    code, _ = call(at, UNARY, request_, metadata=at.token(permissions=["acme:read"]), compression=compression)
    read = Message.FromString(request_).namespace
    assert code != "OK" or read == "acme", last(at)
