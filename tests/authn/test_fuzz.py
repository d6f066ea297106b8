"""Whatever comes in, only the typed error comes out."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from authz.authn.base import Principal, PrincipalKind
from authz.authn.key_files import read_key_set
from authz.authn.pattern import read_pattern
from authz.authn.pointer import Pointer
from authz.call import is_namespace
from authz.claims.base import is_role
from authz.claims.grants import Ceiling
from authz.claims.mapper import RuleMapper
from authz.claims.permissions import PermissionsRule
from authz.claims.rules import MatchRule
from authz.credentials import BearerToken, ClientCertificate
from authz.errors import AuthenticationError, KeyFileError, MappingError
from tests.authn.setting import MINTER, NOW, certificates, client, tokens

# no deadline: the machine may be busy
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
TOKENS = tokens()
CERTIFICATES = certificates()
TOKEN = MINTER.mint(now=NOW)
DER = x509.load_pem_x509_certificate(client(spiffe_id="spiffe://prod.example.org/a").pem).public_bytes(Encoding.DER)

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "zip", "x5c", "jwk", "b64"]), VALUES)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "cnf", "permissions", "groups"]), VALUES
)


def tried(text: str) -> Principal | None:
    try:
        return TOKENS.authenticate(BearerToken(text), NOW)
    except AuthenticationError as exc:
        refused = exc
    assert refused.detail.isprintable()
    return None


@QUIET
@given(st.text())
@example("\ud800.e30.e30")
def test_any_text_as_a_token(text: str) -> None:
    assert tried(text) is None


@QUIET
@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_a_character_changed(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    assert changed == TOKEN or tried(changed) is None


@QUIET
@given(HEADERS, CLAIMS)
def test_any_header_and_payload_signed(header: dict[str, Any], claims: dict[str, Any]) -> None:
    usual = {"alg": "ES256", "typ": "at+jwt", "kid": "test-key"}
    assumed = {"iss": MINTER.issuer, "aud": "test", "sub": "alice", "exp": NOW + 60}
    for members, payload in ((header, claims), ({**usual, **header}, claims), (usual, {**assumed, **claims})):
        try:
            text = MINTER.sign(json.dumps(members).encode(), json.dumps(payload).encode())
        except UnicodeEncodeError:
            continue
        tried(text)


@QUIET
@given(st.binary(), st.binary())
def test_any_bytes_signed(header: bytes, payload: bytes) -> None:
    assert tried(MINTER.sign(header, payload)) is None
    assert tried(MINTER.sign(b'{"alg":"ES256","typ":"at+jwt","kid":"test-key"}', payload)) is None


@QUIET
@given(st.one_of(st.binary(), VALUES.map(lambda value: json.dumps(value).encode("utf-8", "replace"))))
def test_any_bytes_as_a_key_set(data: bytes) -> None:
    try:
        read_key_set(data, "fuzz")
    except KeyFileError:
        return


@QUIET
@given(st.dictionaries(st.sampled_from([*"nexyd", "kty", "crv", "kid", "use", "alg", "key_ops"]), VALUES))
def test_any_key(entry: dict[str, Any]) -> None:
    for kind in ("RSA", "EC", "OKP"):
        whole = {**MINTER.key.jwk(), "kty": kind, **entry}
        try:
            read_key_set(json.dumps({"keys": [whole]}).encode("utf-8", "replace"), "fuzz")
        except KeyFileError:
            continue


def certificate(pem: bytes) -> Principal | None:
    try:
        return CERTIFICATES.authenticate(ClientCertificate(pem), NOW)
    except AuthenticationError as exc:
        refused = exc
    assert refused.detail.isprintable()
    return None


@QUIET
@given(st.binary())
def test_any_bytes_as_a_certificate(data: bytes) -> None:
    assert certificate(data) is None
    assert certificate(armored(data)) is None


def armored(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@QUIET
@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=3))
@example([(15, 128)])
def test_a_certificate_with_bytes_changed(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(DER)
    for at, value in changes:
        changed[at] = value
    assert bytes(changed) == DER or certificate(armored(bytes(changed))) is None


MAPPER = RuleMapper(
    [
        PermissionsRule(Pointer("permissions")),
        MatchRule(Pointer("/realm/roles"), read_pattern("(?P<ns>[^:]*):(?P<role>.*)"), "{role}", "{ns}"),
        MatchRule(Pointer("groups"), read_pattern(".*"), "team", "{ns}".replace("{ns}", "x"), split=True),
    ],
    Ceiling(),
)
ENTRIES = st.lists(st.one_of(st.text(max_size=20), st.text("a*:-_,. \n", max_size=12)), max_size=5)


@QUIET
@given(st.dictionaries(st.sampled_from(["permissions", "groups", "realm"]), st.one_of(VALUES, ENTRIES)), ENTRIES)
def test_any_claims_give_names_or_nothing(attributes: dict[str, Any], roles: list[str]) -> None:
    principal = Principal(PrincipalKind.TOKEN, "corp", "alice", attributes={**attributes, "realm": {"roles": roles}})
    try:
        claims = MAPPER.map(principal)
    except MappingError:
        return
    assert all(is_namespace(name) for name in claims.namespaces)
    assert all(is_role(role) for role in claims.system.union(*claims.namespaces.values()))
