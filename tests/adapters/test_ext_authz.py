"""The authorizer's answers to Envoy's questions, without an Envoy: also those that no Envoy would ask."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

import authz
from authz.adapters.ext_authz.body import BodyError, messages
from authz.adapters.ext_authz.question import EXTRACTED
from authz.adapters.ext_authz.routes import Routes
from authz.adapters.ext_authz.server import Authorization
from authz.config.serve import Route, load_serve
from authz.decision import authorizer_for
from authz.engine import Policy
from authz.errors import ConfigError
from authz.policy.load import load_bundle
from examples.orders.keys import Keys
from tests.adapters.behind import DISK, SERVICE, Message, wait_for_the_disk, write_descriptors
from tests.adapters.orders import POLICIES, configure, records

SETTINGS = """
serve:
  ext_authz:
    listen: [{address: "127.0.0.1:0", plaintext: true}]
    descriptors: [orders.binpb]
    forward: {principal: x-authz-principal, roles: x-authz-roles}
    strip: [x-user-*]
"""


@dataclass
class Asked:
    authorization: Authorization
    keys: Keys
    folder: Path
    engine: authz.Engine

    def token(self, *permissions: str) -> str:
        return f"Bearer {self.keys.rsa.mint(sub='rita', permissions=list(permissions))}"

    def check(self, request: Any) -> Any:
        return asyncio.run(self.authorization.check(request))

    @property
    def reason(self) -> str:
        return str(records(self.folder)[-1]["reason"])


def make(folder: Path, more: str = "", bundle: str = "default", authn: str = "") -> Iterator[Asked]:
    config, keys = configure(folder, bundle)
    write_descriptors(folder / "orders.binpb")
    config.write_text(config.read_text().replace("authn:\n", f"authn:\n{authn}", 1) + SETTINGS + more)
    settings = load_serve(config).ext_authz
    assert settings is not None
    with authz.load_config(config) as engine:
        yield Asked(Authorization(engine, settings), keys, folder, engine)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    yield from make(
        tmp_path_factory.mktemp("body"), f"    streams_decided_by_first_message: [/{SERVICE}/TrackOrders]\n"
    )


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    more = "    namespaces_from: header\n    namespace_header: x-namespace\n"
    yield from make(tmp_path_factory.mktemp("header"), more)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    yield from make(tmp_path_factory.mktemp("extracted"), "    namespaces_from: extracted\n")


def question(method: str = "GetOrder", *, raw: bool = True, content: str = "application/grpc", **headers: str) -> Any:
    """A question about a gRPC call; the headers one by one, or as a map."""
    request = auth.CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = "POST", f"/{SERVICE}/{method}"
    given_headers = {"content-type": content, **{key.replace("_", "-"): value for key, value in headers.items()}}
    for key, value in given_headers.items():
        if raw:
            http.header_map.headers.add(key=key, raw_value=value.encode("latin-1"))
        else:
            http.headers[key] = value
    return request


def order(namespace: str) -> bytes:
    return bytes(Message(namespace=namespace, id="1").SerializeToString())


def frame(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def allowed(response: Any) -> bool:
    """Whether Envoy would let the request pass: only if it says so, and says so whole."""
    return bool(response.status.code == 0 and response.HasField("ok_response"))


@pytest.mark.parametrize("raw", [True, False])
def test_an_allow_overwrites_and_removes(body: Asked, raw: bool) -> None:
    headers = {"x_authz_principal": "root", "x_user_name": "root", "x_authz_more": "x", "user_agent": "curl"}
    request = question(raw=raw, authorization=body.token("acme:read"), x_envoy_auth_partial_body="false", **headers)
    request.attributes.request.http.raw_body = frame(order("acme"))
    response = body.check(request)
    assert allowed(response)
    ok = response.ok_response
    told = {option.header.key: option.header.value for option in ok.headers}
    assert told["x-authz-principal"] == "user:staff:rita"
    assert told["x-authz-roles"] == "reader@acme"
    assert all(option.append_action == 2 for option in (*ok.headers, *ok.response_headers_to_add))
    assert {"authorization", "x-user-name", "x-authz-more", "x-http-method-override"} <= set(ok.headers_to_remove)
    assert not {"x-authz-principal", "user-agent", "content-type"} & set(ok.headers_to_remove)
    assert response.dynamic_metadata["decision"] == "allow"
    assert response.dynamic_metadata["principal"] == "user:staff:rita"


def test_what_is_forged_in_another_spelling_is_removed(body: Asked) -> None:
    request = question(authorization=body.token("acme:read"), x_envoy_auth_partial_body="false")
    request.attributes.request.http.raw_body = frame(order("acme"))
    forged = {"x_authz_principal", "x-authz_roles", "x_user_name", "x_http_method_override", "x_audit_id"}
    for name in (*forged, "x_other"):
        request.attributes.request.http.header_map.headers.add(key=name, raw_value=b"root")
    removed = set(body.check(request).ok_response.headers_to_remove)
    assert forged <= removed
    assert "x_other" not in removed


def test_a_denial_is_never_taken_for_an_allow(body: Asked) -> None:
    response = body.check(question(authorization=body.token("acme:read")))
    assert not allowed(response)
    assert response.status.code == 7
    assert response.denied_response.status.code == 403
    told = {option.header.key: option.header.value for option in response.denied_response.headers}
    details = status_pb2.Status.FromString(base64.b64decode(told["grpc-status-details-bin"]))
    assert details.code == 7
    assert body.reason == "namespace_unreadable"


def test_an_authorizer_that_cannot_read_a_question_denies(body: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body.authorization, "_reader", None)
    response = body.check(question())
    assert not allowed(response)
    assert response.denied_response.status.code == 400


@pytest.mark.parametrize(
    ("partial", "found"),
    [("false", True), ("true", False), ("", False), ("false,true", False), ("FALSE", False)],
)
def test_a_body_has_to_be_said_to_be_whole(body: Asked, partial: str, found: bool) -> None:
    request = question(authorization=body.token("acme:read"), x_envoy_auth_partial_body=partial)
    request.attributes.request.http.raw_body = frame(order("acme"))
    assert allowed(body.check(request)) is found


def test_a_body_as_text_is_not_read(body: Asked) -> None:
    request = question(authorization=body.token("system:admin"), x_envoy_auth_partial_body="false")
    request.attributes.request.http.body = frame(order("acme")).decode("latin-1")
    assert not allowed(body.check(request))
    assert records(body.folder)[-1]["reason_text"].endswith("set `pack_as_bytes: true`")


def test_while_the_log_waits_for_the_disk_others_are_answered(body: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_the_disk(monkeypatch, body.engine)
    request = question(authorization=body.token("acme:read"), x_envoy_auth_partial_body="false")
    request.attributes.request.http.raw_body = frame(order("acme"))

    async def ask(times: int) -> list[Any]:
        return await asyncio.gather(*(body.authorization.check(request) for _ in range(times)))

    began = time.monotonic()
    assert all(map(allowed, asyncio.run(ask(20))))
    assert time.monotonic() - began < 10 * DISK


def test_which_streams_are_refused_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = f"    streams_decided_by_first_message: [/{SERVICE}/TrackOrders]\n"
    with contextlib.contextmanager(make)(tmp_path, f"    namespaces_from: extracted\n{listed}"):
        pass
    (warning,) = caplog.messages
    assert warning.startswith(f"calls of `/{SERVICE}/ImportOrders` are refused: ")
    assert "`authz serve proxy`" in warning


@pytest.mark.parametrize("method", ["GetOrder", "TrackOrder"])
def test_what_is_listed_as_a_stream_has_to_be_one(tmp_path: Path, method: str) -> None:
    listed = f"    streams_decided_by_first_message: [/{SERVICE}/{method}]\n"
    with pytest.raises(ConfigError, match=f"stream of requests in `/{SERVICE}/{method}`"):
        next(make(tmp_path, listed))


def test_a_stream_that_is_decided_by_its_beginning(body: Asked) -> None:
    request = question("TrackOrders", authorization=body.token("acme:read"), x_envoy_auth_partial_body="true")
    request.attributes.request.http.raw_body = frame(order("acme")) + b"\0\0"
    assert allowed(body.check(request))
    request.attributes.request.http.raw_body = frame(order("acme")) + frame(order("globex"))
    assert not allowed(body.check(request))
    request.attributes.request.http.raw_body = frame(order("acme"))[:-1]
    assert not allowed(body.check(request))


def test_certificates_are_taken_from_envoy_alone(body: Asked) -> None:
    request = question("ListOrders", x_envoy_auth_partial_body="false", x_forwarded_client_cert="By=x;URI=spiffe://x")
    request.attributes.request.http.raw_body = frame(order("acme"))
    assert not allowed(body.check(request))
    assert body.reason == "credential_missing"
    certificate = body.keys.machines.issue_client("backup-7").certificate
    request.attributes.source.certificate = quote(certificate.decode(), safe="")
    assert allowed(body.check(request))
    request.attributes.source.certificate = "%ff%00"
    assert not allowed(body.check(request))
    assert body.reason == "certificate_malformed"


HEADERS = [(["acme"], True), (["globex"], False), ([""], False), ([], False), (["acme", "acme"], False),
           (["acme,globex"], False), (["acme "], False)]  # fmt: skip


@pytest.mark.parametrize(("values", "found"), HEADERS)
def test_a_namespace_in_a_header(header: Asked, values: list[str], found: bool) -> None:
    request = question(authorization=header.token("acme:read"))
    for value in values:
        request.attributes.request.http.header_map.headers.add(key="x-namespace", raw_value=value.encode())
    assert allowed(header.check(request)) is found


@pytest.mark.parametrize("name", ["x_namespace", "X_Namespace"])
def test_a_header_that_names_a_namespace_has_one_spelling(header: Asked, name: str) -> None:
    for headers in ({"x-namespace": "acme"}, {}):
        request = question(raw=True, authorization=header.token("system:admin"), **headers)
        request.attributes.request.http.header_map.headers.add(key=name, raw_value=b"globex")
        assert not allowed(header.check(request))
        assert header.reason == "namespace_unreadable"


def test_a_method_of_the_cluster_names_none(header: Asked) -> None:
    request = question("ListNamespaces", authorization=header.token("acme:read"), x_namespace="acme")
    assert not allowed(header.check(request))
    request = question("ListNamespaces", authorization=header.token("system:read"))
    assert allowed(header.check(request))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"namespace": ["acme"]}, True),
        ({"namespace": ["globex"]}, False),
        ({"namespace": ["acme", "globex"]}, False),
        ({"namespace": []}, False),
        ({"namespace": [""]}, False),
        ({"namespace": [7]}, False),
        ({"namespace": "acme"}, False),
        ({"other": ["acme"]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_extracted_fields(extracted: Asked, fields: dict[str, Any] | None, found: bool) -> None:
    request = question(authorization=extracted.token("acme:read"))
    if fields is not None:
        request.attributes.metadata_context.filter_metadata[EXTRACTED].update(fields)
    # what another filter says is nobody's business
    request.attributes.metadata_context.filter_metadata["other.filter"].update({"namespace": ["acme"]})
    assert allowed(extracted.check(request)) is found


def test_a_route_to_a_method_that_the_catalogue_has_not_is_refused(tmp_path: Path) -> None:
    routes = '    routes: [{verb: GET, path: "/v1/{namespace}", method: /example.orders.v1.Orders/GetOdrer}]\n'
    with pytest.raises(ConfigError, match=r"authz.yaml:\d+:14: .*GetOdrer"):
        next(make(tmp_path, routes))


def bundle(folder: Path, **methods: str) -> str:
    """The default bundle with other entries in its catalogue: its path."""
    shutil.copytree(POLICIES / "default", folder, ignore=shutil.ignore_patterns("tests.yaml"))
    text = (folder / "catalogue.yaml").read_text()
    for method, entry in methods.items():
        text = re.sub(rf"{method}: \w+", f"{method}: {entry}", text)
    (folder / "catalogue.yaml").write_text(text)
    return str(folder)


def plain(verb: str, path: str, **headers: str) -> Any:
    """A question about a plain HTTP request."""
    request = question(raw=True, content="application/json", **headers)
    request.attributes.request.http.method, request.attributes.request.http.path = verb, path
    return request


ADDED = [
    ("an entry of the metadata", ["acme:read", "billing:read"], "/v1/acme/orders/7", {"x_team": "billing"},
     ["acme", "billing"], True),
    ("which is somebody else's", ["acme:read"], "/v1/acme/orders/7", {"x_team": "billing"}, ["acme", "billing"], False),
    ("which is not there", ["acme:read"], "/v1/acme/orders/7", {}, ["acme", None], False),
    ("a constant", ["acme:read", "shared:read"], "/v1/acme/list", {}, ["acme", "shared"], True),
    ("which is somebody else's", ["acme:read"], "/v1/acme/list", {}, ["acme", "shared"], False),
    ("a constant beside a header", ["acme:read"], "/v1/list", {"x_namespace": "acme"}, ["acme", "shared"], False),
    ("a constant alone", ["shared:read"], "/v1/rates", {}, ["shared"], True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "roles", "path", "headers", "namespaces", "found"), ADDED)
def test_a_route_adds_to_what_the_catalogue_says(
    tmp_path: Path, name: str, roles: list[str], path: str, headers: dict[str, str], namespaces: list[Any], found: bool
) -> None:
    entries = {
        "GetOrder": "{access: read, namespaces: [namespace], metadata: x-team}",
        "ListOrders": "{access: read, namespaces: [namespace], constant: shared}",
        "TrackOrders": "{access: read, constant: shared}",
    }
    routes = f"""    routes:
    - {{verb: GET, path: "/v1/{{namespace}}/orders/{{id}}", method: /{SERVICE}/GetOrder}}
    - {{verb: GET, path: "/v1/{{namespace}}/list", method: /{SERVICE}/ListOrders}}
    - {{verb: GET, path: /v1/list, method: /{SERVICE}/ListOrders, namespace_header: x-namespace}}
    - {{verb: GET, path: /v1/rates, method: /{SERVICE}/TrackOrders}}
"""
    with contextlib.contextmanager(make)(tmp_path, routes, bundle(tmp_path / "bundle", **entries)) as asked:
        assert allowed(asked.check(plain("GET", path, authorization=asked.token(*roles), **headers))) is found
        assert records(tmp_path)[-1]["namespaces"] == namespaces
        request = plain("GET", "/v1/acme/orders/7", authorization=asked.token("system:admin"), x_team="billing")
        assert allowed(asked.check(request))
        request.attributes.request.http.header_map.headers.add(key="x_team", raw_value=b"acme")
        assert not allowed(asked.check(request)), "which of the two the server behind sees is not known"


UNREAD = [
    ("{access: write, namespaces: [namespace, target.namespace]}", "/v1/{namespace}/orders", "`target.namespace`"),
    ("{access: write, namespaces: [namespace], opaque: [token]}", "/v1/{namespace}/orders", "`token`"),
    ("{access: write, opaque: [token], metadata: x-team}", "/v1/orders", "`token`"),
    ("write", "/v1/orders", "`namespace`"),
]


@pytest.mark.parametrize(("entry", "path", "left"), UNREAD)
def test_a_route_has_to_say_that_nothing_else_names_a_namespace(
    tmp_path: Path, entry: str, path: str, left: str
) -> None:
    found = bundle(tmp_path / "bundle", CreateOrder=entry)
    route = f'verb: POST, path: "{path}", method: /{SERVICE}/CreateOrder'
    with pytest.raises(ConfigError) as caught:
        next(make(tmp_path, f"    routes: [{{{route}}}]\n", found))
    assert str(caught.value).startswith(f"{tmp_path / 'authz.yaml'}:")
    assert f"leaves out {left}" in str(caught.value)
    assert "`names_no_other_namespace: true`" in str(caught.value)
    shutil.rmtree(tmp_path / "keys")
    routes = f"    routes: [{{{route}, names_no_other_namespace: true}}]\n"
    with contextlib.contextmanager(make)(tmp_path, routes, found) as asked:
        request = plain("POST", path.replace("{namespace}", "acme"), authorization=asked.token("acme:write"))
        assert allowed(asked.check(request)) is ("{namespace}" in path)


def test_a_route_that_a_new_catalogue_makes_unread_is_denied(tmp_path: Path) -> None:
    routes = f'    routes: [{{verb: POST, path: "/v1/{{namespace}}/orders", method: /{SERVICE}/CreateOrder}}]\n'
    with contextlib.contextmanager(make)(tmp_path, routes) as asked:
        request = plain("POST", "/v1/acme/orders", authorization=asked.token("system:admin"))
        assert allowed(asked.check(request))
        entry = "{access: write, namespaces: [namespace, target.namespace]}"
        revision = load_bundle(Path(bundle(tmp_path / "bundle", CreateOrder=entry)))
        asked.engine.adopt(Policy(revision, authorizer_for(revision)))
        assert not allowed(asked.check(request))
        assert asked.reason == "namespace_unreadable"


PEERS = [
    ("203.0.113.7", "ipv4:203.0.113.7:40412", "203.0.113.7"),
    ("2001:db8::7", "ipv6:[2001:db8::7]:40412", "2001:db8::7"),
]


@pytest.mark.parametrize(("address", "peer", "ip"), PEERS)
def test_the_peer_is_told_as_grpc_tells_it(body: Asked, address: str, peer: str, ip: str) -> None:
    request = question()
    told = request.attributes.source.address.socket_address
    told.address, told.port_value = address, 40412
    body.check(request)
    record = records(body.folder)[-1]
    assert (record["peer"], record["peer_ip"], record["peer_port"]) == (peer, ip, 40412)


def test_a_peer_without_an_address(body: Asked) -> None:
    request = question()
    request.attributes.source.address.pipe.path = "/run/envoy.sock"
    body.check(request)
    body.check(question())
    found = [(record["peer"], record["peer_ip"], record["peer_port"]) for record in records(body.folder)[-2:]]
    assert found == [("unix:/run/envoy.sock", None, None), ("", None, None)]


def test_failures_are_limited_by_the_address_that_envoy_tells(tmp_path: Path) -> None:
    with contextlib.contextmanager(make)(tmp_path, "", authn="  failure_limit: {failures: 2}\n") as asked:

        def code(address: str) -> int:
            request = question(authorization="Bearer bad")
            told = request.attributes.source.address.socket_address
            told.address, told.port_value = address, next(ports)
            return int(asked.check(request).status.code)

        ports = itertools.count(40000)
        assert [code("2001:db8::7") for _ in range(3)] == [16, 16, 8]
        assert code("2001:db8::8") == 8, "of the same network"
        assert code("2001:db8:0:1::7") == 16


PATHS = [
    ("GET", "/v1/acme/orders/7", "acme"),
    ("GET", "/v1/acme/orders/7?namespace=globex", "acme"),
    ("GET", "/v1/a%63me/orders/7", "acme"),
    ("GET", "/v1/acme/orders/%C3%A9", "acme"),
    ("GET", "/v1/acme/orders/7/", None),
    ("GET", "/v1//orders/7", None),
    ("GET", "/v1/../orders/7", None),
    ("GET", "/v1/%2e%2e/orders/7", None),
    ("GET", "/v1/acme%2Fglobex/orders/7", None),
    ("GET", "/v1/acme%5Cglobex/orders/7", None),
    ("GET", "/v1/acme/orders/%252e", None),
    ("GET", "/v1/acme/orders/%00", None),
    ("GET", "/v1/acme/orders/%ff", None),
    ("GET", "/v1/acme;v=1/orders/7", None),
    ("GET", "/V1/acme/orders/7", None),
    ("GET", "/v%31/acme/orders/7", None),
    ("get", "/v1/acme/orders/7", None),
    ("GET", "v1/acme/orders/7", None),
    ("GET", "*", None),
    ("GET", "", None),
]


@pytest.mark.parametrize(("verb", "path", "namespace"), PATHS)
def test_paths(verb: str, path: str, namespace: str | None) -> None:
    found = Routes([Route("GET", "/v1/{namespace}/orders/{id}", "/a.B/C")]).find(verb, path)
    assert (found and found.namespace) == namespace


@given(st.binary(max_size=64), st.sampled_from(["", "gzip", "deflate", "identity", "GZIP"]))
def test_any_body_gives_messages_or_a_reason(data: bytes, encoding: str) -> None:
    with contextlib.suppress(BodyError):
        assert sum(map(len, messages(data, encoding, 1000))) <= 1000


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_messages_come_out_as_they_went_in(sent: list[bytes]) -> None:
    assert messages(b"".join(map(frame, sent)), "", 1000) == sent


@given(
    st.text(max_size=40),
    st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=5),
    st.binary(max_size=40),
)
def test_who_shows_nothing_is_never_let_in(body: Asked, path: str, headers: dict[str, str], data: bytes) -> None:
    request = auth.CheckRequest()
    http = request.attributes.request.http
    http.path, http.raw_body = path, data
    for key, value in headers.items():
        http.headers[key] = value
    response = body.check(request)
    assert not allowed(response)
    assert response.denied_response.status.code in (400, 401, 403)
