"""Envoy's own jwt_authn and RBAC filters as a second opinion: the same requests come out the same.

What both can express: tokens of one issuer, three roles, namespaces of the first message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from authz.testing import SigningKey, TokenMinter
from examples.envoy.parts import envoy
from examples.orders.keys import AUDIENCE, ISSUER
from examples.processes import free_port
from tests.adapters.behind import BOTH, RESPONSES, SERVICE, UNARY, Heard, Message
from tests.envoy.edge import EXAMPLE, Edge, edge

METHODS = {
    UNARY: "read",
    RESPONSES: "read",
    BOTH: "read",
    "CreateOrder": "write",
    "CancelOrder": "write",
    "PurgeNamespace": "admin",
}
LEVELS = ["read", "write", "admin"]
NAMESPACES = ["acme", "globex", "initech"]


def with_extraction(config: dict[str, Any]) -> dict[str, Any]:
    """The example's configuration, with every method's namespace extracted."""
    filters = manager(config)["http_filters"]
    extraction = filters[0]["typed_config"]
    extraction["extractions_by_method"] = {
        f"{SERVICE}.{method}": {"request_field_extractions": {"namespace": {}}} for method in METHODS
    }
    return config


def manager(config: dict[str, Any]) -> Any:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def metadata(filter_: str, path: list[str], value: str) -> dict[str, Any]:
    return {
        "filter": filter_,
        "path": [{"key": key} for key in path],
        "value": {"list_match": {"one_of": {"string_match": {"exact": value}}}},
    }


def holds(permission: str) -> dict[str, Any]:
    return {"metadata": metadata("envoy.filters.http.jwt_authn", ["payload", "permissions"], permission)}


def with_rbac(config: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """The same edge, where Envoy itself verifies tokens and decides."""
    jwt = {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {
                "staff": {
                    "issuer": ISSUER,
                    "audiences": [AUDIENCE],
                    "local_jwks": {"inline_string": json.dumps(keys)},
                    "payload_in_metadata": "payload",
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "staff"}}],
        },
    }
    policies = {}
    for namespace in NAMESPACES:
        for method, needed in METHODS.items():
            enough = LEVELS[LEVELS.index(needed) :]
            policies[f"{namespace} {method}"] = {
                "permissions": [
                    {
                        "and_rules": {
                            "rules": [
                                {"url_path": {"path": {"exact": f"/{SERVICE}/{method}"}}},
                                {"metadata": metadata(
                                    "envoy.filters.http.grpc_field_extraction", ["namespace"], namespace
                                )},
                            ]
                        }
                    }
                ],
                "principals": [{"or_ids": {"ids": [
                    holds(f"{where}:{level}") for where in (namespace, "system") for level in enough
                ]}}],
            }  # fmt: skip
    rbac = {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    }
    filters = manager(config)["http_filters"]
    filters[1:2] = [jwt, rbac]
    return config


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Edge]]:
    """Two edges before the same server: the one that asks authz, and the one that decides by itself."""
    folder, other = tmp_path_factory.mktemp("authz"), tmp_path_factory.mktemp("rbac")
    shipped = (EXAMPLE / "envoy-streams.yaml").read_text()
    extracted = f"namespaces_from: extracted\n    streams_decided_by_first_message: [/{SERVICE}/{BOTH}]"
    settings = {"namespaces_from: body": extracted}
    asking = yaml.safe_dump(with_extraction(yaml.safe_load(shipped)))
    with edge(folder, "envoy-streams.yaml", settings=settings, text=asking) as one:
        running = yaml.safe_load((folder / "envoy.yaml").read_text())
        port = free_port()
        listener = running["static_resources"]["listeners"][0]
        listener["address"]["socket_address"]["port_value"] = port
        (other / "orders.binpb").write_bytes((folder / "orders.binpb").read_bytes())
        deciding = with_rbac(running, {"keys": [one.keys.rsa.key.jwk(), one.keys.ec.key.jwk()]})
        with envoy(other, yaml.safe_dump(deciding), port):
            yield one, Edge(port, other, one.keys, Heard(), [])


def outcome(at: Edge, method: str, request: bytes, metadata: Any) -> str:
    with at.plain() as channel:
        reply = channel.stream_stream(f"/{SERVICE}/{method}")(iter([request]), metadata=metadata, timeout=10)
        try:
            list(reply)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def callers(minter: TokenMinter) -> dict[str, str]:
    tokens = {
        f"{where}:{level}": minter.mint(sub="x", permissions=[f"{where}:{level}"])
        for where in ("acme", "globex", "system")
        for level in LEVELS
    }
    stranger = TokenMinter(ISSUER, AUDIENCE, key=SigningKey("RS256", "rsa-1"))
    return {
        **tokens,
        "two": minter.mint(sub="x", permissions=["acme:read", "globex:write"]),
        "none": minter.mint(sub="x", permissions=["acme"]),
        "expired": minter.mint(sub="x", permissions=["acme:read"], iat=1000, exp=2000),
        "not yet": minter.mint(sub="x", permissions=["acme:read"], nbf=4_000_000_000),
        "another audience": minter.mint(sub="x", permissions=["acme:read"], aud="payments"),
        "another issuer": minter.mint(sub="x", permissions=["acme:read"], iss="https://other.example"),
        "a forged signature": stranger.mint(sub="x", permissions=["acme:read"]),
        "no token at all": "",
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_second_opinion_is_the_same(both: tuple[Edge, Edge], method: str) -> None:
    one, other = both
    allowed = 0
    for caller, token in callers(one.keys.rsa).items():
        shown = [("authorization", f"Bearer {token}")] if token else []
        for namespace in (*NAMESPACES, ""):
            request = Message(namespace=namespace, id="1").SerializeToString()
            if not namespace and caller.startswith("system:"):
                continue  # "no namespace" is for authz a namespace of its own; RBAC's rules here have no word for it
            mine, theirs = outcome(one, method, request, shown), outcome(other, method, request, shown)
            if caller == "another audience" and theirs == "PERMISSION_DENIED":
                theirs = "UNAUTHENTICATED"  # Envoy's word for it
            assert mine == theirs, (caller, namespace)
            allowed += mine == "OK"
    assert allowed >= 5
    assert Path(one.folder / "audit.jsonl").exists()
