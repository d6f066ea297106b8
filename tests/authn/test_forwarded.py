"""Forwarded certificates: from whom one is taken, which one, and what is made of it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.authn.chain import Authentication, Combine
from authz.authn.forwarded import read_forwarded
from authz.credentials import (
    BearerToken,
    ClientCertificate,
    Credential,
    ForwardedCertificate,
    MalformedCredential,
    from_metadata,
)
from authz.errors import AuthenticationError
from authz.reason import Reason
from authz.testing import CertificateAuthority
from tests.authn.setting import MINTER, NOW, TODAY, certificates, client, tokens
from tests.authn.test_fuzz import QUIET
from tests.authn.test_revocation import bound

METHOD = "/orders.v1.Orders/Get"
TD = "spiffe://prod.example.org"
PROXY, CALLER, OTHER = (client(spiffe_id=f"{TD}/{name}") for name in ("envoy", "billing", "other"))
STRANGER = client(CertificateAuthority(not_before=TODAY), spiffe_id=f"{TD}/admin")
MESH = Authentication(certificates=certificates(), forwarders=[f"user:prod:{TD}/envoy"])


def cert(shown: ClientCertificate) -> str:
    return f'Cert="{quote(shown.pem.decode(), safe="")}"'


def header(*elements: str) -> ForwardedCertificate:
    return ForwardedCertificate(",".join(elements))


def outcome(authentication: Authentication, *shown: Credential) -> str | Reason:
    try:
        return authentication.authenticate(shown, METHOD, NOW).subject.removeprefix(TD)
    except AuthenticationError as exc:
        return exc.reason


def test_the_caller_of_a_proxy_that_is_named_is_the_caller() -> None:
    element = f'By={TD}/envoy;Hash=ab;{cert(CALLER)};Subject="CN=a\\",b;c=d";URI={TD}/billing;DNS=a.org;DNS=b.org'
    assert outcome(MESH, PROXY, header(element)) == "/billing"
    first = MESH.authenticate((PROXY, header(element)), METHOD, NOW)
    assert MESH.authenticate((PROXY, header(element)), METHOD, NOW) is first


def test_only_the_last_element_counts() -> None:
    assert outcome(MESH, PROXY, header(cert(OTHER), cert(CALLER))) == "/billing"
    assert outcome(MESH, PROXY, header(cert(CALLER), "By=x")) is Reason.CREDENTIAL_MALFORMED


def test_a_peer_that_is_not_named_forwards_nothing() -> None:
    assert outcome(MESH, OTHER, header(cert(CALLER))) is Reason.CREDENTIAL_FORWARDER_UNKNOWN
    assert outcome(MESH, header(cert(CALLER))) is Reason.CREDENTIAL_FORWARDER_UNKNOWN
    assert outcome(MESH, STRANGER, header(cert(CALLER))) is Reason.CERTIFICATE_UNTRUSTED
    assert outcome(MESH, CALLER, header(cert(PROXY))) is Reason.CREDENTIAL_FORWARDER_UNKNOWN


def test_a_token_does_not_name_a_proxy() -> None:
    mesh = Authentication(
        tokens(), certificates(), combine=Combine.JWT, forwarders=["user:corp:alice", f"user:prod:{TD}/envoy"]
    )
    token = BearerToken(MINTER.mint(now=NOW))
    assert outcome(mesh, token, header(cert(CALLER))) is Reason.CREDENTIAL_FORWARDER_UNKNOWN
    assert outcome(mesh, token, PROXY, header(cert(CALLER))) == "alice"
    assert outcome(mesh, token, PROXY, header(cert(STRANGER))) is Reason.CERTIFICATE_UNTRUSTED


def test_without_the_setting_the_header_is_not_there() -> None:
    plain = Authentication(certificates=certificates(), anonymous=[METHOD])
    assert outcome(plain, CALLER, header(cert(OTHER))) == "/billing"
    assert outcome(plain, header(cert(OTHER))) == "anonymous"


def test_what_is_forwarded_is_verified_as_if_it_had_been_shown() -> None:
    assert outcome(MESH, PROXY, header(cert(STRANGER))) is Reason.CERTIFICATE_UNTRUSTED
    assert outcome(MESH, PROXY, header(f"URI={TD}/admin")) is Reason.CREDENTIAL_MALFORMED


def test_a_proxy_that_forwards_nothing_is_the_caller() -> None:
    assert outcome(MESH, PROXY) == "/envoy"


def test_a_token_is_bound_to_the_certificate_that_is_forwarded() -> None:
    mesh = Authentication(tokens(), certificates(), combine=Combine.JWT, forwarders=[f"user:prod:{TD}/envoy"])
    assert outcome(mesh, bound(CALLER), PROXY, header(cert(CALLER))) == "alice"
    assert outcome(mesh, bound(PROXY), PROXY, header(cert(CALLER))) is Reason.TOKEN_BINDING_WRONG


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ",",
        cert(CALLER) + ",",
        cert(CALLER) + ";",
        "," + cert(CALLER),
        cert(CALLER) + ";" + cert(OTHER),
        "Cert=",
        'Cert="',
        'Cert="' + quote(CALLER.pem.decode()),
        cert(CALLER) + "x",
        cert(CALLER) + "xBy=y",
        f'Cert="{quote((CALLER.pem + OTHER.pem).decode())}"',
        "Cert=%ff%fe",
        'Subject="' + cert(CALLER) + '"',
        "Cert\u0131=x",
        cert(CALLER) + ";X=" + "a" * 65_536,
    ],
)
def test_a_header_that_cannot_be_read_is_refused(text: str) -> None:
    assert outcome(MESH, PROXY, ForwardedCertificate(text)) is Reason.CREDENTIAL_MALFORMED


@QUIET
@given(st.text('Cert="\\;,%2a ', max_size=30))
def test_any_header(text: str) -> None:
    try:
        read_forwarded(text)
    except AuthenticationError:
        return


def test_forwarders_need_certificates() -> None:
    with pytest.raises(ValueError, match="forwarders"):
        Authentication(tokens(), forwarders=["user:a"])


def test_the_entries_of_metadata() -> None:
    key = "x-forwarded-client-cert"
    assert from_metadata([(key, "a"), ("x", "y"), (key, "b")]) == (ForwardedCertificate("a,b"),)
    assert from_metadata([(key, "a"), ("authorization", "Bearer t")]) == (BearerToken("t"), ForwardedCertificate("a"))
    (malformed,) = from_metadata([(key, b"a")])
    assert isinstance(malformed, MalformedCredential)
    assert "secret" not in repr(ForwardedCertificate("secret"))
