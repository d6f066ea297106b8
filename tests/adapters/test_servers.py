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
from google.rpc import error_details_pb2, status_pb2

import authz
from authz.engine import Engine
from examples.orders import orders_pb2 as pb
from tests.adapters.forms import (
    BOTH,
    FORMS,
    KINDS,
    REQUESTS,
    RESPONSES,
    UNARY,
    Ran,
    Server,
    async_behaviours,
    generic,
    sync_behaviours,
)
from tests.adapters.orders import async_port, configure, sync_port


@pytest.fixture(scope="module", params=FORMS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    form = FORMS[request.param]
    folder = tmp_path_factory.mktemp("server")
    config, keys = configure(folder)
    ran = Ran()
    with authz.load_config(config) as engine, form.serving(engine, ran) as port:
        yield Server(port, ran, keys, folder, engine)


@pytest.fixture
def server(running: Server) -> Server:
    running.ran.clear()
    return running


@dataclass(frozen=True)
class Row:
    """What a caller shows and asks, and what must come of it for each of the four kinds.

    ``write`` is for ImportOrders, which is a write; the other kinds are reads.
    """

    name: str
    shows: Any
    namespaces: tuple[str, ...]
    reason: str
    write: str = ""

    def expected(self, method: str) -> tuple[str, str]:
        """(Code, reason)."""
        reason = self.write if method == REQUESTS and self.write else self.reason
        return next(r.status for r in authz.Reason if r == reason), reason


def _token(**claims: Any) -> dict[str, Any]:
    return claims


TABLE = [
    Row("a reader", _token(sub="rita", permissions=["acme:read"]), ("acme",), "allowed", "no_rule"),
    Row("a writer", _token(sub="walt", permissions=["acme:write"]), ("acme",), "allowed"),
    Row("a writer by a nested claim", _token(orders={"roles": ["writer@acme"]}), ("acme",), "allowed"),
    Row("an admin", _token(permissions=["acme:admin"]), ("acme",), "allowed"),
    Row("an admin everywhere", _token(permissions=["system:admin"]), ("anything",), "allowed"),
    Row("an admin everywhere, nowhere", _token(permissions=["system:admin"]), ("",), "allowed"),
    Row("an auditor in its pattern", _token(groups=["auditors"]), ("billing-eu",), "allowed", "no_rule"),
    Row("an auditor elsewhere", _token(groups=["auditors"]), ("acme",), "no_rule"),
    Row("no role", _token(), ("acme",), "no_rule"),
    Row("a role elsewhere", _token(permissions=["globex:admin"]), ("acme",), "no_rule"),
    Row("a role in another case", _token(permissions=["ACME:admin"]), ("acme",), "no_rule"),
    Row("a pattern as a role's namespace", _token(permissions=["*:admin"]), ("acme",), "no_rule"),
    Row("an empty namespace", _token(permissions=["acme:admin"]), ("",), "no_rule"),
    Row("a pattern as namespace", _token(permissions=["system:admin"]), ("*",), "namespace_malformed"),
    Row("a prefix as namespace", _token(permissions=["system:admin"]), ("acme*",), "namespace_malformed"),
    Row("the cluster as namespace", _token(permissions=["system:admin"]), ("@cluster",), "namespace_malformed"),
    Row("a line break in a namespace", _token(permissions=["system:admin"]), ("acme\n",), "namespace_malformed"),
    Row("a subject that reads like a role", _token(sub="role:admin"), ("acme",), "no_rule"),
    Row("a suspended user", _token(sub="mallory", permissions=["acme:admin"]), ("acme",), "denied_by_rule"),
    Row("an expired token", _token(iat=1000, exp=2000), ("acme",), "token_expired"),
    Row("a token for another API", _token(aud="payments"), ("acme",), "token_audience_wrong"),
    Row("a token of another issuer", _token(iss="https://elsewhere.example"), ("acme",), "token_issuer_unknown"),
    Row("a token without a subject", _token(sub=None), ("acme",), "token_claim_missing"),
    Row("nothing", [], ("acme",), "credential_missing"),
    Row("another scheme", [("authorization", "Basic dTpw")], ("acme",), "credential_malformed"),
    Row("an empty bearer", [("authorization", "Bearer ")], ("acme",), "credential_malformed"),
    Row("no token", [("authorization", "Bearer x.y.z")], ("acme",), "token_malformed"),
    Row("two tokens", [("authorization", "Bearer a"), ("authorization", "Bearer b")], ("acme",), "credential_repeated"),
]  # fmt: skip


def test_the_table_is_walked_in_at_least_400_cases() -> None:
    assert len(TABLE) * len(KINDS) * len(FORMS) >= 400


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_case(server: Server, row: Row, method: str) -> None:
    code, reason = row.expected(method)
    before = len(server.records)
    shows = server.token(**row.shows) if isinstance(row.shows, dict) else row.shows
    answered, ids, details, trailers = server.call(method, *row.namespaces, metadata=shows)
    assert answered == code
    assert len(server.records) == before + 1
    record = server.records[-1]
    assert record["reason"] == reason
    assert record["grpc_code"] == code
    assert trailers["x-audit-id"] == record["id"]
    if reason == "allowed":
        assert ids == ["0"]
        assert server.ran
        assert all(what.endswith(f"for {record['sub']}") for what in server.ran)
        return
    assert server.ran == []
    assert details.endswith(f"(audit id {record['id']})")
    assert reason not in details
    assert not record["reason_text"] or record["reason_text"] not in details
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (code, "authz", {"audit_id": record["id"]})


def test_messages_in_a_namespace_that_was_decided_are_not_decided_again(server: Server) -> None:
    before = len(server.records)
    token = server.token(sub="walt", permissions=["acme:write"])
    code, ids, *_ = server.call(REQUESTS, "acme", "acme", "acme", metadata=token)
    assert (code, ids) == ("OK", ["0,1,2"])
    assert len(server.records) == before + 1


def test_a_token_that_is_known_is_let_in_as_one_that_is_new(server: Server) -> None:
    token = server.token(permissions=["acme:read"])
    outcomes = [server.call(method, "acme", metadata=token)[:2] for method in (UNARY, RESPONSES) * 3]
    assert outcomes == [("OK", ["0"])] * 6
    assert server.call(UNARY, "globex", metadata=token)[0] == "PERMISSION_DENIED"


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_a_later_message_in_another_namespace_is_not_delivered(server: Server, method: str) -> None:
    token = server.token(sub="walt", permissions=["acme:write"])
    code, *_, trailers = server.call(method, "acme", "acme", "globex", "acme", metadata=token)
    assert code == "PERMISSION_DENIED"
    assert [what for what in server.ran if "message" in what] == ["message acme for user:staff:walt"] * 2
    assert server.records[-1]["namespaces"] == ["globex"]
    assert server.records[-1]["stream"] == 2, "the second message behind the opening one"
    assert trailers["x-audit-id"] == server.records[-1]["id"]


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_a_stream_without_a_message_names_no_namespace(server: Server, method: str) -> None:
    assert server.call(method, metadata=server.token(permissions=["acme:write"]))[0] == "PERMISSION_DENIED"
    assert server.ran == []
    assert server.call(method, metadata=server.token(permissions=["system:admin"]))[0] == "OK"


def test_a_method_of_cluster_scope_takes_a_system_wide_role(server: Server) -> None:
    method = "ListNamespaces"
    assert server.call(method, "", metadata=server.token(permissions=["acme:admin"]))[0] == "PERMISSION_DENIED"
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
    with serve(engine, *generic(behaviours)) as port:
        server = Server(port, ran, keys, tmp_path, engine)
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
        with serve(engine, *generic(known)) as port:
            server = Server(port, ran, keys, tmp_path, engine)
            token = server.token(permissions=["acme:write"])
            code, *_ = server.call(method, "acme", "globex", "acme", "acme", metadata=token)
            assert code == "PERMISSION_DENIED"
    assert seen == ["acme"]
