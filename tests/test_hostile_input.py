"""No metadata, no bytes and no call make `Engine.check` raise, or allow: Hypothesis looks for one that does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import authz
from authz.credentials import from_metadata
from tests.adapters.orders import configure, records

METHOD = "/example.orders.v1.Orders/GetOrder"
anything = st.text(alphabet=st.characters(), max_size=80)
words = st.sampled_from(["Bearer", "bearer ", "Bearer ", " ", ".", "e30", "eyJhbGciOiJub25lIn0", "=", "\0", "\n", "é"])
values = st.one_of(anything, st.lists(words, max_size=8).map("".join), st.binary(max_size=40))
metadata = st.lists(
    st.tuples(
        st.one_of(st.just("authorization"), st.sampled_from(["x-audit-id", "authorization-bin"]), anything), values
    ),
    max_size=4,
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), anything),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(anything, inner, max_size=3)),
    max_leaves=6,
)
known = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "iss", "sub", "aud", "exp", "nbf", "iat", "permissions"])
objects = st.dictionaries(st.one_of(known, anything), json_values, max_size=6)


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


tokens = st.one_of(
    anything,
    st.builds(
        lambda header, payload, signature: f"{segment(header)}.{segment(payload)}.{segment(signature)}",
        st.one_of(objects, objects.map(lambda o: {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1", **o})),
        st.one_of(
            objects, objects.map(lambda o: {"iss": "https://idp.orders.example", "sub": "rita", "aud": "orders", **o})
        ),
        json_values,
    ),
)
blobs = st.binary(max_size=200)
armoured = blobs.map(
    lambda b: b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(b) + b"-----END CERTIFICATE-----\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[authz.Engine]:
    path, _ = configure(folder)
    with authz.load_config(path) as engine:
        yield engine


thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(metadata)
@example([("authorization", "Bearer ")])
def test_no_metadata_raises_or_allows(engine: authz.Engine, metadata: list[tuple[str, str | bytes]]) -> None:
    decision = engine.check(authz.Call(METHOD, ("acme",)), from_metadata(metadata))
    assert not decision
    assert decision.reason.status == "UNAUTHENTICATED"


@thorough
@given(tokens)
def test_no_token_of_ones_own_making_raises_or_allows(engine: authz.Engine, token: str) -> None:
    decision = engine.check(authz.Call(METHOD, ("acme",)), [authz.BearerToken(token)])
    assert not decision
    assert decision.reason.status == "UNAUTHENTICATED"


@thorough
@given(st.one_of(blobs, armoured))
def test_no_bytes_for_a_certificate_raise_or_allow(engine: authz.Engine, pem: bytes) -> None:
    decision = engine.check(authz.Call(METHOD, ("acme",)), [authz.ClientCertificate(pem)])
    assert not decision
    assert decision.reason.status == "UNAUTHENTICATED"


@thorough
@given(anything, st.lists(st.one_of(st.none(), anything), max_size=4), st.one_of(st.none(), anything))
def test_no_call_raises_or_is_allowed_to_nobody(
    engine: authz.Engine, method: str, namespaces: list[str | None], unreadable: str | None
) -> None:
    call = authz.Call(method, tuple(namespaces), unreadable)
    assert not engine.check(call)


@given(anything)
def test_everything_that_arrived_was_recorded_readably(engine: authz.Engine, folder: Path, text: str) -> None:
    decision = engine.check(authz.Call(text, (text,), None, text, text, text), [authz.BearerToken(text)])
    record = records(folder)[-1]
    assert record["id"] == decision.audit_id
    assert record["method"].isprintable()
