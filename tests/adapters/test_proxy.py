"""The proxy passes on what is allowed, all four kinds, byte for byte, and nothing else reaches the server behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from examples.orders import orders_pb2 as pb
from tests.adapters.behind import BOTH, REQUESTS, RESPONSES, SERVICE, UNARY, Front, Message, echo_behind_proxy
from tests.adapters.raw import RawClient, frame

KINDS = [UNARY, RESPONSES, REQUESTS, BOTH]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with echo_behind_proxy(tmp_path_factory.mktemp("proxy")) as front:
        yield front


@pytest.fixture
def front(running: Front) -> Front:
    running.heard.clear()
    return running


def call(front: Front, method: str, *requests: bytes, metadata: Any = (), **options: Any) -> Any:
    """(Code, replies, the call) of one call with ``requests``, as bytes."""
    compression = options.pop("channel_compression", None)
    with front.channel(compression=compression) as channel:
        kind = {REQUESTS: "stream_unary", RESPONSES: "unary_stream", BOTH: "stream_stream"}.get(method, "unary_unary")
        stub = getattr(channel, kind)(f"/{SERVICE}/{method}")
        argument: Any = iter(requests) if method in (REQUESTS, BOTH) else requests[0]
        replies: list[bytes] = []
        options.setdefault("timeout", 20)
        try:
            if method in (RESPONSES, BOTH):
                reply = stub(argument, metadata=metadata, **options)
                replies.extend(reply)
            else:
                one, reply = stub.with_call(argument, metadata=metadata, **options)
                replies.append(one)
        except grpc.RpcError as error:
            reply = error
        return reply.code().name, replies, reply


def order(namespace: str, number: str = "1") -> bytes:
    return bytes(Message(namespace=namespace, id=number).SerializeToString())


def reader(front: Front) -> Any:
    return front.token(sub="rita", permissions=["acme:read"])


def writer(front: Front) -> Any:
    return front.token(sub="walt", permissions=["acme:write"])


@pytest.mark.parametrize("method", KINDS)
def test_every_kind_passes_byte_for_byte_with_metadata_and_trailers(front: Front, method: str) -> None:
    # an unknown field, and the same field twice: the bytes are not made anew
    raw = b"\x0a\x04beta" + order("acme") + b"\xa2\x06\x03xyz"
    metadata = [*writer(front), ("x-mine", "yes"), ("x-mine-bin", b"\x00\x01\xff"), ("x-mine", "twice")]
    code, replies, reply = call(front, method, raw, metadata=metadata)
    assert code == "OK"
    assert front.heard.messages == [raw]
    assert replies == ([pb.Order(id="1").SerializeToString()] if method == REQUESTS else [raw])
    heard = front.heard.metadata[0]
    assert heard["x-mine-bin"] == b"\x00\x01\xff"
    initial = dict(reply.initial_metadata())
    assert initial["x-initial"] == "first"
    assert initial["x-initial-bin"] == b"\x00\xff"
    trailers = dict(reply.trailing_metadata())
    assert trailers["x-trailer"] == "last"
    assert trailers["x-trailer-bin"] == b"\x01\xfe"
    assert trailers["x-audit-id"] == front.records[-1]["id"]


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_long_streams_pass(front: Front, method: str) -> None:
    requests = [order("acme", str(number)) for number in range(200)]
    code, replies, _ = call(front, method, *requests, metadata=writer(front))
    assert code == "OK"
    assert front.heard.messages == requests
    assert replies == (requests if method == BOTH else [pb.Order(id="200").SerializeToString()])


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("method", KINDS)
def test_compressed_requests_are_read_and_pass(front: Front, method: str, compression: Any) -> None:
    raw = order("acme", "y" * 5000)
    code, *_ = call(front, method, raw, metadata=writer(front), channel_compression=compression)
    assert (code, front.heard.messages) == ("OK", [raw])
    front.heard.clear()
    code, *_ = call(front, method, order("globex", "y" * 5000), metadata=writer(front), channel_compression=compression)
    assert (code, front.heard.messages) == ("PERMISSION_DENIED", [])


def test_metadata_below_the_limit_always_passes(front: Front) -> None:
    # gRPC's own default refuses some of what is above 8 KiB, by chance
    metadata = [*reader(front), ("x-long", "k" * 7000), ("x-longer-bin", b"b" * 4000)]
    for _ in range(20):
        code, *_, reply = call(front, UNARY, order("acme"), metadata=metadata)
        assert code == "OK", reply.details()
    assert front.heard.metadata[-1]["x-longer-bin"] == b"b" * 4000


REFUSED: list[tuple[str, dict[str, Any] | None, bytes, str, str]] = [
    ("another namespace", {"permissions": ["acme:write"]}, order("globex"), "PERMISSION_DENIED", "no_rule"),
    ("the last of two counts", {"permissions": ["acme:write"]}, order("acme") + order("globex"), "PERMISSION_DENIED",
     "no_rule"),
    ("no namespace", {"permissions": ["acme:write"]}, b"", "PERMISSION_DENIED", "no_rule"),
    ("a pattern", {"permissions": ["system:admin"]}, order("*"), "PERMISSION_DENIED", "namespace_malformed"),
    ("no message of its type", {"permissions": ["system:admin"]}, b"\x0a\xff", "PERMISSION_DENIED",
     "namespace_unreadable"),
    ("text that is not UTF-8", {"permissions": ["system:admin"]}, b"\x0a\x02\xff\xfe", "PERMISSION_DENIED",
     "namespace_unreadable"),
    ("a group that does not end", {"permissions": ["system:admin"]}, b"\x0b", "PERMISSION_DENIED",
     "namespace_unreadable"),
    ("expired", {"iat": 1000, "exp": 2000}, order("acme"), "UNAUTHENTICATED", "token_expired"),
    ("nothing shown", None, order("acme"), "UNAUTHENTICATED", "credential_missing"),
]  # fmt: skip


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize(("name", "claims", "request_", "code", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused_never_reaches_the_server_behind(
    front: Front, method: str, name: str, claims: dict[str, Any] | None, request_: bytes, code: str, reason: str
) -> None:
    metadata = [] if claims is None else front.token(**claims)
    answered, replies, reply = call(front, method, request_, metadata=metadata)
    assert (answered, replies) == (code, [])
    assert front.heard.metadata == []
    assert front.records[-1]["reason"] == reason
    assert dict(reply.trailing_metadata())["x-audit-id"] == front.records[-1]["id"]
    assert reason not in reply.details()


@pytest.mark.parametrize("method", ["Unlisted", "getorder", "GetOrder/"])
def test_what_the_catalogue_does_not_know_is_denied_to_everyone(front: Front, method: str) -> None:
    code, *_ = call(front, method, order("acme"), metadata=front.token(permissions=["system:admin"]))
    assert code == "PERMISSION_DENIED"
    assert front.heard.metadata == []


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_a_later_message_in_another_namespace_is_not_passed_on(front: Front, method: str) -> None:
    requests = [order("acme"), order("acme"), order("globex"), order("acme")]
    code, _, reply = call(front, method, *requests, metadata=writer(front))
    assert code == "PERMISSION_DENIED"
    assert order("globex") not in front.heard.messages
    assert len(front.heard.messages) <= 2
    assert front.records[-1]["namespaces"] == ["globex"]
    assert dict(reply.trailing_metadata())["x-audit-id"] == front.records[-1]["id"]


def test_forged_identities_are_dropped_and_the_proven_one_is_told(front: Front) -> None:
    forged = [
        ("x-authz-principal", "user:staff:root"),
        ("x-authz-roles", "admin"),
        ("x-authz-anything", "x"),
        ("x-audit-id", "0"),
        ("x-user", "root"),
        ("x-team-name", "root"),
        ("x-forwarded-client-cert", "By=x"),
        ("x-remote-group", "root"),
        ("x_authz_principal", "root"),
        ("x_user", "root"),
        ("x-team_name", "root"),
        ("proxy_authorization", "root"),
        ("x-teams", "mine"),
    ]
    code, *_ = call(front, UNARY, order("acme"), metadata=[*reader(front), *forged])
    assert code == "OK"
    heard = front.heard.metadata[0]
    assert heard["x-authz-principal"] == "user:staff:rita"
    assert heard["x-authz-roles"] == "reader@acme"
    assert heard["x-audit-id"] == front.records[-1]["id"]
    assert heard["x-teams"] == "mine"
    assert not ({key for key, _ in forged} - {"x-authz-principal", "x-authz-roles", "x-audit-id", "x-teams"}) & set(
        heard
    )
    assert "authorization" not in heard


@pytest.mark.parametrize("method", KINDS)
def test_the_status_of_the_server_behind_passes_with_its_details(front: Front, method: str) -> None:
    code, _, reply = call(front, method, order("acme"), metadata=[*writer(front), ("x-behave", "abort")])
    assert (code, reply.details()) == ("NOT_FOUND", "no ördér 100%")
    trailers = dict(reply.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == b"\x08\x05"
    assert trailers["x-why"] == "because"
    assert trailers["x-audit-id"] == front.records[-1]["id"]


def test_replies_before_a_failure_pass(front: Front) -> None:
    metadata = [*writer(front), ("x-behave", "abort-midway")]
    code, replies, reply = call(front, BOTH, order("acme"), order("acme"), metadata=metadata)
    assert (code, replies, reply.details()) == ("ABORTED", [order("acme")], "midway")


def test_a_method_that_the_server_behind_has_not_is_unimplemented(front: Front) -> None:
    metadata = [*front.token(permissions=["system:admin"]), ("x-behave", "missing")]
    code, *_ = call(front, "CancelOrder", order("acme"), metadata=metadata)
    assert code == "UNIMPLEMENTED"


@pytest.mark.parametrize("method", KINDS)
def test_the_deadline_passes_on(front: Front, method: str) -> None:
    code, *_ = call(front, method, order("acme"), metadata=[*writer(front), ("x-behave", "hang")], timeout=0.7)
    assert code == "DEADLINE_EXCEEDED"
    assert front.heard.remaining[0] is not None
    assert front.heard.remaining[0] < 0.8
    assert front.heard.cancelled.wait(5)


@pytest.mark.parametrize("method", [UNARY, BOTH])
def test_a_client_that_waits_without_end_is_served(front: Front, method: str) -> None:
    # what clients write who mean that: 292 years
    with RawClient(front.ports[0]) as client:
        ((key, value),) = reader(front)
        more = ((key.encode(), value.encode()), (b"grpc-timeout", b"2562047H"))
        stream = client.open(client.headers(f"/{SERVICE}/{method}".encode(), *more))
        client.send(stream, frame(order("acme")), end=True)
        answered = client.answer(stream)
    assert answered is not None
    assert answered["grpc-status"] == "0"
    assert front.heard.remaining == [None]


def test_a_server_behind_that_gives_no_reply_has_none_made_up(front: Front) -> None:
    code, replies, reply = call(front, UNARY, order("acme"), metadata=[*reader(front), ("x-behave", "flood-0")])
    assert (code, replies) == ("INTERNAL", [])
    trailers = dict(reply.trailing_metadata())
    assert (trailers["x-trailer"], trailers["x-audit-id"]) == ("last", front.records[-1]["id"])


@pytest.mark.parametrize("method", KINDS)
def test_a_cancellation_passes_on(front: Front, method: str) -> None:
    with front.channel() as channel:
        stub = channel.stream_stream(f"/{SERVICE}/{method}")
        reply = stub(iter([order("acme")]), metadata=[*writer(front), ("x-behave", "hang")], timeout=20)
        until = time.monotonic() + 10
        while not front.heard.metadata and time.monotonic() < until:
            time.sleep(0.01)
        reply.cancel()
        assert front.heard.cancelled.wait(5)


def test_a_stream_ends_when_its_token_does(front: Front) -> None:
    # 30 s of leeway are counted in
    metadata = front.token(sub="walt", permissions=["acme:write"], iat=int(time.time()) - 60, exp=int(time.time()) - 28)
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield order("acme")
        done.wait(20)

    with front.channel() as channel:
        reply = channel.stream_stream(f"/{SERVICE}/{BOTH}")(requests(), metadata=metadata, timeout=20)
        assert next(reply) == order("acme")
        with pytest.raises(grpc.RpcError) as caught:
            next(reply)
        done.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert front.records[-1]["reason"] == "token_expired"
