"""The section `serve`: every mistake is refused with its place and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.config.serve import load_serve
from authz.errors import ConfigError
from tests.adapters.behind import write_descriptors

GOOD = """audit: {directory: audit}
serve:
  workers: 2
  drain: 5s
  health: "127.0.0.1:7000"
  proxy:
    listen:
    - {address: "127.0.0.1:0", plaintext: true}
    - {address: "[::1]:7001", tls: {certificate_file: a.pem, key_file: a.pem, client_ca_file: a.pem}}
    upstream: {address: "orders.internal:443", tls: {ca_file: a.pem, server_name: orders}}
    descriptors: [orders.binpb]
    strip: [x-user, x-team-*]
    forward: {principal: x-p, roles: x-r, the_callers_own_token: true}
    limits: {message_bytes: 2048, connection_age: 5m}
  ext_authz:
    listen: [{address: "127.0.0.1:0", plaintext: true}]
    namespaces_from: header
    namespace_header: x-namespace
    routes: [{verb: GET, path: "/v1/{namespace}", method: /a.B/C}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    write_descriptors(tmp_path / "orders.binpb")
    (tmp_path / "authz.yaml").write_text(GOOD)
    return tmp_path / "authz.yaml"


def test_everything_is_read(path: Path) -> None:
    found = load_serve(path)
    assert (found.workers, found.drain, found.health) == (2, 5.0, "127.0.0.1:7000")
    assert found.proxy is not None
    assert [listener.address for listener in found.proxy.listeners] == ["127.0.0.1:0", "[::1]:7001"]
    assert found.proxy.listeners[0].identity is None
    assert found.proxy.listeners[1].client_ca is not None
    assert found.proxy.upstream.tls
    assert found.proxy.upstream.server_name == "orders"
    assert found.proxy.upstream.identity is None
    assert (found.proxy.forward.principal, found.proxy.forward.audit_id) == ("x-p", "x-audit-id")
    assert found.proxy.forward.authorization
    assert found.proxy.limits.connection_age == 300.0
    assert found.ext_authz is not None
    assert (found.ext_authz.source, found.ext_authz.header, found.ext_authz.shadow) == ("header", "x-namespace", False)


WRONG = [
    ("a typo", "workers: 2", "worker: 2", "did you mean `workers`?"),
    ("no workers", "workers: 2", "workers: 0", "from 1 to 128"),
    ("a file for several", "directory: audit", "file: audit.jsonl", "write `directory:`"),
    ("an address without a port", '"[::1]:7001"', "localhost", "write host:port"),
    ("an address of another kind", '"[::1]:7001"', '"unix:/x"', "write host:port"),
    ("a port beyond all", '"[::1]:7001"', '"x:70000"', "write host:port"),
    ("neither tls nor plaintext", ", plaintext: true}\n    - {", "}\n    - {", "`plaintext: true` where nobody"),
    ("both", "server_name: orders}}", "server_name: orders}, plaintext: true}", "both `tls` and `plaintext`"),
    ("a key file that is not there", "key_file: a.pem", "key_file: none.pem", "none.pem"),
    ("a key file that is no PEM", "key_file: a.pem", "key_file: orders.binpb", "not a PEM file"),
    ("no descriptors", "    descriptors: [orders.binpb]\n", "", "`serve.proxy.descriptors` is missing"),
    ("a header that gRPC keeps", "principal: x-p", "principal: grpc-p", "cannot be a metadata key"),
    ("a header for bytes", "principal: x-p", "principal: x-p-bin", "cannot be a metadata key"),
    ("a header in upper case", "roles: x-r", "roles: X-R", "lower-case"),
    ("a pattern in the middle", "x-team-*", "x-*-team", "cannot be a metadata key"),
    ("a source that is none", "namespaces_from: header", "namespaces_from: guess", "body, extracted, header"),
    ("a header for another source", "namespaces_from: header", "namespaces_from: body", "namespace_header"),
    ("a verb in lower case", "verb: GET", "verb: get", "upper case"),
    ("a path that is none", '"/v1/{namespace}"', "v1", "is not a path"),
    ("a variable within a segment", '"/v1/{namespace}"', '"/v1/x-{namespace}"', "whole-segment variables"),
    ("a namespace twice", '"/v1/{namespace}"', '"/v1/{namespace}/to/{namespace}"', "more than once"),
    ("two places", "method: /a.B/C}", "method: /a.B/C, namespace_header: x-n}", "keep one of them"),
    ("an unknown limit", "message_bytes: 2048", "mesage_bytes: 2048", "did you mean `message_bytes`?"),
    ("a route's typo", "method: /a.B/C}", "method: /a.B/C, namespace_heder: x-n}", "did you mean `namespace_header`?"),
    ("a word for a boolean", "method: /a.B/C}", "method: /a.B/C, names_no_other_namespace: yes}", "`true` or `false`"),
    ("a section of another name", "  proxy:\n", "  porxy:\n", "did you mean `proxy`?"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), WRONG, ids=[row[0] for row in WRONG])
def test_a_mistake_is_refused(path: Path, name: str, old: str, new: str, said: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_serve(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")
