"""CertificateAuthenticator: proves client certificates, each against the authorities that are configured.

The TLS library has verified the certificate already, against one pool of authorities. That is not enough: which of
them vouches decides who the caller can be, so the leaf is verified again, authority by authority.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning

from authz.authn.authority import Authority
from authz.authn.background import WatchedFile
from authz.authn.base import Principal, PrincipalKind
from authz.authn.certificate_names import read_names
from authz.authn.keys import algorithms_of
from authz.authn.memory import Memory
from authz.authn.revocation import Revocations
from authz.credentials import ClientCertificate, Credential
from authz.errors import AuthenticationError
from authz.reason import Reason

PEM_BYTES_LIMIT: Final = 64 * 1024
DEFAULT_REMEMBERED: Final = 10_000
_SHOWN_LIMIT: Final = 8
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,  # where warnings are errors
)


@dataclass(frozen=True, slots=True, eq=False)
class _Proven:
    principal: Principal
    chain: Sequence[x509.Certificate]
    authority: Authority
    anchors: Sequence[x509.Certificate]
    begin: float
    end: float


class CertificateAuthenticator:
    """Proves the client certificates of its authorities.

    A proven certificate is remembered by its bytes until its authority's own certificates are others, and the same
    principal is returned for it; that it is still valid is checked each time.

    Args:
        authorities: in the order in which they are tried. The first that vouches for a certificate decides: if it
            refuses the name in it, no other is asked.
        remembered: how many proven certificates are remembered, at most.
        revocations: what is revoked at the moment; None: nothing but what an authority's own list names.
    """

    def __init__(
        self,
        authorities: Iterable[Authority],
        *,
        remembered: int = DEFAULT_REMEMBERED,
        revocations: WatchedFile[Revocations] | None = None,
    ) -> None:
        self.authorities = tuple(authorities)
        self._revocations = revocations
        self._proven: Memory[bytes, _Proven] = Memory(remembered)

    def remembers(self, certificate: ClientCertificate) -> bool:
        """Whether ``certificate`` was proven and is not forgotten. It may have expired since: this is no proof."""
        return certificate.pem in self._proven

    @property
    def memory(self) -> Memory[bytes, _Proven]:
        """What is remembered, for metrics."""
        return self._proven

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """Prove a :class:`ClientCertificate`. See :class:`authz.authn.base.Authenticator`."""
        if not isinstance(credential, ClientCertificate):
            return None
        proven = self._proven.get(credential.pem)
        if proven is None or proven.authority.anchors.value is not proven.anchors:
            proven = self._prove(credential.pem, now)
            self._proven.put(credential.pem, proven)
        _check_validity(proven.begin, proven.end, now)
        if proven.authority.crls is not None:
            proven.authority.crls.value.check(proven.chain, now)
        if self._revocations is not None:
            self._revocations.value.check(proven.principal)
        return proven.principal

    def _prove(self, pem: bytes, now: float) -> _Proven:
        leaf, *shown = read_certificates(pem)
        _check_validity(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp(), now)
        try:
            algorithms_of(leaf.public_key())
        except ValueError as exc:
            # The verifier looks at the keys that sign; the one that the caller proves itself by is looked at here.
            raise AuthenticationError(Reason.CERTIFICATE_KEY_WEAK, f"the certificate's key {exc}") from None
        missing = []
        for authority in self.authorities:
            anchors = authority.anchors.value
            chain = authority.chain(leaf, shown, anchors, now) if anchors else None
            if chain is not None:
                break
            if not anchors:
                missing.append(authority.name)
        else:
            if missing:
                detail = f"there are no certificates of {', '.join(missing)}, and no other authority vouches"
                raise AuthenticationError(Reason.KEYS_UNAVAILABLE, detail)
            detail = "no configured authority vouches for the certificate"
            raise AuthenticationError(Reason.CERTIFICATE_UNTRUSTED, detail)
        subject, attributes = authority.subject(read_names(leaf))
        end = min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
        begin = max(certificate.not_valid_before_utc.timestamp() for certificate in chain)
        principal = Principal(
            kind=PrincipalKind.CERTIFICATE,
            issuer=authority.name,
            subject=subject,
            prefix=authority.prefix,
            expires_at=end,
            attributes=MappingProxyType(dict(attributes)),
            fingerprint=leaf.fingerprint(SHA256()).hex(),
        )
        return _Proven(principal, chain, authority, anchors, begin, end)


def read_certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates in ``pem``: a caller's own, and whatever else it showed.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED.
    """
    if len(pem) > PEM_BYTES_LIMIT:
        raise _malformed(f"the certificate is larger than {PEM_BYTES_LIMIT} bytes")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        for certificate in certificates:
            certificate.public_key()
            _ = certificate.extensions, certificate.signature_hash_algorithm
            if certificate.serial_number <= 0:
                raise ValueError("RFC 5280 has none that is not positive")
    except _UNREADABLE as exc:
        raise _malformed(f"the certificate cannot be read: {type(exc).__name__}") from None
    if len(certificates) > _SHOWN_LIMIT:
        raise _malformed(f"{len(certificates)} certificates were shown, more than {_SHOWN_LIMIT}")
    return certificates


def _check_validity(begin: float, end: float, now: float) -> None:
    if now > end:
        raise AuthenticationError(Reason.CERTIFICATE_EXPIRED, f"the certificate expired {now - end:.0f} s ago")
    if now < begin:
        detail = f"the certificate is not good before {begin - now:.0f} s from now"
        raise AuthenticationError(Reason.CERTIFICATE_NOT_YET_VALID, detail)


def _malformed(detail: str) -> AuthenticationError:
    return AuthenticationError(Reason.CERTIFICATE_MALFORMED, detail)
