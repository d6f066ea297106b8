"""Credentials of an issuer and an authority that exist only in a test: keys, tokens, certificates.

minter = TokenMinter(issuer="https://issuer.test", audience="orders")
minter.write_jwks(tmp_path / "jwks.json")
token = minter.mint(sub="alice", groups=["admins"])

authority = CertificateAuthority()
client = authority.issue_client(spiffe_id="spiffe://test/ns/orders/sa/worker")
"""

from __future__ import annotations

import functools
import ipaddress
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from jwt.algorithms import get_default_algorithms

from authz.authn import base64url

_ALGORITHMS = get_default_algorithms()
_CURVES: Mapping[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_SKEW = timedelta(minutes=5)


class SigningKey:
    """A private key and the algorithm that it signs with.

    Args:
        algorithm: RS256, ES256, EdDSA, ...
        key_id: the ``kid``; None: the key and its tokens have none.
    """

    def __init__(self, algorithm: str = "ES256", key_id: str | None = "test-key") -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self.private_key: Any
        if algorithm in _CURVES:
            self.private_key = ec.generate_private_key(_CURVES[algorithm])
        elif algorithm == "EdDSA":
            self.private_key = ed25519.Ed25519PrivateKey.generate()
        elif algorithm.startswith(("RS", "PS")):
            self.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            raise ValueError(f"no test keys are made for {algorithm!r}")

    @classmethod
    @functools.cache
    def shared(cls, algorithm: str = "ES256", key_id: str | None = "test-key") -> SigningKey:
        """A key that is made once in the life of the process: an RSA key takes some 100 ms to make."""
        return cls(algorithm, key_id)

    def sign(self, data: bytes) -> bytes:
        """The signature for ``data``."""
        return _ALGORITHMS[self.algorithm].sign(data, self.private_key)

    def jwk(self) -> dict[str, Any]:
        """The public half as a JSON web key."""
        public: dict[str, Any] = _ALGORITHMS[self.algorithm].to_jwk(self.private_key.public_key(), as_dict=True)
        public.pop("key_ops", None)
        named = {} if self.key_id is None else {"kid": self.key_id}
        return {**public, **named, "use": "sig", "alg": self.algorithm}

    def private_jwk(self) -> dict[str, Any]:
        """Both halves as a JSON web key, for a test's own issuer."""
        private: dict[str, Any] = _ALGORITHMS[self.algorithm].to_jwk(self.private_key, as_dict=True)
        private.pop("key_ops", None)
        return {**private, **self.jwk()}

    def public_pem(self) -> bytes:
        """The public half in PEM."""
        pem: bytes = self.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem


class TokenMinter:
    """Makes tokens of one issuer.

    Args:
        issuer: the ``iss`` of its tokens.
        audience: the ``aud``.
        subject: the ``sub``, unless a token is given another.
        key: what signs; by default a shared ES256 key.
        lifetime: seconds from ``iat`` to ``exp``.
    """

    def __init__(
        self,
        issuer: str = "https://issuer.test",
        audience: str = "test",
        subject: str = "alice",
        key: SigningKey | None = None,
        lifetime: float = 300.0,
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self.subject = subject
        self.key = key or SigningKey.shared()
        self.lifetime = lifetime

    def mint(self, *, header: Mapping[str, object] | None = None, now: float | None = None, **claims: object) -> str:
        """A signed token.

        Args:
            header: members that are added to the header; a member that is None is left out.
            now: the time at which it is issued, in seconds since the epoch; by default the time by the clock.
            claims: what is added to ``iss``, ``sub``, ``aud``, ``iat`` and ``exp``; a claim that is None is left out.
        """
        issued = int(time.time() if now is None else now)
        claims_set: dict[str, object] = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "iat": issued,
            "exp": issued + int(self.lifetime),
            **claims,
        }
        members: dict[str, object] = {
            "alg": self.key.algorithm,
            "typ": "at+jwt",
            "kid": self.key.key_id,
            **(header or {}),
        }
        return self.sign(_json(members), _json(claims_set))

    def sign(self, header: bytes, payload: bytes) -> str:
        """A token with exactly these bytes as its header and payload, for tests of what must be refused."""
        signed = base64url.encode(header) + b"." + base64url.encode(payload)
        return (signed + b"." + base64url.encode(self.key.sign(signed))).decode("ascii")

    def jwks(self) -> dict[str, Any]:
        """The issuer's key set."""
        return {"keys": [self.key.jwk()]}

    def write_jwks(self, path: Path) -> Path:
        """Write the issuer's key set to the file ``path``, and return that."""
        path.write_text(json.dumps(self.jwks()), encoding="utf-8")
        return path


def _json(members: Mapping[str, object]) -> bytes:
    present = {name: value for name, value in members.items() if value is not None}
    return json.dumps(present, separators=(",", ":")).encode("utf-8")


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate with its key and the authority's certificate, each in PEM."""

    certificate: bytes
    key: bytes
    ca: bytes

    @property
    def x509(self) -> x509.Certificate:
        """The certificate as an object."""
        return x509.load_pem_x509_certificate(self.certificate)


class CertificateAuthority:
    """Issues certificates. Its key is on the curve P-256, which takes no time to make.

    Args:
        name: the common name of its own certificate.
        parent: the authority that issues this one's certificate; None: itself.
        not_before, not_after: validity of its own certificate; by default ten years, from five minutes ago.
    """

    def __init__(
        self,
        name: str = "Test CA",
        *,
        parent: CertificateAuthority | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> None:
        self.private_key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        begin = not_before or datetime.now(UTC) - _SKEW
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        signer = parent or self
        public_key = self.private_key.public_key()
        self.x509 = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(not_after or begin + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.private_key.public_key()), critical=False
            )
            .sign(signer.private_key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """Its own certificate in PEM."""
        return self.x509.public_bytes(serialization.Encoding.PEM)

    def issue_client(
        self,
        common_name: str | None = None,
        *,
        spiffe_id: str | None = None,
        dns: Iterable[str] = (),
        emails: Iterable[str] = (),
        uris: Iterable[str] = (),
        attributes: Iterable[tuple[ObjectIdentifier, str]] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        usages: Iterable[ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    ) -> IssuedCertificate:
        """A certificate for a TLS client.

        Args:
            common_name: the subject's CN.
            spiffe_id: a URI among the alternative names, before ``uris``.
            dns, emails, uris: more alternative names.
            attributes: more attributes of the subject, e.g. ``[(NameOID.ORGANIZATION_NAME, "Example Corp")]``.
            not_before, not_after: validity; by default one day, from five minutes ago.
            usages: extended key usages; none: the extension is left out.
        """
        named = [] if common_name is None else [(NameOID.COMMON_NAME, common_name)]
        alternative: list[x509.GeneralName] = [
            *(x509.UniformResourceIdentifier(uri) for uri in ([] if spiffe_id is None else [spiffe_id])),
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(name) for name in dns),
            *(x509.RFC822Name(address) for address in emails),
        ]
        return self._issue([*named, *attributes], alternative, usages, not_before, not_after)

    def issue_server(self, hosts: Iterable[str] = ("localhost", "127.0.0.1", "::1")) -> IssuedCertificate:
        """A certificate for a TLS server at ``hosts``: names or addresses."""
        alternative: list[x509.GeneralName] = []
        for host in hosts:
            try:
                alternative.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                alternative.append(x509.DNSName(host))
        return self._issue(
            [(NameOID.COMMON_NAME, "server")], alternative, [ExtendedKeyUsageOID.SERVER_AUTH], None, None
        )

    def _issue(
        self,
        subject: Iterable[tuple[ObjectIdentifier, str]],
        alternative: list[x509.GeneralName],
        usages: Iterable[ObjectIdentifier],
        not_before: datetime | None,
        not_after: datetime | None,
    ) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        begin = not_before or datetime.now(UTC) - _SKEW
        attributes = [x509.NameAttribute(oid, value) for oid, value in subject]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(not_after or begin + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key()), critical=False
            )
        )
        if alternative:
            # A certificate without a subject must have its alternative names marked as critical (RFC 5280, 4.2.1.6).
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=not attributes)
        usages = list(usages)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self.private_key, hashes.SHA256())
        return IssuedCertificate(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            self.pem,
        )
