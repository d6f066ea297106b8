"""What is compressed on the way to the server behind and on the way back, and for whom; the messages stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.adapters.behind import (
    BOTH,
    REQUESTS,
    RESPONSES,
    SERVICE,
    SETTINGS,
    UNARY,
    Echo,
    Front,
    Heard,
    Message,
    Relayed,
    proxy,
    server_behind,
)
from tests.adapters.raw import RawClient, frame

SIZE = 20_000
LARGE = bytes(Message(namespace="acme", id="y" * SIZE).SerializeToString())
COMPRESSING = f"{SETTINGS}    compress_replies: true\n".replace(
    "plaintext: true}}\n    desc", "plaintext: true, compression: gzip}}\n    desc"
)
GZIP = {"default_compression_algorithm": 2}
IDENTITY_ALONE = {"compression_enabled_algorithms_bitset": 1}


@contextmanager
def ways(folder: Path, settings: str, **behind: int) -> Iterator[tuple[Front, int, Relayed, Relayed]]:
    """A proxy; a port that leads to it; what went from the client to it, and from it to the server behind."""
    heard, outer, inner = Heard(), Relayed(), Relayed()
    with ExitStack() as stack:
        port = stack.enter_context(server_behind(Echo(heard), **behind))
        front = stack.enter_context(proxy(folder, stack.enter_context(inner.to(port)), heard, settings))
        yield front, stack.enter_context(outer.to(front.ports[0])), outer, inner


def call(front: Front, port: int, method: str, compression: Any, **options: int) -> Any:
    """Whether a large message arrives as it is, and its reply comes back; the code if not."""
    front.heard.clear()
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(f"127.0.0.1:{port}", named, compression) as channel:
        stub = channel.stream_stream(f"/{SERVICE}/{method}")
        try:
            replies = list(stub(iter([LARGE]), metadata=front.token(permissions=["acme:write"]), timeout=20))
        except grpc.RpcError as error:
            return error.code().name
    return front.heard.messages == [LARGE] and (method == REQUESTS or replies == [LARGE])


@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS, BOTH])
def test_unless_it_is_asked_for_the_proxy_compresses_nothing_and_reads_all(tmp_path: Path, method: str) -> None:
    with ways(tmp_path, SETTINGS, **GZIP) as (front, port, outer, inner):
        assert call(front, port, method, grpc.Compression.Gzip) is True
        # the client's request and the server's reply were compressed, each on its own leg
        assert outer.there < SIZE < inner.there
        if method != REQUESTS:
            assert inner.back < SIZE < outer.back


@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS, BOTH])
def test_both_ways_are_compressed_on_both_legs_where_that_is_asked_for(tmp_path: Path, method: str) -> None:
    with ways(tmp_path, COMPRESSING, **GZIP) as (front, port, outer, inner):
        assert call(front, port, method, grpc.Compression.Gzip) is True
        assert max(outer.there, inner.there, inner.back, outer.back) < SIZE


def test_a_client_that_compresses_nothing_is_given_what_it_accepts(tmp_path: Path) -> None:
    with ways(tmp_path, COMPRESSING) as (front, port, outer, inner):
        assert call(front, port, UNARY, None) is True
        assert inner.there < SIZE < outer.there
        assert outer.back < SIZE < inner.back
        before = outer.back
        assert call(front, port, UNARY, None, **IDENTITY_ALONE) is True
        assert outer.back - before > SIZE


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        (None, None),
        (b"identity", None),
        (b"snappy", None),
        (b"gzip", "gzip"),
        (b"identity,deflate,gzip", "gzip"),
        (b"deflate", "deflate"),
    ],
)
def test_a_reply_is_never_compressed_as_the_client_cannot_read_it(
    tmp_path: Path, accepts: bytes | None, expected: str | None
) -> None:
    with (
        ways(tmp_path, COMPRESSING, **GZIP) as (front, port, *_),
        RawClient(port) as client,
    ):
        ((key, value),) = front.token(permissions=["acme:read"])
        more = [(b"grpc-accept-encoding", accepts)] if accepts is not None else []
        stream = client.open(client.headers(f"/{SERVICE}/{UNARY}".encode(), (key.encode(), value.encode()), *more))
        message = Message(namespace="acme", id="y" * 2000).SerializeToString()
        client.send(stream, frame(message), end=True)
        answer = client.answer(stream)
        assert answer is not None
        assert (answer["grpc-status"], answer.get("grpc-encoding")) == ("0", expected)


def test_a_server_behind_that_cannot_read_what_is_compressed_says_so(tmp_path: Path) -> None:
    with ways(tmp_path, COMPRESSING, **IDENTITY_ALONE) as (front, port, *_):
        assert call(front, port, UNARY, None) == "UNIMPLEMENTED"
    with ways(tmp_path / "plain", SETTINGS, **IDENTITY_ALONE) as (front, port, *_):
        assert call(front, port, UNARY, grpc.Compression.Gzip) is True
