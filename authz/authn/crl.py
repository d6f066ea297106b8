"""Crls: the revocation lists of one authority, from its file (RFC 5280, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtensionOID

from authz.authn.key_files import read_bytes
from authz.errors import AuthenticationError, KeyFileError
from authz.reason import Reason

_BYTES_LIMIT: Final = 64 * 1024 * 1024
_END: Final = b"-----END X509 CRL-----"
_SIGNERS: Final = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
# A list with one of these says something about a part of the certificates, or about another list.
_PARTIAL: Final = (ExtensionOID.DELTA_CRL_INDICATOR, ExtensionOID.ISSUING_DISTRIBUTION_POINT)


@dataclass(frozen=True, slots=True, eq=False)
class Crls:
    """Revocation lists by issuer. Compared by identity.

    Attributes:
        lists: the serial numbers that an issuer has revoked, by its name.
        good_until: the earliest time at which one of the lists is out of date, in seconds since the epoch.
    """

    lists: Mapping[x509.Name, frozenset[int]]
    good_until: float

    def check(self, chain: Sequence[x509.Certificate], now: float) -> None:
        """Refuse a chain with a revoked certificate in it; the last is the anchor, which no list is about.

        Raises:
            AuthenticationError: CERTIFICATE_REVOKED, or CERTIFICATE_REVOCATION_UNKNOWN: there is no list of one of the
                issuers, or it is out of date.
        """
        if now > self.good_until:
            detail = f"the revocation list is out of date for {now - self.good_until:.0f} s"
            raise AuthenticationError(Reason.CERTIFICATE_REVOCATION_UNKNOWN, detail)
        for certificate in chain[:-1]:
            revoked = self.lists.get(certificate.issuer)
            if revoked is None:
                detail = "there is no revocation list of the certificate's issuer"
                raise AuthenticationError(Reason.CERTIFICATE_REVOCATION_UNKNOWN, detail)
            if certificate.serial_number in revoked:
                raise AuthenticationError(
                    Reason.CERTIFICATE_REVOKED, "the certificate is on its issuer's revocation list"
                )


def read_crl_file(path: Path, issuers: Sequence[x509.Certificate]) -> Crls:
    """The revocation lists in the file ``path``: one or more in PEM, or one in DER.

    Args:
        path: the file.
        issuers: the authority's certificates and intermediates; each list must be signed by one of them.

    Raises:
        KeyFileError: a list cannot be read, is signed by nobody in ``issuers``, has no ``nextUpdate``, or is partial.
    """
    data = read_bytes(path, _BYTES_LIMIT)
    parts = [part + _END for part in data.split(_END)[:-1]] if b"-----BEGIN" in data else [data]
    lists: dict[x509.Name, frozenset[int]] = {}
    ends: list[float] = []
    for part in parts:
        try:
            crl = x509.load_pem_x509_crl(part.strip()) if part.endswith(_END) else x509.load_der_x509_crl(part)
            partial = any(extension.critical or extension.oid in _PARTIAL for extension in crl.extensions)
            signed = any(issuer.subject == crl.issuer and _signed(crl, issuer) for issuer in issuers)
            serials = frozenset(entry.serial_number for entry in crl)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as exc:
            raise KeyFileError.at(path, f"is not revocation lists: {type(exc).__name__}") from None
        if partial:
            raise KeyFileError.at(path, "a revocation list is about a part of the certificates only", "use a whole one")
        if not signed:
            raise KeyFileError.at(path, f"the list of {crl.issuer.rfc4514_string()!r} is not signed by the authority")
        if crl.issuer in lists:
            raise KeyFileError.at(path, "there are two lists of one issuer", "keep the newest")
        if crl.next_update_utc is None:
            raise KeyFileError.at(path, "a revocation list does not say when the next one is due (nextUpdate)")
        lists[crl.issuer] = serials
        ends.append(crl.next_update_utc.timestamp())
    if not lists:
        raise KeyFileError.at(path, "has no revocation list")
    return Crls(lists, min(ends))


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, _SIGNERS) and crl.is_signature_valid(key)
