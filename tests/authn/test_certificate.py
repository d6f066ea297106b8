"""Certificates: who vouches, for whom, and until when."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from authz.authn.authority_files import read_authority_file
from authz.authn.base import PrincipalKind
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.conditions import IsPresent
from authz.authn.pointer import Pointer
from authz.credentials import BearerToken, ClientCertificate
from authz.errors import KeyFileError
from authz.reason import Reason
from authz.testing import CertificateAuthority
from tests.authn.setting import NOW, TODAY, authority, certificate_authority, certificates, client, refusal
from tests.authn.test_hostile_certificates import forge

WORKER = "spiffe://prod.example.org/ns/orders/sa/worker"


def test_a_spiffe_certificate_proves_its_id() -> None:
    principal = certificates().authenticate(client(spiffe_id=WORKER), NOW)
    assert principal is not None
    assert principal.kind is PrincipalKind.CERTIFICATE
    assert (principal.issuer, principal.id) == ("prod", f"user:prod:{WORKER}")
    assert principal.attributes["path"] == "/ns/orders/sa/worker"
    assert principal.expires_at == NOW + 3600
    assert len(principal.fingerprint) == 64


@pytest.mark.parametrize(
    ("subject_from", "settings", "subject"),
    [
        ("cn", {"common_name": "billing"}, "billing"),
        ("dns", {"dns": ["billing.example.org"]}, "billing.example.org"),
        ("uri", {"uris": ["urn:billing"]}, "urn:billing"),
        ("email", {"emails": ["billing@example.org"]}, "billing@example.org"),
        ("attribute", {"attributes": [(NameOID.USER_ID, "b1")]}, "b1"),
    ],
)
def test_each_place_of_a_name(subject_from: str, settings: dict[str, Any], subject: str) -> None:
    authenticator = certificates(subject_from=subject_from, attribute="UID", trust_domains=frozenset())
    principal = authenticator.authenticate(client(**settings), NOW)
    assert principal is not None
    assert principal.subject == subject


def test_a_token_is_not_its_business() -> None:
    assert certificates().authenticate(BearerToken("x"), NOW) is None


def test_a_known_certificate_is_the_same_principal_until_it_expires() -> None:
    authenticator = certificates()
    shown = client(spiffe_id=WORKER)
    first = authenticator.authenticate(shown, NOW)
    assert authenticator.authenticate(ClientCertificate(bytes(shown.pem)), NOW + 3600) is first
    assert refusal(authenticator, shown, NOW + 3601) is Reason.CERTIFICATE_EXPIRED


def test_an_intermediate_may_be_shown_or_configured() -> None:
    year = timedelta(days=365)
    middle = CertificateAuthority("Middle", parent=certificate_authority(), not_before=TODAY, not_after=TODAY + year)
    shown = client(middle, spiffe_id=WORKER)
    assert refusal(certificates(), shown) is Reason.CERTIFICATE_UNTRUSTED
    assert certificates().authenticate(ClientCertificate(shown.pem + middle.pem), NOW)
    assert certificates(intermediates=[middle.x509]).authenticate(shown, NOW)


SUBJECT = Reason.CERTIFICATE_SUBJECT_REFUSED
UNTRUSTED = Reason.CERTIFICATE_UNTRUSTED
CONDITION = Reason.CERTIFICATE_CONDITION_FAILED
SERVER = [ExtendedKeyUsageOID.SERVER_AUTH]
MINUTE = timedelta(minutes=1)
CN: dict[str, Any] = {"subject_from": "cn"}
# what is wrong, the authority's settings, the certificate's contents, the reason
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], Reason]] = [
    ("another trust domain", {}, {"spiffe_id": "spiffe://staging.example.org/a"}, SUBJECT),
    ("two URIs", {}, {"spiffe_id": WORKER, "uris": [WORKER + "2"]}, SUBJECT),
    ("no URI", {}, {"common_name": "x"}, SUBJECT),
    ("no path", {}, {"spiffe_id": "spiffe://prod.example.org"}, SUBJECT),
    ("dots", {}, {"spiffe_id": "spiffe://prod.example.org/a/../b"}, SUBJECT),
    ("a query", {}, {"spiffe_id": "spiffe://prod.example.org/a?b"}, SUBJECT),
    ("a port", {}, {"spiffe_id": "spiffe://prod.example.org:1/a"}, SUBJECT),
    ("a repeated CN", CN, {"common_name": "a", "attributes": [(NameOID.COMMON_NAME, "b")]}, SUBJECT),
    ("a line break", CN, {"common_name": "a\nb"}, Reason.CERTIFICATE_MALFORMED),
    ("a wrong O", {**CN, "require": {"O": "E"}}, {"common_name": "a"}, SUBJECT),
    ("a server's", {}, {"spiffe_id": WORKER, "usages": [ExtendedKeyUsageOID.SERVER_AUTH]}, UNTRUSTED),
    ("no usage", {}, {"spiffe_id": WORKER, "usages": []}, UNTRUSTED),
    ("not yet", {}, {"spiffe_id": WORKER, "not_before": TODAY + MINUTE}, Reason.CERTIFICATE_NOT_YET_VALID),
    ("a condition", {"conditions": [IsPresent(Pointer("O"))]}, {"spiffe_id": WORKER}, CONDITION),
    ("a server's where none is needed", {"usage_required": False}, {"spiffe_id": WORKER, "usages": SERVER}, UNTRUSTED),
    ("a hundred names", {}, {"spiffe_id": WORKER, "dns": [f"n{i}" for i in range(101)]}, Reason.CERTIFICATE_MALFORMED),
    ("expired", {}, {"spiffe_id": WORKER, "not_after": TODAY - MINUTE}, Reason.CERTIFICATE_EXPIRED),
]


@pytest.mark.parametrize(("settings", "shown", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_certificates_that_are_refused(settings: dict[str, Any], shown: dict[str, Any], reason: Reason) -> None:
    assert refusal(certificates(**settings), client(**shown)) is reason


def test_an_authority_of_the_same_name_does_not_vouch() -> None:
    theirs = CertificateAuthority(not_before=TODAY - MINUTE)
    assert refusal(certificates(), client(theirs, spiffe_id=WORKER)) is Reason.CERTIFICATE_UNTRUSTED


def test_staging_cannot_mint_production() -> None:
    staging = certificate_authority("Staging")
    authenticator = CertificateAuthenticator(
        [
            authority(),
            authority(staging, name="staging", prefix="staging:", trust_domains=frozenset({"staging.example.org"})),
        ]
    )
    assert refusal(authenticator, client(staging, spiffe_id=WORKER)) is SUBJECT


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate(pem: bytes) -> None:
    assert refusal(certificates(), ClientCertificate(pem)) is Reason.CERTIFICATE_MALFORMED


def test_a_certificate_that_says_nothing_of_its_use_may_be_taken() -> None:
    assert certificates(usage_required=False).authenticate(client(spiffe_id=WORKER, usages=[]), NOW)


def test_an_attribute_that_has_no_name_here_is_passed_over() -> None:
    shown = client(spiffe_id=WORKER, attributes=[(NameOID.STREET_ADDRESS, "x")])
    assert certificates().authenticate(shown, NOW)


def test_authority_files_that_are_refused(tmp_path: Path) -> None:
    leaf = certificate_authority().issue_client("x")
    path = tmp_path / "ca.pem"
    for content, message in [
        (leaf.key, "holds a private key"),
        (leaf.certificate, "is not an authority's"),
        (forge(is_ca=None), "is not an authority's"),
        (b"", "is not certificates in PEM"),
    ]:
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match=message):
            read_authority_file(path)
