"""CertificateNames: what a certificate says of its subject, read attribute by attribute and never from a DN's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import NameOID

from authz.authn.subject import is_visible
from authz.errors import AuthenticationError
from authz.reason import Reason

ATTRIBUTES: Mapping[str, x509.ObjectIdentifier] = MappingProxyType(
    {
        "CN": NameOID.COMMON_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "C": NameOID.COUNTRY_NAME,
        "ST": NameOID.STATE_OR_PROVINCE_NAME,
        "L": NameOID.LOCALITY_NAME,
        "UID": NameOID.USER_ID,
        "DC": NameOID.DOMAIN_COMPONENT,
        "SERIALNUMBER": NameOID.SERIAL_NUMBER,
        "EMAIL": NameOID.EMAIL_ADDRESS,
    }
)
"""The subject attributes that a configuration can name."""

_BY_OID = {oid: name for name, oid in ATTRIBUTES.items()}
_VALUES_LIMIT = 100
_TRUST_DOMAIN = r"[a-z0-9][a-z0-9._-]{0,254}"
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+"
_SPIFFE = re.compile(rf"spiffe://(?P<domain>{_TRUST_DOMAIN})(?P<path>(?:/{_SEGMENT})+)")


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """The names in a certificate.

    Attributes:
        subject: values by attribute, for the attributes of :data:`ATTRIBUTES`.
        dns: DNS names among the subject alternative names.
        uris: URIs among them.
        emails: e-mail addresses among them.
    """

    subject: Mapping[str, tuple[str, ...]]
    dns: tuple[str, ...]
    uris: tuple[str, ...]
    emails: tuple[str, ...]

    def only(self, kind: str, values: tuple[str, ...]) -> str:
        """The one value in ``values``; ``kind`` is for the message.

        Raises:
            AuthenticationError: CERTIFICATE_SUBJECT_REFUSED: there is none, or more than one.
        """
        if len(values) != 1:
            raise refused(f"the certificate has {len(values)} {kind}, not exactly one")
        return values[0]


def read_names(certificate: x509.Certificate) -> CertificateNames:
    """The names in ``certificate``.

    Raises:
        AuthenticationError: CERTIFICATE_MALFORMED: a name cannot be read, or has a character that cannot be seen.
    """
    subject: dict[str, tuple[str, ...]] = {}
    try:
        for attribute in certificate.subject:
            name = _BY_OID.get(attribute.oid)
            if name is not None:
                value = attribute.value
                subject[name] = (*subject.get(name, ()), value if isinstance(value, str) else value.decode("utf-8"))
        try:
            alternative: x509.SubjectAlternativeName | None = certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            alternative = None
        names = CertificateNames(
            subject=MappingProxyType(subject),
            dns=() if alternative is None else tuple(alternative.get_values_for_type(x509.DNSName)),
            uris=() if alternative is None else tuple(alternative.get_values_for_type(x509.UniformResourceIdentifier)),
            emails=() if alternative is None else tuple(alternative.get_values_for_type(x509.RFC822Name)),
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise AuthenticationError(
            Reason.CERTIFICATE_MALFORMED, f"a name cannot be read: {type(exc).__name__}"
        ) from None
    every = [*(value for values in subject.values() for value in values), *names.dns, *names.uris, *names.emails]
    if len(every) > _VALUES_LIMIT:
        raise AuthenticationError(Reason.CERTIFICATE_MALFORMED, f"there are more than {_VALUES_LIMIT} names")
    if not all(value and is_visible(value) for value in every):
        raise AuthenticationError(
            Reason.CERTIFICATE_MALFORMED, "a name is empty or has a character that cannot be seen"
        )
    return names


def read_spiffe_id(uris: tuple[str, ...]) -> tuple[str, str, str]:
    """The SPIFFE id that is the only URI of a certificate.

    Returns:
        the id, its trust domain and its path (which begins with ``/``).

    Raises:
        AuthenticationError: CERTIFICATE_SUBJECT_REFUSED: there is no URI, or more than one, or it is not
            ``spiffe://trust-domain/path`` with a lower-case trust domain, no port, query, fragment, escape, empty
            segment, ``.`` or ``..``.
    """
    if len(uris) != 1:
        raise refused(f"the certificate has {len(uris)} URIs; an X.509 SVID has exactly one")
    match = _SPIFFE.fullmatch(uris[0])
    if match is None:
        raise refused("the certificate's URI is not spiffe://trust-domain/path")
    return uris[0], match["domain"], match["path"]


def is_trust_domain(text: str) -> bool:
    """Whether ``text`` can be a SPIFFE trust domain."""
    return re.fullmatch(_TRUST_DOMAIN, text) is not None


def refused(detail: str) -> AuthenticationError:
    """A CERTIFICATE_SUBJECT_REFUSED error with ``detail``."""
    return AuthenticationError(Reason.CERTIFICATE_SUBJECT_REFUSED, detail)
