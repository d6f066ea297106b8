"""Envoy asks with the request's body: gRPC and plain HTTP, tokens and certificates, and bodies that try to smuggle."""

from __future__ import annotations

import gzip
import http.client
import json
import ssl
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from tests.adapters.behind import RESPONSES, SERVICE, UNARY, Message
from tests.envoy.edge import EXAMPLE, Edge, edge, last


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("envoy")) as started:
        yield started


@pytest.fixture
def at(running: Edge) -> Edge:
    running.heard.clear()
    running.heard_http.clear()
    return running


def order(namespace: str) -> bytes:
    return bytes(Message(namespace=namespace, id="1").SerializeToString())


def ask(at: Edge, method: str, request: bytes, metadata: Any, certificate: Any = None, compression: Any = None) -> Any:
    with at.channel(certificate, compression) as channel:
        try:
            _, reply = channel.unary_unary(f"/{SERVICE}/{method}").with_call(request, metadata=metadata, timeout=15)
        except grpc.RpcError as error:
            reply = error
        return reply.code().name, reply


def test_a_reader_reads_and_the_server_behind_is_told_who(at: Edge) -> None:
    forged = [("x-authz-principal", "root"), ("x-authz-roles", "admin"), ("x-authz-more", "x"), ("x-audit-id", "0")]
    code, reply = ask(at, UNARY, order("acme"), [*at.token(sub="rita", permissions=["acme:read"]), *forged])
    assert code == "OK"
    heard = at.heard.metadata[0]
    assert heard["x-authz-principal"] == "user:staff:rita"
    assert heard["x-authz-roles"] == "reader@acme"
    assert heard["x-audit-id"] == last(at)["id"]
    assert "x-authz-more" not in heard
    assert "authorization" not in heard
    assert dict(reply.initial_metadata())["x-audit-id"] == last(at)["id"]


def test_a_workload_is_known_by_the_certificate_that_envoy_verified(at: Edge) -> None:
    certificate = at.keys.workloads.issue_client(spiffe_id="spiffe://orders.example/ns/acme/sa/worker")
    code, _ = ask(at, "ImportOrders", order("acme"), [], certificate)
    assert code == "OK"
    assert last(at)["sub"] == "user:spiffe:spiffe://orders.example/ns/acme/sa/worker"
    other = at.keys.machines.issue_client(spiffe_id="spiffe://orders.example/ns/acme/sa/worker")
    assert ask(at, "ImportOrders", order("acme"), [], other)[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("claims", "request_", "code", "reason"),
    [
        ({"permissions": ["globex:read"]}, order("acme"), "PERMISSION_DENIED", "no_rule"),
        ({"permissions": ["acme:read"]}, order("acme") + order("globex"), "PERMISSION_DENIED", "no_rule"),
        ({"permissions": ["system:admin"]}, b"\x0a\xff", "PERMISSION_DENIED", "namespace_unreadable"),
        ({"permissions": ["acme:read"], "exp": 2000, "iat": 1000}, order("acme"), "UNAUTHENTICATED", "token_expired"),
    ],
)
def test_refusals_have_their_codes(at: Edge, claims: dict[str, Any], request_: bytes, code: str, reason: str) -> None:
    answered, reply = ask(at, UNARY, request_, at.token(**claims))
    assert answered == code
    assert at.heard.metadata == []
    assert last(at)["reason"] == reason
    assert last(at)["id"] in reply.details()
    assert reason not in reply.details()


def test_nothing_shown_is_unauthenticated(at: Edge) -> None:
    assert ask(at, UNARY, order("acme"), [])[0] == "UNAUTHENTICATED"
    twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    assert ask(at, UNARY, order("acme"), twice)[0] == "UNAUTHENTICATED"
    assert last(at)["reason"] in ("credential_repeated", "credential_malformed")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_read(at: Edge, compression: Any) -> None:
    big = bytes(Message(namespace="acme", id="x" * 5000).SerializeToString())
    other = bytes(Message(namespace="globex", id="x" * 5000).SerializeToString())
    token = at.token(permissions=["acme:read"])
    assert ask(at, UNARY, big, token, compression=compression)[0] == "OK"
    assert ask(at, UNARY, other, token, compression=compression)[0] == "PERMISSION_DENIED"


def test_a_server_stream_passes(at: Edge) -> None:
    with at.channel() as channel:
        stub = channel.unary_stream(f"/{SERVICE}/{RESPONSES}")
        replies = list(stub(order("acme"), metadata=at.token(permissions=["acme:read"]), timeout=15))
    assert replies == [order("acme")]


def frame(data: bytes, flag: int = 0, size: int | None = None) -> bytes:
    return bytes([flag]) + (len(data) if size is None else size).to_bytes(4, "big") + data


SMUGGLED: list[tuple[str, bytes, str]] = [
    ("two gzip members", frame(gzip.compress(order("acme")) + gzip.compress(order("globex")), 1), "gzip"),
    ("gzip with more behind it", frame(gzip.compress(order("acme")) + order("globex"), 1), "gzip"),
    ("gzip cut short", frame(gzip.compress(order("acme") * 50)[:-9], 1), "gzip"),
    ("deflate with more behind it", frame(zlib.compress(order("acme")) + order("globex"), 1), "deflate"),
    ("compressed, and no encoding said", frame(gzip.compress(order("acme")), 1), ""),
    ("an encoding that is not known", frame(order("acme"), 1), "snappy"),
    ("a second message", frame(order("acme")) + frame(order("globex")), ""),
    ("a length beyond the body", frame(order("acme"), size=1000), ""),
    ("a length short of the body", frame(order("acme") + order("globex"), size=len(order("acme"))), ""),
    ("a flag that is not known", frame(order("acme"), 2), ""),
    ("half a frame", b"\0\0\0", ""),
    ("nothing", b"", ""),
]


def post(
    at: Edge, path: str, body: bytes, headers: dict[str, str], verb: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    """One request over HTTP/1.1."""
    context = ssl.create_default_context(cadata=at.keys.server_ca.decode())
    connection = http.client.HTTPSConnection("localhost", at.port, context=context, timeout=15)
    try:
        connection.request(verb, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("name", "body", "encoding"), SMUGGLED, ids=[row[0] for row in SMUGGLED])
def test_a_body_cannot_smuggle_a_namespace(at: Edge, name: str, body: bytes, encoding: str) -> None:
    headers = {"content-type": "application/grpc", "te": "trailers", **dict(at.token(permissions=["acme:write"]))}
    if encoding:
        headers["grpc-encoding"] = encoding
    _, answered, _ = post(at, f"/{SERVICE}/{UNARY}", body, headers)
    assert answered["grpc-status"] == "7"
    assert at.heard.messages == []


def test_the_same_body_when_it_is_honest_passes(at: Edge) -> None:
    headers = {"content-type": "application/grpc", "te": "trailers", **dict(at.token(permissions=["acme:write"]))}
    honest = frame(gzip.compress(order("acme")), 1)
    status, answered, _ = post(at, f"/{SERVICE}/{UNARY}", honest, {**headers, "grpc-encoding": "gzip"})
    assert (status, answered.get("grpc-status", "0")) == (200, "0")
    assert at.heard.messages == [order("acme")]


def test_a_body_that_is_too_large_is_refused(at: Edge) -> None:
    code, _ = ask(at, UNARY, order("x" * 1_100_000), at.token(permissions=["system:admin"]))
    assert code != "OK"
    assert at.heard.metadata == []


@pytest.mark.parametrize("content", ["application/grpc+json", "application/grpc-web", "application/grpc+thrift"])
def test_another_encoding_of_messages_is_not_read(at: Edge, content: str) -> None:
    headers = {"content-type": content, **dict(at.token(permissions=["system:admin"]))}
    post(at, f"/{SERVICE}/{UNARY}", frame(order("acme")), headers)
    assert at.heard.metadata == []
    assert at.heard_http == []
    assert last(at)["reason"] == "namespace_unreadable"


HTTP: list[tuple[str, str, str, dict[str, str], int]] = [
    ("a reader reads", "GET", "/v1/acme/orders/7", {}, 200),
    ("by header", "GET", "/v1/orders", {"x-namespace": "acme"}, 200),
    ("with a query", "GET", "/v1/acme/orders/7?x=/../globex", {}, 200),
    ("another namespace", "GET", "/v1/globex/orders/7", {}, 403),
    ("another namespace by header", "GET", "/v1/orders", {"x-namespace": "globex"}, 403),
    ("no namespace in the header", "GET", "/v1/orders", {}, 403),
    ("two in one header", "GET", "/v1/orders", {"x-namespace": "acme,globex"}, 403),
    ("a write", "POST", "/v1/acme/orders", {}, 403),
    ("no such route", "DELETE", "/v1/acme/orders/7", {}, 403),
    ("the cluster", "GET", "/v1/namespaces", {}, 403),
    ("steps", "GET", "/v1/acme/../globex/orders/7", {}, 403),
    ("encoded steps", "GET", "/v1/acme/%2e%2e/globex/orders/7", {}, 403),
    ("an encoded slash", "GET", "/v1/acme%2f..%2fglobex/orders/7", {}, 400),
    ("encoded twice", "GET", "/v1/acme/orders/%252e%252e", {}, 403),
    ("in another case", "GET", "/v1/ACME/orders/7", {}, 403),
    ("the path of the gRPC method", "POST", f"/{SERVICE}/{UNARY}", {"content-type": "application/json"}, 403),
]


@pytest.mark.parametrize(("name", "verb", "path", "headers", "status"), HTTP, ids=[row[0] for row in HTTP])
def test_plain_http(at: Edge, name: str, verb: str, path: str, headers: dict[str, str], status: int) -> None:
    token = dict(at.token(sub="rita", permissions=["acme:read"]))
    override = {"x-http-method-override": "DELETE", "x-authz-principal": "root"}
    answered, _, body = post(at, path, b"", {**token, **headers, **override}, verb)
    assert answered == status
    assert len(at.heard_http) == (status == 200)
    if status == 200:
        assert at.heard_http[0]["x-authz-principal"] == "user:staff:rita"
        assert "x-http-method-override" not in at.heard_http[0]
    if status == 403:
        assert json.loads(body)["audit_id"] == last(at)["id"]


def test_plain_http_without_a_token(at: Edge) -> None:
    status, headers, body = post(at, "/v1/acme/orders/7", b"", {}, "GET")
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert headers["x-audit-id"] == json.loads(body)["audit_id"] == last(at)["id"]


def test_what_was_decided_is_in_the_dynamic_metadata_for_access_logs(tmp_path: Path) -> None:
    config = yaml.safe_load((EXAMPLE / "envoy.yaml").read_text())
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["response_headers_to_add"] = [
        {"header": {"key": f"x-{key}", "value": f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{key})%"}}
        for key in ("decision", "principal")
    ]
    with edge(tmp_path, text=yaml.safe_dump(config)) as at:
        _, headers, _ = post(at, "/v1/acme/orders/7", b"", dict(at.token(sub="rita", permissions=["acme:read"])), "GET")
        assert (headers["x-decision"], headers["x-principal"]) == ("allow", "user:staff:rita")


def test_an_authorizer_that_is_down_is_unavailable_and_not_open(tmp_path: Path) -> None:
    with edge(tmp_path, down=True) as at:
        token = at.token(permissions=["acme:read"])
        assert ask(at, UNARY, order("acme"), token)[0] == "UNAVAILABLE"
        assert post(at, "/v1/acme/orders/7", b"", dict(token), "GET")[0] == 503
        assert at.heard.metadata == []
        assert at.heard_http == []


def test_shadow_mode_allows_and_records_what_it_would_have_done(tmp_path: Path) -> None:
    with edge(
        tmp_path, settings={"namespaces_from: body": "namespaces_from: body\n    mode: shadow_allow_everything"}
    ) as at:
        forged = [("x-authz-principal", "root")]
        assert ask(at, UNARY, order("globex"), [*at.token(permissions=["acme:read"]), *forged])[0] == "OK"
        record = last(at)
        assert (record["decision"], record["enforced"], record["grpc_code"]) == ("no_opinion", False, "OK")
        assert "x-authz-principal" not in at.heard.metadata[0]
