"""Clients that mean harm, at each server of ours: whatever they do, nothing is reached, and the next one is served."""

from __future__ import annotations

import gzip
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest

from tests.adapters.forms import BOTH, REQUESTS, SERVICE, UNARY, Message
from tests.adapters.raw import Headers, RawClient, frame
from tests.adapters.targets import MESSAGE, PATH, STREAM, TARGETS, Answer, Header, Target

ALL = list(TARGETS)
# an Envoy speaks to callers in the authorizer's place
CALLED = [name for name in ALL if name != "ext-authz"]
# what waits for a message holds a thread of the other ones
WITHOUT_THREADS = ["grpc.aio.server", "proxy"]
# the asyncio server of grpcio 1.84 and later shuts down on a path that is not text; those two serve again
SURVIVING = ["grpc.server", "proxy", "ext-authz"]
SILENT = 0.2
OK, UNKNOWN, DENIED, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = "0", "2", "7", "8", "12", "13", "16"


def at(targets: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", targets, indirect=True, scope="module")


@pytest.fixture(scope="module", params=ALL)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with TARGETS[request.param](tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture
def target(running: Target) -> Iterator[Target]:
    running.forget()
    yield running
    assert served(running), "the next honest caller is answered"


def served(target: Target) -> bool:
    """Whether an honest caller is answered, at once or when a flood has run off.

    Meanwhile gRPC itself turns some calls away, and a server that was shut down by a request begins anew.
    """
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with suppress(OSError, grpc.RpcError):
            if status(target.ask(PATH, target.bearer("acme:read"), within=5)) == OK:
                return True
        time.sleep(0.02)
    return False


def status(answer: Answer) -> str:
    assert answer is not None, "the server hangs"
    # gRPC itself refuses what is no header, or no HTTP/2, without a status of its own
    return str(answer.get("grpc-status", INTERNAL))


def request(namespace: str, text: str = "1") -> bytes:
    return bytes(Message(namespace=namespace, id=text).SerializeToString())


@pytest.mark.parametrize(
    "path",
    [
        PATH[1:],
        b"/" + PATH,
        PATH + b"/",
        PATH.lower(),
        PATH + b"?x=1",
        PATH + b"%00",
        b"/./" + PATH,
        PATH.replace(b"/GetOrder", b"%2FGetOrder"),
        b"",
        b"/",
        b"*",
        PATH + b"\x00",
    ],
)
def test_a_path_that_is_nearly_a_method_reaches_nothing(target: Target, path: bytes) -> None:
    assert status(target.ask(path, target.bearer("system:admin"))) != OK
    assert target.seen() == []


@at(SURVIVING)
def test_a_path_that_is_not_text_reaches_nothing(target: Target) -> None:
    with RawClient(target.port) as client:
        headers, message = target.on_the_wire("system:admin")
        stream = client.open(client.headers(b"/\xff\xfe/\xff", *headers))
        client.send(stream, message, end=True)
        answer = client.answer(stream)
        assert answer is None or answer.get("grpc-status") != OK
    assert target.seen() == []


def twisted(good: bytes) -> dict[str, Headers]:
    """A good ``authorization``, shown oddly."""
    return {
        "twice": [(b"authorization", good), (b"authorization", good)],
        "twice, the second bad": [(b"authorization", good), (b"authorization", b"Bearer x")],
        "twice, the first bad": [(b"authorization", b"Bearer x"), (b"authorization", good)],
        "joined by a comma": [(b"authorization", good + b", " + good)],
        "not UTF-8": [(b"authorization", b"Bearer \xff\xfe")],
        "a control character": [(b"authorization", good + b"\x01")],
        "a tab for a blank": [(b"authorization", good.replace(b" ", b"\t"))],
        "another scheme": [(b"authorization", good.replace(b"Bearer", b"Basic"))],
        "in a binary header": [(b"authorization-bin", good)],
        "in capitals": [(b"Authorization", good)],
        "as a cookie": [(b"cookie", b"authorization=" + good)],
        "of a proxy": [(b"proxy-authorization", good)],
        "somebody else's certificate": [
            (b"x-forwarded-client-cert", b"Hash=00;URI=spiffe://orders.example/ns/acme/sa/worker")
        ],
        "a principal of the client's own": [(b"x-authz-principal", b"user:staff:ada"), (b"x-audit-id", b"1")],
    }


@pytest.mark.parametrize("name", twisted(b"Bearer x"))
def test_a_credential_that_is_shown_oddly_is_none_or_bad_and_never_good(target: Target, name: str) -> None:
    _, good = target.bearer("acme:read")
    assert status(target.ask(PATH, *twisted(good)[name])) in (UNAUTHENTICATED, INTERNAL)
    assert target.seen() == []


SNAPPY, GZIP = (b"grpc-encoding", b"snappy"), (b"grpc-encoding", b"gzip")
BODIES: dict[str, tuple[Callable[[bytes], bytes], Headers]] = {
    "nothing": (lambda _: b"", []),
    "half a prefix": (lambda message: message[:3], []),
    "a prefix alone": (lambda message: message[:5], []),
    "a message cut short": (lambda message: message[:-2], []),
    "a length that is too small": (lambda message: frame(message[5:], length=2), []),
    "a length of four gigabytes": (lambda message: frame(message[5:], length=0xFFFFFFFF), []),
    "not protobuf": (lambda _: frame(b"\xff" * 40), []),
    "text that is not UTF-8": (lambda _: frame(b"\x0a\x04\xff\xfe\xfd\xfc"), []),
    "an unknown flag": (lambda message: b"\x07" + message[1:], []),
    "compressed, and no encoding said": (lambda message: frame(message[5:], compressed=True), []),
    "an encoding that is not known": (lambda message: frame(message[5:], compressed=True), [SNAPPY]),
    "gzip that is none": (lambda message: frame(message[5:], compressed=True), [GZIP]),
}  # fmt: skip


@pytest.mark.parametrize("path", [PATH, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_reaches_nothing(target: Target, name: str, path: bytes) -> None:
    broken, more = BODIES[name]
    # the asyncio server gives no answer at all to a unary call without a whole message
    answer = target.ask(path, target.bearer("acme:read"), *more, body=broken(MESSAGE), within=SILENT)
    assert answer is None or answer.get("grpc-status") != OK
    assert target.seen() == []

    headers, message = target.on_the_wire("acme:read")
    with RawClient(target.port) as client:
        stream = client.open(client.headers(target.wire_path, *headers))
        client.send(stream, message, end=True)
        assert status(client.answer(stream)) == OK, "the caller is known from here on"
        target.forget()
        stream = client.open(
            client.headers(target.wire_stream if path == STREAM else target.wire_path, *headers, *more)
        )
        client.send(stream, broken(message), end=True)
        client.answer(stream, within=SILENT)  # gRPC may make an empty message of it, which is decided as one
    assert target.seen() == []


def test_a_compressed_request_names_its_namespace_like_any_other(target: Target) -> None:
    for namespace, expected in (("acme", OK), ("globex", DENIED)):
        body = frame(gzip.compress(request(namespace)), compressed=True)
        headers = [target.bearer("acme:read"), GZIP]
        assert status(target.ask(PATH, *headers, body=body)) == expected


def test_a_message_that_grows_beyond_every_limit_is_refused_before_it_has_grown(target: Target) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(request("acme", "x" * 50_000_000)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    headers = [target.bearer("acme:read"), GZIP]
    assert status(target.ask(PATH, *headers, body=frame(bomb, compressed=True))) in (EXHAUSTED, DENIED)
    assert target.seen() == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_namespace_that_is_given_twice_on_the_wire_is_the_last_one_as_a_handler_sees_it(target: Target) -> None:
    one, two = request("acme"), request("globex")
    for body, expected in ((one + two, DENIED), (two + one, OK)):
        assert status(target.ask(PATH, target.bearer("acme:read"), body=frame(body))) == expected


def test_a_second_message_of_a_unary_call_is_never_handled(target: Target) -> None:
    assert target.ask(PATH, target.bearer("acme:read"), body=MESSAGE + frame(request("globex"))) is not None
    assert len(target.seen()) <= 1


@pytest.mark.parametrize(
    "more",
    [
        [(b"x-text", b"a\x7f\x01b")],
        [(b"x-text", b"k" * 7000)],
        [(b"x-many", b"v")] * 100,
        [(b"x-bytes-bin", b"not base64 !")],
        [(b"traceparent", b"00-zz-zz-00")],
        [(b"traceparent", b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-00")] * 3,
        [(b"user-agent", b"\x1b[31m")],
        [(b"grpc-timeouts", b"1S")],
    ],
)
def test_odd_metadata_is_no_crash(target: Target, more: list[Header]) -> None:
    answer = target.ask(PATH, target.bearer("acme:read"), *more)
    assert answer is not None
    assert answer.get("grpc-status") != UNKNOWN
    assert "Traceback" not in str(answer)


def test_metadata_of_any_size_is_answered_or_refused(target: Target) -> None:
    for size in (7_000, 20_000):
        with RawClient(target.port) as client:
            headers, message = target.on_the_wire()
            stream = client.open(client.headers(target.wire_path, *headers[1:], (b"x-large", b"x" * size)))
            client.send(stream, message, end=True)
            assert client.answer(stream) is not None
    assert target.seen() == []


def test_an_unlisted_method_and_an_absent_one_are_both_refused(target: Target) -> None:
    for name in (b"Unlisted", b"NoSuchMethod"):
        path = PATH.replace(UNARY.encode(), name)
        assert status(target.ask(path, target.bearer("system:admin"))) in (DENIED, UNIMPLEMENTED)
    assert target.seen() == []


@at(CALLED)
@pytest.mark.parametrize("method", [UNARY, REQUESTS, BOTH])
def test_nobody_is_refused_before_saying_a_word(target: Target, method: str) -> None:
    """The client sends its headers and then nothing: it is answered all the same."""
    with RawClient(target.port) as client:
        for shows in ([], [(b"authorization", b"Bearer x")]):
            stream = client.open(client.headers(f"/{SERVICE}/{method}".encode(), *shows))
            assert status(client.answer(stream)) == UNAUTHENTICATED
    assert target.seen() == []


@at(CALLED)
def test_a_caller_without_a_system_wide_role_is_refused_before_the_body_where_the_method_names_no_namespace(
    target: Target,
) -> None:
    with RawClient(target.port) as client:
        stream = client.open(client.headers(f"/{SERVICE}/ListNamespaces".encode(), target.bearer("acme:admin")))
        assert status(client.answer(stream)) == DENIED
    assert target.seen() == []


def known(client: RawClient, target: Target) -> Headers:
    """The headers of a caller that the server knows."""
    headers, message = target.on_the_wire("acme:write")
    stream = client.open(client.headers(target.wire_path, *headers))
    client.send(stream, message, end=True)
    assert status(client.answer(stream)) == OK
    return headers


def test_silent_clients_hold_up_nobody(target: Target) -> None:
    """More of them than the server has threads, each with a good token that the server knows."""
    with RawClient(target.port) as client:
        headers = known(client, target)
        for _ in range(20):
            client.open(client.headers(target.wire_path, *headers))
        assert served(target)


@at(WITHOUT_THREADS)
def test_silent_streams_hold_up_nobody(target: Target) -> None:
    with RawClient(target.port) as client:
        headers = known(client, target)
        for _ in range(100):
            client.open(client.headers(target.wire_stream, *headers))
        assert served(target)


Way = Callable[[RawClient, Target], None]


@contextmanager
def misbehaving(target: Target, way: Way) -> Iterator[None]:
    """Some connections that go ``way``, there until the end of the block."""
    with ExitStack() as stack:
        for client in [stack.enter_context(RawClient(target.port)) for _ in range(5)]:
            with suppress(OSError):  # the server may have hung up, which is its right
                way(client, target)
        yield


def abandon(client: RawClient, target: Target) -> None:
    headers, message = target.on_the_wire("acme:write")
    for number in range(20):
        stream = client.open(client.headers(target.wire_stream, *headers))
        if number % 3:
            client.send(stream, message)
        client.reset(stream)


def reset_rapidly(client: RawClient, target: Target) -> None:
    headers, _ = target.on_the_wire("acme:write")
    for _ in range(500):
        client.reset(client.open(client.headers(target.wire_path, *headers)))


def read_nothing(client: RawClient, target: Target) -> None:
    headers, message = target.on_the_wire("acme:write")
    client.settle(initial_window_size=0)
    for _ in range(50):
        client.send(client.open(client.headers(target.wire_stream, *headers)), message, end=True)


def chatter(client: RawClient, target: Target) -> None:
    for number in range(2_000):
        client.ping()
        client.settle(max_concurrent_streams=number + 1)


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes that an HTTP/2 frame begins with."""
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")


def never_end_the_headers(client: RawClient, target: Target) -> None:
    field = b"\x00\x01a\x7f\x80\x7f" + b"x" * 255  # a literal header, never indexed
    client.write(header(1, 0, 1, 0))
    for _ in range(2_000):
        client.write(header(9, 0, 1, len(field)) + field)


def send_empty_frames(client: RawClient, target: Target) -> None:
    headers, _ = target.on_the_wire("acme:write")
    stream = client.open(client.headers(target.wire_stream, *headers))
    for _ in range(5_000):
        client.write(header(0, 0, stream, 0))


def claim_a_huge_frame(client: RawClient, target: Target) -> None:
    client.write(header(0, 0, 1, 0xFFFFFF))


def talk_nonsense(client: RawClient, target: Target) -> None:
    client.write(b"\x16\x03\x01" + bytes(range(256)) * 8)


# an answer that cannot be sent holds a thread of the servers that have some
@at([*WITHOUT_THREADS, "ext-authz"])
def test_clients_that_read_nothing_hold_up_nobody(target: Target) -> None:
    with misbehaving(target, read_nothing):
        assert served(target)


CONNECTIONS = [
    abandon,
    reset_rapidly,
    chatter,
    never_end_the_headers,
    send_empty_frames,
    claim_a_huge_frame,
    talk_nonsense,
]


@pytest.mark.parametrize("way", CONNECTIONS, ids=lambda way: way.__name__.replace("_", " "))
def test_a_connection_that_misbehaves_is_no_other_caller_s_trouble(target: Target, way: Way) -> None:
    with misbehaving(target, way):
        assert served(target)


def test_hanging_up_leaves_nothing_behind(target: Target) -> None:
    with RawClient(target.port) as client:
        headers = known(client, target)
    for _ in range(30):
        client = RawClient(target.port)
        client.open(client.headers(target.wire_stream, *headers))
        client.close()


@at(CALLED)
def test_calls_that_each_show_another_bad_token_are_all_refused(target: Target) -> None:
    _, good = target.bearer("acme:read")
    for number in range(50):
        bad = good[:-8] + f"{number:08}".encode()
        assert status(target.ask(PATH, (b"authorization", bad))) == UNAUTHENTICATED
    assert target.seen() == []
