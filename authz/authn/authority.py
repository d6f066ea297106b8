"""Authority: a certificate authority that may prove callers, and which callers it may prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from authz.authn.background import WatchedFile
from authz.authn.certificate_names import CertificateNames, read_spiffe_id, refused
from authz.authn.conditions import Condition
from authz.authn.crl import Crls
from authz.authn.subject import subject_problem
from authz.errors import AuthenticationError
from authz.reason import Reason

_CHAIN_LIMIT: Final = 4
_AGNOSTIC: Final = Criticality.AGNOSTIC

Attributes = Mapping[str, object]
SubjectOf = Callable[["Authority", CertificateNames], tuple[str, dict[str, object]]]


def _spiffe(authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    spiffe_id, domain, path = read_spiffe_id(names.uris)
    if domain not in authority.trust_domains:
        raise refused(f"the trust domain {domain} does not belong to the authority {authority.name}")
    return spiffe_id, {"spiffe_id": spiffe_id, "trust_domain": domain, "path": path}


def _uri(_authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    return names.only("URIs", names.uris), {}


def _dns(_authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    return names.only("DNS names", names.dns), {}


def _email(_authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    return names.only("e-mail addresses", names.emails), {}


def _cn(_authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    return names.only("common names", names.subject.get("CN", ())), {}


def _attribute(authority: Authority, names: CertificateNames) -> tuple[str, dict[str, object]]:
    name = authority.attribute
    return names.only(f"{name} attributes", names.subject.get(name, ())), {}


SUBJECT_FROM: Final[Mapping[str, SubjectOf]] = {
    "spiffe": _spiffe,
    "uri": _uri,
    "dns": _dns,
    "email": _email,
    "cn": _cn,
    "attribute": _attribute,
}
"""What can name the caller: the one SPIFFE id, URI, DNS name, e-mail address, common name or subject attribute."""


class Anchors(Protocol):
    """Where an authority's own certificates come from; reading them never waits."""

    @property
    def value(self) -> Sequence[x509.Certificate]:
        """The certificates: the same object for as long as they are the same."""
        ...


@dataclass(frozen=True, slots=True)
class FixedAnchors:
    """Certificates that never change."""

    value: Sequence[x509.Certificate]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authority:
    """A certificate authority.

    Attributes:
        name: its name in the configuration, in principals and in records.
        anchors: has its own certificates as ``value``: the only ones that its callers' chains may end at. An empty one
            means that there are none at the moment. Compared by identity, like the value of a :class:`WatchedFile`.
        intermediates: certificates between an anchor and a caller, which a caller need not show.
        prefix: what its subjects begin with in policy; no issuer's or authority's prefix begins with another's.
        subject_from: a key of :data:`SUBJECT_FROM`.
        attribute: for ``subject_from="attribute"``: a key of :data:`authz.authn.certificate_names.ATTRIBUTES`.
        trust_domains: for ``subject_from="spiffe"``: the trust domains that this authority may speak for.
        require: subject attributes that must have exactly this value, e.g. ``{"O": "Example Corp"}``.
        conditions: what must hold of the names in a certificate.
        crls: the revocation lists; None: there are none, and nothing is revoked by them.
        usage_required: whether a certificate must say that it is for TLS clients; if False, it may say nothing.
    """

    name: str
    anchors: Anchors
    prefix: str
    subject_from: str
    intermediates: Sequence[x509.Certificate] = ()
    attribute: str = ""
    trust_domains: frozenset[str] = frozenset()
    require: Mapping[str, str] = field(default_factory=dict)
    usage_required: bool = True
    conditions: Sequence[Condition] = ()
    crls: WatchedFile[Crls] | None = None

    def chain(
        self,
        leaf: x509.Certificate,
        shown: Sequence[x509.Certificate],
        anchors: Sequence[x509.Certificate],
        now: float,
    ) -> list[x509.Certificate] | None:
        """The chain from ``leaf`` to one of this authority's certificates, good at ``now``; None: there is none.

        Args:
            leaf: the caller's certificate.
            shown: further certificates that the caller showed.
            anchors: the authority's own certificates, at least one.
            now: seconds since the epoch.
        """
        verifier = (
            PolicyBuilder()
            .store(Store(list(anchors)))
            .time(datetime.fromtimestamp(now, UTC))
            .max_chain_depth(_CHAIN_LIMIT)
            .extension_policies(
                ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY if self.usage_required else _LENIENT_POLICY
            )
            .build_client_verifier()
        )
        try:
            return verifier.verify(leaf, [*self.intermediates, *shown]).chain
        except VerificationError:
            return None

    def subject(self, names: CertificateNames) -> tuple[str, Attributes]:
        """The caller's name, and what a claim rule may read of the certificate.

        Raises:
            AuthenticationError: CERTIFICATE_SUBJECT_REFUSED or CERTIFICATE_CONDITION_FAILED.
        """
        for name, value in self.require.items():
            if names.subject.get(name, ()) != (value,):
                raise refused(f"the subject's {name} is not exactly {value!r}")
        subject, special = SUBJECT_FROM[self.subject_from](self, names)
        problem = subject_problem(subject)
        if problem:
            raise refused(f"the certificate's {self.subject_from} name {problem}")
        attributes: dict[str, object] = {
            **{name: list(values) for name, values in names.subject.items()},
            "dns": list(names.dns),
            "uri": list(names.uris),
            "email": list(names.emails),
            **special,
        }
        for condition in self.conditions:
            if not condition.holds(attributes):
                detail = f"the authority {self.name} requires that {condition.text}"
                raise AuthenticationError(Reason.CERTIFICATE_CONDITION_FAILED, detail)
        return subject, attributes


def _client_usage(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("is not for TLS clients")


def _client_usage_if_any(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None:
        _client_usage(_policy, _certificate, usage)


# A certificate that has only a common name has no subject alternative names; everything else stays as it is required
# of certificates on the web.
_CA_POLICY: Final = ExtensionPolicy.webpki_defaults_ca()
_ANY_NAMES: Final = ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.SubjectAlternativeName, _AGNOSTIC, None)
_LEAF_POLICY: Final = _ANY_NAMES.require_present(x509.ExtendedKeyUsage, _AGNOSTIC, _client_usage)
_LENIENT_POLICY: Final = _ANY_NAMES.may_be_present(x509.ExtendedKeyUsage, _AGNOSTIC, _client_usage_if_any)
