"""From inside a handler: finer checks and listings; the health service; namespaces that are not in a plain field."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import authz
from examples.orders import orders_pb2 as pb
from tests.adapters.forms import (
    BOTH,
    REQUESTS,
    RESPONSES,
    UNARY,
    Ran,
    Server,
    async_behaviours,
    generic,
    sync_behaviours,
)
from tests.adapters.orders import POLICIES, async_port, configure, sync_port

GET = "/example.orders.v1.Orders/GetOrder"
LIST = "/example.orders.v1.Orders/ListNamespaces"
PURGE = "/example.orders.v1.Orders/PurgeNamespace"
SERVERS = {"sync": sync_port, "aio": async_port, "aio plain functions": async_port}


def finer(form: str, ask: Callable[[], Any]) -> dict[str, Callable[..., Any]]:
    """Handlers of every kind that ask something more, and answer with what they were told."""

    def unary(request: Any, context: Any) -> Any:
        return pb.Order(id=str(ask()))

    def responses(request: Any, context: Any) -> Iterator[Any]:
        yield pb.Order(id=str(ask()))

    def requests(iterator: Iterator[Any], context: Any) -> Any:
        list(iterator)
        return pb.Order(id=str(ask()))

    async def unary_async(request: Any, context: Any) -> Any:
        return pb.Order(id=str(ask()))

    async def responses_async(request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.Order(id=str(ask()))

    async def requests_async(iterator: AsyncIterator[Any], context: Any) -> Any:
        assert [message async for message in iterator]
        return pb.Order(id=str(ask()))

    if form == "aio":
        return {**async_behaviours(Ran()), UNARY: unary_async, RESPONSES: responses_async, REQUESTS: requests_async}
    return {**sync_behaviours(Ran()), UNARY: unary, RESPONSES: responses, REQUESTS: requests}


class Asking:
    """A server whose handlers ask ``ask``."""

    def __init__(self, form: str, folder: Path, stack: ExitStack) -> None:
        config, keys = configure(folder)
        self.ask: Callable[[], Any] = lambda: None
        engine = stack.enter_context(authz.load_config(config))
        serve: Callable[..., AbstractContextManager[int]] = SERVERS[form]
        port = stack.enter_context(serve(engine, *generic(finer(form, lambda: self.ask()))))
        self.server = Server(port, Ran(), keys, folder, engine)


@pytest.fixture(params=SERVERS)
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Asking]:
    with ExitStack() as stack:
        yield Asking(request.param, tmp_path, stack)


@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS])
def test_a_finer_check_that_is_refused_ends_the_call_as_any_other_does(asking: Asking, method: str) -> None:
    asking.ask = lambda: authz.require("globex", GET)
    server = asking.server
    code, ids, details, trailers = server.call(method, "acme", metadata=server.token(permissions=["acme:write"]))
    assert (code, ids) == ("PERMISSION_DENIED", [])
    record = server.records[-1]
    assert (record["namespaces"], record["method"], record["reason"]) == (["globex"], GET, "no_rule")
    assert trailers["x-audit-id"] == record["id"]
    assert record["id"] in details


def test_a_finer_check_that_is_allowed_is_recorded_too(asking: Asking) -> None:
    asking.ask = lambda: authz.require("globex").rule
    server = asking.server
    token = server.token(permissions=["acme:read", "globex:read"])
    code, ids, *_ = server.call(UNARY, "acme", metadata=token)
    assert code == "OK"
    assert "policy.csv:" in ids[0]
    assert [record["namespaces"] for record in server.records[-2:]] == [["acme"], ["globex"]]


def test_a_handler_may_make_something_else_of_a_refusal(asking: Asking) -> None:
    def ask() -> str:
        try:
            authz.require("acme", PURGE)
        except authz.RefusedError as refused:
            return refused.decision.reason
        return "allowed"

    asking.ask = ask
    server = asking.server
    assert server.call(UNARY, "acme", metadata=server.token(permissions=["acme:read"]))[1] == ["no_rule"]
    assert server.call(UNARY, "acme", metadata=server.token(permissions=["acme:admin"]))[1] == ["allowed"]


def test_a_listing_shows_each_caller_its_own_with_one_record(asking: Asking) -> None:
    asking.ask = lambda: ",".join(authz.permitted(["acme", "globex", "*", "", "billing-eu"]))
    server = asking.server
    before = len(server.records)
    token = server.token(permissions=["acme:read", "billing-eu:admin"])
    assert server.call(UNARY, "acme", metadata=token)[1] == ["acme,billing-eu"]
    opening, listing = server.records[before:]
    assert opening["namespaces"] == ["acme"]
    assert (listing["decision"], listing["namespaces"]) == ("allow", ["acme", "billing-eu"])


def test_a_listing_of_nothing_is_recorded_as_the_denial_that_it_is(asking: Asking) -> None:
    asking.ask = lambda: authz.permitted(["globex", "initech"])
    server = asking.server
    assert server.call(UNARY, "acme", metadata=server.token(permissions=["acme:read"]))[1] == ["[]"]
    assert server.records[-1]["decision"] == "no_opinion"


def test_the_right_to_a_method_that_touches_no_namespace_is_none_in_a_namespace(asking: Asking) -> None:
    server, mistakes = asking.server, []

    def ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except ValueError as mistake:
            mistakes.append(str(mistake))
            raise

    token = server.token(permissions=["system:read", "acme:read"])
    for question in (lambda: authz.require("acme"), lambda: authz.permitted(["acme"]), lambda: authz.permitted([])):
        asking.ask = lambda question=question: ask(question)  # type: ignore[misc]
        assert server.call("ListNamespaces", "", metadata=token)[:2] == ("UNKNOWN", [])
    assert len(mistakes) == 3
    assert all("ListNamespaces touches no namespace; give the `method`" in mistake for mistake in mistakes)

    asking.ask = lambda: (bool(authz.require(None)), bool(authz.require("acme", GET)), authz.permitted(["acme"], GET))
    assert server.call("ListNamespaces", "", metadata=token)[1] == ["(True, True, ['acme'])"]
    asking.ask = lambda: authz.permitted(["acme"], LIST)
    assert server.call("ListNamespaces", "", metadata=token)[1] == ["[]"]
    asking.ask = lambda: authz.require("acme", LIST)
    assert server.call("ListNamespaces", "", metadata=token)[0] == "PERMISSION_DENIED"
    assert server.records[-1]["reason"] == "namespace_unexpected"


def test_nothing_can_be_asked_where_nobody_was_let_in() -> None:
    for ask in (lambda: authz.require("acme"), lambda: authz.permitted(["acme"])):
        with pytest.raises(LookupError):
            ask()


@pytest.mark.parametrize("form", ["sync", "aio"])
def test_health_is_open_by_rule_and_its_watchers_hold_no_thread(form: str, tmp_path: Path) -> None:
    config, _ = configure(tmp_path)
    config.write_text(
        config.read_text().replace("methods: [/grpc.health.v1.Health/Check]", "methods: [/grpc.health.v1.Health/Check, "
        "/grpc.health.v1.Health/Watch, /grpc.health.v1.Health/List]")
    )  # fmt: skip
    servicer = health.HealthServicer() if form == "sync" else health.aio.HealthServicer()

    class Adding:
        """Adds the service to a server that takes generic handlers, and keeps its handlers as they are."""

        def __init__(self) -> None:
            self.handlers: list[Any] = []

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            self.handlers += handlers

        def add_registered_method_handlers(self, service: str, methods: Any) -> None: ...

    adding = Adding()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, adding)
    with (
        authz.load_config(config) as engine,
        SERVERS[form](engine, *adding.handlers) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        watchers = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(12)]
        assert [next(watcher).status for watcher in watchers] == [1] * 12, "more watchers than there are threads"
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        with pytest.raises(grpc.RpcError) as refused:
            stub.List(health_pb2.HealthListRequest(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED, "no rule opens it"
        for watcher in watchers:
            watcher.cancel()


@pytest.mark.parametrize("form", ["sync", "aio"])
@pytest.mark.parametrize(
    ("entry", "metadata", "message", "expected"),
    [
        ("{access: read, metadata: x-tenant}", [("x-tenant", "acme")], "globex", "OK"),
        ("{access: read, metadata: x-tenant}", [("x-tenant", "globex")], "acme", "PERMISSION_DENIED"),
        ("{access: read, metadata: x-tenant}", [], "acme", "PERMISSION_DENIED"),
        ("{access: read, metadata: x-tenant}", [("x-tenant", "acme")] * 2, "acme", "PERMISSION_DENIED"),
        ("{access: read, metadata: x-tenant}", [("x-tenant", "")], "acme", "PERMISSION_DENIED"),
        ("{access: read, metadata: x-tenant, namespaces: [namespace]}", [("x-tenant", "acme")], "globex",
         "PERMISSION_DENIED"),
        ("{access: read, constant: acme}", [], "globex", "OK"),
        ("{access: read, constant: globex}", [], "acme", "PERMISSION_DENIED"),
        ('{access: read, namespaces: ["id=projects/{namespace}/orders/*"]}', [], "projects/acme/orders/7", "OK"),
        ('{access: read, namespaces: ["id=projects/{namespace}/orders/*"]}', [], "projects/globex/orders/7",
         "PERMISSION_DENIED"),
        ('{access: read, namespaces: ["id=projects/{namespace}/orders/*"]}', [], "projects/acme/orders/7/8",
         "PERMISSION_DENIED"),
        ('{access: read, namespaces: ["id=projects/{namespace}/orders/*"]}', [], "acme", "PERMISSION_DENIED"),
        ('{access: read, namespaces: ["id=projects/{namespace}/**"]}', [], "projects/acme/a/b/c", "OK"),
    ],
)  # fmt: skip
def test_where_a_namespace_may_be_named(
    form: str, entry: str, metadata: list[tuple[str, str]], message: str, expected: str, tmp_path: Path
) -> None:
    config, keys = configure(tmp_path)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in ("model.conf", "policy.csv", "catalogue.yaml"):
        (bundle / name).write_text((POLICIES / "default" / name).read_text())
    catalogue = bundle / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("GetOrder: read", f"GetOrder: {entry}"))
    config.write_text(config.read_text().replace(str(POLICIES / "default"), "bundle"))
    ran = Ran()
    behaviours = sync_behaviours(ran) if form == "sync" else async_behaviours(ran)
    with authz.load_config(config) as engine, SERVERS[form](engine, *generic(behaviours)) as port:
        server = Server(port, ran, keys, tmp_path, engine)
        token = server.token(permissions=["acme:read"])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(GET, pb.GetOrderRequest.SerializeToString, pb.Order.FromString)
            request = pb.GetOrderRequest(namespace=message if "/" not in message else "", id=message)
            try:
                _, reply = call.with_call(request, metadata=[*token, *metadata], timeout=10)
            except grpc.RpcError as error:
                reply = error
            assert reply.code().name == expected
    assert bool(ran) is (expected == "OK")


def test_a_handlers_own_thread_has_no_caller(asking: Asking) -> None:
    """The caller is the thread's or task's that handles the call, and does not leak into others."""
    seen: list[str] = []

    def ask() -> str:
        def elsewhere() -> None:
            try:
                authz.current()
            except LookupError:
                seen.append("nobody")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return "done"

    asking.ask = ask
    server = asking.server
    assert server.call(UNARY, "acme", metadata=server.token(permissions=["acme:read"]))[1] == ["done"]
    assert seen == ["nobody"]


@pytest.mark.parametrize("method", [UNARY, RESPONSES, REQUESTS, BOTH])
def test_a_thread_of_the_pool_forgets_its_last_caller(method: str, tmp_path: Path) -> None:
    config, keys = configure(tmp_path)
    ran = Ran()
    with authz.load_config(config) as engine, futures.ThreadPoolExecutor(1) as pool:
        interceptor = authz.adapters.grpc.AuthorizationInterceptor(engine)
        server = grpc.server(pool, generic(sync_behaviours(ran)), interceptors=[interceptor])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            called = Server(port, ran, keys, tmp_path, engine)
            assert called.call(method, "acme", metadata=called.token(permissions=["acme:write"]))[0] == "OK"
            assert ran
            assert isinstance(pool.submit(authz.current).exception(10), LookupError)
        finally:
            server.stop(None).wait()


def test_the_reason_is_shown_only_where_the_operator_says_so(tmp_path: Path) -> None:
    from google.rpc import error_details_pb2, status_pb2

    shown = []
    for number, setting in enumerate(("", "\nenforcement: {show_reasons: true}\n")):
        folder = tmp_path / str(number)
        config, keys = configure(folder)
        config.write_text(config.read_text() + setting)
        with authz.load_config(config) as engine, sync_port(engine, *generic(sync_behaviours(Ran()))) as port:
            server = Server(port, Ran(), keys, folder, engine)
            *_, trailers = server.call(BOTH, "acme", metadata=server.token(iat=1000, exp=2000))
            info = error_details_pb2.ErrorInfo()
            status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
            shown.append(info.reason)
    assert shown == ["UNAUTHENTICATED", "TOKEN_EXPIRED"]
