"""The setting of the authentication tests: one issuer, one authority, one moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509

from authz.authn.authority import Authority, FixedAnchors
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.issuer import Issuer
from authz.authn.jwt import TokenAuthenticator
from authz.authn.key_files import read_key_set
from authz.authn.keys import FixedKeys, KeySet
from authz.credentials import BearerToken, ClientCertificate, Credential
from authz.errors import AuthenticationError
from authz.reason import Reason
from authz.testing import CertificateAuthority, SigningKey, TokenMinter

NOW = 1_800_000_000.0
TODAY = datetime.fromtimestamp(NOW, UTC)
MINTER = TokenMinter()


def key_set(*keys: SigningKey) -> KeySet:
    """The published halves of ``keys``."""
    return read_key_set(json.dumps({"keys": [key.jwk() for key in keys]}).encode(), "test")


def issuer(*keys: SigningKey, **settings: Any) -> Issuer:
    """An issuer that accepts what ``MINTER`` makes, unless ``settings`` say otherwise."""
    known = keys or (MINTER.key,)
    usual: dict[str, Any] = {
        "name": "corp",
        "issuer": MINTER.issuer,
        "audiences": frozenset({MINTER.audience}),
        "algorithms": frozenset(key.algorithm for key in known),
        "keys": FixedKeys(key_set(*known)),
        "prefix": "corp:",
    }
    return Issuer(**{**usual, **settings})


def tokens(**settings: Any) -> TokenAuthenticator:
    """An authenticator with the one issuer of :func:`issuer`."""
    return TokenAuthenticator([issuer(**settings)])


@cache
def certificate_authority(name: str = "Test CA") -> CertificateAuthority:
    """One of the authorities that all tests share, valid for years around ``NOW``."""
    return CertificateAuthority(name, not_before=TODAY - timedelta(days=3650), not_after=TODAY + timedelta(days=3650))


def client(ca: CertificateAuthority | None = None, **settings: Any) -> ClientCertificate:
    """A certificate of ``ca``, good for an hour around ``NOW`` unless ``settings`` say otherwise."""
    usual: dict[str, Any] = {"not_before": TODAY - timedelta(hours=1), "not_after": TODAY + timedelta(hours=1)}
    issued = (ca or certificate_authority()).issue_client(**{**usual, **settings})
    return ClientCertificate(issued.certificate)


def authority(ca: CertificateAuthority | None = None, **settings: Any) -> Authority:
    """An authority of a configuration: it has ``ca``'s certificate and names callers by SPIFFE id."""
    usual: dict[str, Any] = {
        "name": "prod",
        "anchors": FixedAnchors([x509.load_pem_x509_certificate((ca or certificate_authority()).pem)]),
        "prefix": "prod:",
        "subject_from": "spiffe",
        "trust_domains": frozenset({"prod.example.org"}),
    }
    return Authority(**{**usual, **settings})


def certificates(**settings: Any) -> CertificateAuthenticator:
    """An authenticator with the one authority of :func:`authority`."""
    return CertificateAuthenticator([authority(**settings)])


def refusal(authenticator: Any, credential: Credential | str, now: float = NOW) -> Reason:
    """The reason for which ``credential`` is refused; fails the test if it is not."""
    shown = BearerToken(credential) if isinstance(credential, str) else credential
    with pytest.raises(AuthenticationError) as caught:
        authenticator.authenticate(shown, now)
    return caught.value.reason
