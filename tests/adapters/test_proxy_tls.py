"""TLS on both sides of the proxy: who the caller is by certificate, and what is shown to the server behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from authz.testing import CertificateAuthority, SigningKey
from tests.adapters.behind import SERVICE, UNARY, Echo, Front, Heard, Message, proxy, server_behind

SETTINGS = """
serve:
  proxy:
    listen:
    - {{address: "127.0.0.1:0", tls: {{certificate_file: keys/server.pem, key_file: keys/server.key}}}}
    - address: "127.0.0.1:0"
      tls: {{certificate_file: keys/server.pem, key_file: keys/server.key, client_ca_file: keys/clients.pem}}
    upstream:
      address: "127.0.0.1:{port}"
      tls:
        ca_file: behind/ca.pem
        certificate_file: behind/proxy.pem
        key_file: behind/proxy.key
        server_name: localhost
    descriptors: [orders.binpb]
    forward:
      principal: x-authz-principal
      signed:
        header: x-authz-identity
        key_file: behind/signing.key
        algorithm: ES256
        key_id: proxy-1
        issuer: https://proxy.example
        audience: orders
"""


def request() -> bytes:
    return bytes(Message(namespace="acme", id="1").SerializeToString())


@contextmanager
def both_sides(folder: Path, settings: str = SETTINGS) -> Iterator[tuple[Front, SigningKey]]:
    """The proxy between two sides with TLS; the server behind takes calls of the proxy alone."""
    authority, signing = CertificateAuthority("Behind CA"), SigningKey("ES256")
    served, shown = authority.issue_server(), authority.issue_client("the proxy")
    (folder / "behind").mkdir()
    private = signing.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {"ca.pem": authority.pem, "proxy.pem": shown.certificate, "proxy.key": shown.key, "signing.key": private}
    for name, content in files.items():
        (folder / "behind" / name).write_bytes(content)
    credentials = grpc.ssl_server_credentials([(served.key, served.certificate)], authority.pem, True)
    heard = Heard()
    with server_behind(Echo(heard), credentials=credentials) as port, proxy(folder, port, heard, settings) as front:
        yield front, signing


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, SigningKey]]:
    with both_sides(tmp_path_factory.mktemp("tls")) as both:
        yield both


def call(front: Front, port: int, certificate: Any = None, metadata: Any = (), ca: bytes | None = None) -> str:
    credentials = grpc.ssl_channel_credentials(
        ca or front.keys.server_ca,
        certificate.key if certificate else None,
        certificate.certificate if certificate else None,
    )
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/{UNARY}")(request(), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def test_a_token_over_tls(running: tuple[Front, SigningKey]) -> None:
    front, _ = running
    assert call(front, front.ports[0], metadata=front.token(sub="rita", permissions=["acme:read"])) == "OK"
    assert front.heard.metadata[-1]["x-authz-principal"] == "user:staff:rita"


def test_a_certificate_names_the_caller(running: tuple[Front, SigningKey]) -> None:
    front, _ = running
    backup = front.keys.machines.issue_client("backup-7")
    assert call(front, front.ports[1], backup) == "OK"
    assert front.heard.metadata[-1]["x-authz-principal"] == "user:machine:backup-7"
    assert front.records[-1]["authn"] == "certificate"
    # of the right form, and of the wrong authority
    stranger = front.keys.machines.issue_client(spiffe_id="spiffe://orders.example/ns/acme/sa/worker")
    assert call(front, front.ports[1], stranger) == "UNAUTHENTICATED"
    assert front.records[-1]["reason"] == "certificate_subject_refused"
    assert call(front, front.ports[1], CertificateAuthority().issue_client("backup-7")) == "UNAVAILABLE"
    assert call(front, front.ports[1]) == "UNAVAILABLE"


def test_the_server_behind_can_verify_who_calls(running: tuple[Front, SigningKey]) -> None:
    front, signing = running
    forged = jwt.encode({"sub": "root"}, "x" * 32, "HS256")
    metadata = [*front.token(sub="rita", permissions=["acme:read"]), ("x-authz-identity", forged)]
    assert call(front, front.ports[0], metadata=metadata) == "OK"
    token = front.heard.metadata[-1]["x-authz-identity"]
    found = jwt.decode(token, signing.public_pem(), ["ES256"], audience="orders", issuer="https://proxy.example")
    assert found["sub"] == "user:staff:rita"
    assert found["roles"] == ["reader@acme"]
    assert found["exp"] - found["iat"] <= 60
    assert jwt.get_unverified_header(token)["kid"] == "proxy-1"
    assert call(front, front.ports[0], metadata=metadata) == "OK"
    assert front.heard.metadata[-1]["x-authz-identity"] == token, "it is used again while it is fresh"


def test_a_server_behind_that_is_not_who_it_should_be_is_not_called(tmp_path: Path) -> None:
    settings = SETTINGS.replace("behind/ca.pem", "keys/server-ca.pem")
    with both_sides(tmp_path, settings) as (front, _):
        assert call(front, front.ports[0], metadata=front.token(permissions=["acme:read"])) == "UNAVAILABLE"
        assert front.heard.metadata == []


def test_a_caller_by_certificate_is_anonymous_without_one(running: tuple[Front, SigningKey]) -> None:
    front, _ = running
    assert call(front, front.ports[0]) == "UNAUTHENTICATED"
    assert front.records[-1]["reason"] == "credential_missing"
