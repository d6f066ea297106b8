"""Both servers, all four kinds, every form of handler: who is let in, what a refused caller is told, what is recorded.

Each handler notes that it ran and who it ran for, so that "the handler did not run" is seen and not assumed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import authz
from authz.engine import Engine
from examples.orders import orders_pb2 as pb
from examples.orders.keys import Keys
from tests.adapters.orders import async_port, configure, records, sync_port

SERVICE = "example.orders.v1.Orders"
UNARY, RESPONSES, REQUESTS, BOTH = "GetOrder", "ListOrders", "ImportOrders", "TrackOrders"
Message = pb.TrackOrdersRequest  # the same fields as the other requests: namespace = 1, id = 2


class Ran(list[str]):
    """Which handlers ran, and for whom; and each message that one was given."""

    def note(self, what: str) -> None:
        principal = authz.current().principal
        assert principal is not None
        self.append(f"{what} for {principal.id}")


def sync_behaviours(ran: Ran) -> dict[str, Callable[..., Any]]:
    def unary(request: Any, context: Any) -> Any:
        ran.note("unary")
        return pb.Order(id=request.id)

    def responses(request: Any, context: Any) -> Iterator[Any]:
        ran.note("responses")
        yield pb.Order(id=request.id)

    def requests(iterator: Iterator[Any], context: Any) -> Any:
        ran.note("requests")
        ids = []
        for request in iterator:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    def both(iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        ran.note("both")
        for request in iterator:
            ran.note(f"message {request.namespace}")
            yield pb.Order(id=request.id)

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


def async_behaviours(ran: Ran) -> dict[str, Callable[..., Any]]:
    async def unary(request: Any, context: Any) -> Any:
        ran.note("unary")
        return pb.Order(id=request.id)

    async def responses(request: Any, context: Any) -> AsyncIterator[Any]:
        ran.note("responses")
        yield pb.Order(id=request.id)

    async def requests(iterator: AsyncIterator[Any], context: Any) -> Any:
        ran.note("requests")
        ids = []
        async for request in iterator:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    async def both(iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        ran.note("both")
        async for request in iterator:
            ran.note(f"message {request.namespace}")
            yield pb.Order(id=request.id)

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


def read_write_behaviours(ran: Ran) -> dict[str, Callable[..., Any]]:
    """Coroutines that use ``context.read`` and ``context.write`` and never look at the request iterator."""

    async def responses(request: Any, context: Any) -> None:
        ran.note("responses")
        await context.write(pb.Order(id=request.id))

    async def requests(iterator: Any, context: Any) -> Any:
        ran.note("requests")
        ids = []
        while (request := await context.read()) is not grpc.aio.EOF:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    async def both(iterator: Any, context: Any) -> None:
        ran.note("both")
        while (request := await context.read()) is not grpc.aio.EOF:
            ran.note(f"message {request.namespace}")
            await context.write(pb.Order(id=request.id))

    return {**async_behaviours(ran), RESPONSES: responses, REQUESTS: requests, BOTH: both}


FORMS: dict[str, tuple[Callable[..., AbstractContextManager[int]], Callable[[Ran], dict[str, Callable[..., Any]]]]] = {
    "sync": (sync_port, sync_behaviours),
    "aio": (async_port, async_behaviours),
    "aio read and write": (async_port, read_write_behaviours),
    "aio plain functions": (async_port, sync_behaviours),
}


def handlers(behaviours: dict[str, Callable[..., Any]]) -> Any:
    wrap = {
        UNARY: grpc.unary_unary_rpc_method_handler,
        RESPONSES: grpc.unary_stream_rpc_method_handler,
        REQUESTS: grpc.stream_unary_rpc_method_handler,
        BOTH: grpc.stream_stream_rpc_method_handler,
    }
    methods = {name: wrap[name](f, Message.FromString, pb.Order.SerializeToString) for name, f in behaviours.items()}
    # in the catalogue as cluster scope, and not in it at all
    methods["ListNamespaces"] = wrap[UNARY](
        behaviours[UNARY], pb.ListNamespacesRequest.FromString, pb.Order.SerializeToString
    )
    methods["Unlisted"] = wrap[UNARY](behaviours[UNARY], Message.FromString, pb.Order.SerializeToString)
    # raw bytes: a namespace cannot be read from them
    methods["CreateOrder"] = wrap[UNARY](behaviours[UNARY])
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@dataclass
class Server:
    form: str
    port: int
    ran: Ran
    keys: Keys
    folder: Path

    def call(self, method: str, *namespaces: str, metadata: Any = (), raw: bytes | None = None) -> Any:
        """(Code, ids of the replies, details, trailers) of one call with a message for each of ``namespaces``."""
        messages = [Message(namespace=name, id=f"{number}") for number, name in enumerate(namespaces)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            kind = {REQUESTS: channel.stream_unary, RESPONSES: channel.unary_stream, BOTH: channel.stream_stream}.get(
                method, channel.unary_unary
            )
            serialize = None if raw is not None else Message.SerializeToString
            stub = kind(f"/{SERVICE}/{method}", serialize, pb.Order.FromString)
            argument: Any = iter(messages) if method in (REQUESTS, BOTH) else raw if raw is not None else messages[0]
            try:
                if method in (RESPONSES, BOTH):
                    reply = stub(argument, metadata=metadata, timeout=10)
                    ids = [order.id for order in reply]
                else:
                    order, reply = stub.with_call(argument, metadata=metadata, timeout=10)
                    ids = [order.id]
            except grpc.RpcError as error:
                reply, ids = error, []
            return reply.code().name, ids, reply.details(), dict(reply.trailing_metadata() or ())

    def token(self, **claims: Any) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.keys.rsa.mint(**claims)}")]

    @property
    def records(self) -> list[dict[str, Any]]:
        return records(self.folder)


@pytest.fixture(scope="module", params=FORMS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    serve, behaviours = FORMS[request.param]
    folder = tmp_path_factory.mktemp("server")
    config, keys = configure(folder)
    ran = Ran()
    with authz.load_config(config) as engine, serve(engine, handlers(behaviours(ran))) as port:
        yield Server(request.param, port, ran, keys, folder)


@pytest.fixture
def server(running: Server) -> Server:
    running.ran.clear()
    return running


@pytest.mark.parametrize(("method", "what"), [(UNARY, "unary"), (RESPONSES, "responses"), (BOTH, "both")])
def test_a_reader_reads(server: Server, method: str, what: str) -> None:
    code, ids, _, trailers = server.call(method, "acme", metadata=server.token(sub="rita", permissions=["acme:read"]))
    assert (code, ids) == ("OK", ["0"])
    assert server.ran[0] == f"{what} for user:staff:rita"
    assert trailers["x-audit-id"] == server.records[-1]["id"]
    assert server.records[-1]["decision"] == "allow"


def test_a_writer_imports(server: Server) -> None:
    token = server.token(sub="walt", permissions=["acme:write"])
    before = len(server.records)
    code, ids, *_ = server.call(REQUESTS, "acme", "acme", "acme", metadata=token)
    assert (code, ids) == ("OK", ["0,1,2"])
    assert len(server.records) == before + 1, "messages in a namespace that was decided are not decided again"


REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...], str, str]] = [
    ("no role here", {"permissions": ["globex:read"]}, ("acme",), "PERMISSION_DENIED", "no_rule"),
    ("denied by a rule", {"sub": "mallory"}, ("acme",), "PERMISSION_DENIED", "denied_by_rule"),
    ("no namespace named", {"permissions": ["acme:admin"]}, ("",), "PERMISSION_DENIED", "no_rule"),
    ("a pattern as namespace", {"permissions": ["system:admin"]}, ("*",), "PERMISSION_DENIED", "namespace_malformed"),
    ("expired", {"iat": 1000, "exp": 2000}, ("acme",), "UNAUTHENTICATED", "token_expired"),
    ("another audience", {"aud": "payments"}, ("acme",), "UNAUTHENTICATED", "token_audience_wrong"),
]  # fmt: skip


@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS, BOTH])
@pytest.mark.parametrize(("name", "claims", "namespaces", "code", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_refused_call_never_reaches_its_handler(
    server: Server, method: str, name: str, claims: dict[str, Any], namespaces: tuple[str, ...], code: str, reason: str
) -> None:
    before = len(server.records)
    answered, _, details, trailers = server.call(method, *namespaces, metadata=server.token(**claims))
    assert answered == code
    assert server.ran == []
    assert len(server.records) == before + 1
    record = server.records[-1]
    assert record["reason"] == reason
    assert record["grpc_code"] == code
    assert trailers["x-audit-id"] == record["id"]
    assert details.endswith(f"(audit id {record['id']})")
    assert reason not in details
    assert not record["reason_text"] or record["reason_text"] not in details


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "credential_missing"),
        ([("authorization", "Basic dTpw")], "credential_malformed"),
        ([("authorization", "Bearer ")], "credential_malformed"),
        ([("authorization", "Bearer x.y.z")], "token_malformed"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "credential_repeated"),
    ],
)
@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS, BOTH])
def test_what_is_shown_badly_is_unauthenticated(server: Server, method: str, metadata: Any, reason: str) -> None:
    code, *_ = server.call(method, "acme", metadata=metadata)
    assert code == "UNAUTHENTICATED"
    assert server.ran == []
    assert server.records[-1]["reason"] == reason


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_a_later_message_in_another_namespace_is_not_delivered(server: Server, method: str) -> None:
    token = server.token(sub="walt", permissions=["acme:write"])
    code, *_, trailers = server.call(method, "acme", "acme", "globex", "acme", metadata=token)
    assert code == "PERMISSION_DENIED"
    assert [what for what in server.ran if "message" in what] == ["message acme for user:staff:walt"] * 2
    assert server.records[-1]["namespaces"] == ["globex"]
    assert trailers["x-audit-id"] == server.records[-1]["id"]


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_a_stream_without_a_message_names_no_namespace(server: Server, method: str) -> None:
    assert server.call(method, metadata=server.token(permissions=["acme:write"]))[0] == "PERMISSION_DENIED"
    assert server.ran == []
    assert server.call(method, metadata=server.token(permissions=["system:admin"]))[0] == "OK"


def test_a_method_of_cluster_scope_takes_a_system_wide_role(server: Server) -> None:
    method = "ListNamespaces"
    assert server.call(method, raw=b"", metadata=server.token(permissions=["acme:admin"]))[0] == "PERMISSION_DENIED"
    assert server.ran == []


def test_a_method_that_the_catalogue_does_not_know_is_denied_to_everyone(server: Server) -> None:
    code, *_ = server.call("Unlisted", "acme", metadata=server.token(permissions=["system:admin"]))
    assert code == "PERMISSION_DENIED"
    assert server.ran == []
    assert server.records[-1]["reason"] == "method_unknown"


def test_a_request_that_cannot_be_read_is_denied_to_everyone(server: Server) -> None:
    code, *_ = server.call("CreateOrder", raw=b"\x0a\x04acme", metadata=server.token(permissions=["system:admin"]))
    assert code == "PERMISSION_DENIED"
    assert server.ran == []
    assert server.records[-1]["reason"] == "namespace_unreadable"


def test_a_method_that_the_server_does_not_have_stays_unimplemented(server: Server) -> None:
    code, *_ = server.call("PurgeNamespace", "acme", metadata=server.token(permissions=["system:admin"]))
    assert code == "UNIMPLEMENTED"


def test_nothing_is_current_outside_a_call(server: Server) -> None:
    server.call(UNARY, "acme", metadata=server.token(permissions=["acme:read"]))
    with pytest.raises(LookupError, match="authorization interceptor"):
        authz.current()


@pytest.mark.parametrize("serve", [sync_port, async_port])
def test_a_log_that_cannot_be_written_makes_the_service_unavailable_and_not_open(
    serve: Callable[..., AbstractContextManager[int]], tmp_path: Path
) -> None:
    config, keys = configure(tmp_path)
    ran = Ran()
    engine: Engine = authz.load_config(config)
    behaviours = sync_behaviours(ran) if serve is sync_port else async_behaviours(ran)
    with serve(engine, handlers(behaviours)) as port:
        server = Server("", port, ran, keys, tmp_path)
        engine.close()
        code, *_ = server.call(UNARY, "acme", metadata=server.token(permissions=["acme:read"]))
        assert code == "UNAVAILABLE"
        code, *_ = server.call(UNARY, "globex", metadata=server.token(permissions=["acme:read"]))
        assert code == "PERMISSION_DENIED"
    assert ran == []


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
@pytest.mark.parametrize("serve", [sync_port, async_port])
def test_a_handler_that_swallows_the_end_gets_no_further_message(
    serve: Callable[..., AbstractContextManager[int]], method: str, tmp_path: Path
) -> None:
    seen: list[str] = []

    def swallow(iterator: Iterator[Any]) -> Any:
        for _ in range(6):
            try:
                seen.append(next(iterator).namespace)
            except BaseException:
                continue
        return pb.Order()

    async def swallow_async(context: Any) -> Any:
        for _ in range(6):
            try:
                message = await context.read()
                if message is not grpc.aio.EOF:
                    seen.append(message.namespace)
            except BaseException:
                continue
        return pb.Order()

    def unary(iterator: Any, context: Any) -> Any:
        return swallow(iterator)

    def stream(iterator: Any, context: Any) -> Iterator[Any]:
        yield swallow(iterator)

    async def unary_async(iterator: Any, context: Any) -> Any:
        return await swallow_async(context)

    async def stream_async(iterator: Any, context: Any) -> AsyncIterator[Any]:
        yield await swallow_async(context)

    behaviours = {REQUESTS: unary, BOTH: stream} if serve is sync_port else {REQUESTS: unary_async, BOTH: stream_async}
    config, keys = configure(tmp_path)
    ran = Ran()
    with authz.load_config(config) as engine:
        known = {**(sync_behaviours(ran) if serve is sync_port else async_behaviours(ran)), **behaviours}
        with serve(engine, handlers(known)) as port:
            server = Server("", port, ran, keys, tmp_path)
            token = server.token(permissions=["acme:write"])
            code, *_ = server.call(method, "acme", "globex", "acme", "acme", metadata=token)
            assert code == "PERMISSION_DENIED"
    assert seen == ["acme"]
