"""The ``authn`` section of the configuration: who can prove callers, how, and which roles that gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from cryptography.x509 import Certificate

from authz.authn.authority import SUBJECT_FROM, Authority
from authz.authn.authority_files import read_authority_file
from authz.authn.background import WatchedFile
from authz.authn.base import Authenticator
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.certificate_names import ATTRIBUTES, is_trust_domain
from authz.authn.chain import DEFAULT_STARTUP, Authentication, Combine
from authz.authn.crl import read_crl_file
from authz.authn.issuer import SUBJECT, Issuer
from authz.authn.jwt import DEFAULT_REMEMBERED, DEFAULT_TOKEN_BYTES, TokenAuthenticator
from authz.authn.keys import ALGORITHMS
from authz.authn.plugin import FirstAuthenticator, NamedAuthenticator
from authz.authn.revocation import RevocationReader, Revocations
from authz.authn.subject import is_visible
from authz.call import METHOD_RULE, is_method
from authz.claims.base import ClaimMapper
from authz.claims.mapper import MapperByIssuer
from authz.config.anchors import read_anchors
from authz.config.conditions import read_claim, read_conditions
from authz.config.keys import Watch, from_file, read_keys
from authz.config.plugins import AUTHENTICATORS, make_plugin
from authz.config.roles import read_field, read_mapper
from authz.document import Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,63}")
_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_DAY: Final = 86_400.0
_PROVERS: Final = ("issuers", "mtls", "authenticators")
T = TypeVar("T")
_Mapped: TypeAlias = tuple[T, ClaimMapper]


class Authn(NamedTuple):
    """What the section becomes: ``authentication.authenticate(...)`` gives the principal that ``mapper.map`` maps."""

    authentication: Authentication
    mapper: ClaimMapper


class _Limits(NamedTuple):
    """How exact clocks and how short-lived tokens must be, in seconds."""

    leeway: float
    max_lifetime: float

    def read(self, section: Section) -> _Limits:
        """What ``section`` says, and what these limits say where it says nothing."""
        return _Limits(
            section.duration("leeway", self.leeway, most=300.0),
            section.duration("max_lifetime", self.max_lifetime, least=1.0, most=366 * _DAY),
        )


class _Names:
    """What may be there only once in the whole section, and where it was there first."""

    def __init__(self) -> None:
        self._mappers: dict[str, ClaimMapper] = {}
        self._prefixes: dict[str, str] = {}

    def take(self, section: Section, prefix_from: Section) -> tuple[str, str]:
        """The name of the issuer or authority, and the prefix of its subjects."""
        name = section.text("name")
        if not _NAME.fullmatch(name):
            raise section.refuse("name", f"`{name}` cannot be a name", "write letters, digits, '_', '.' and '-'")
        if name in self._prefixes.values():
            raise section.refuse("name", f"`{name}` is the name of another issuer or authority", "give each its own")
        prefix = prefix_from.text("prefix", f"{name}:")
        if not _PREFIX.fullmatch(prefix):
            remedy = f'write letters, digits and _ . : / @ -, e.g. "{name}:"'
            raise prefix_from.refuse("prefix", f"`{prefix}` cannot be a prefix", remedy)
        for other, owner in self._prefixes.items():
            if prefix.startswith(other) or other.startswith(prefix):
                raise prefix_from.refuse(
                    "prefix",
                    f"the prefix `{prefix}` and `{other}` of `{owner}` begin alike: one could name the other's callers",
                    f'write a prefix that ends where no other goes on, e.g. "{name}:"',
                )
        self._prefixes[prefix] = name
        return name, prefix


def read_authn(section: Section) -> Authn:
    """Read the section ``authn``.

    Files that it names are read now. Nothing is started: ``Authn.authentication.start()`` does that.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    usual = _Limits(30.0, _DAY).read(section)
    max_bytes = section.integer("max_token_bytes", DEFAULT_TOKEN_BYTES, least=256, most=65_536)
    remembered = section.integer("remembered", DEFAULT_REMEMBERED, least=1, most=1_000_000)
    names = _Names()
    watch = Watch()
    revocations = None
    if "revocations" in section:
        revocations = watch.file(section, "revocations", RevocationReader(read_provers(section)))
    mappers: dict[str, ClaimMapper] = {}
    issuers: list[Issuer] = []
    for entry in section.sections("issuers", ()):
        issuer, mapper = _read_issuer(entry, names, watch, usual)
        if any(issuer.issuer == other.issuer for other in issuers):
            raise entry.refuse("issuer", f"`{issuer.issuer}` is configured twice", "keep one, or join their audiences")
        issuers.append(issuer)
        mappers[issuer.name] = mapper
        entry.close()
    authorities: list[Authority] = []
    for entry in section.sections("mtls", ()):
        authority, mapper = _read_authority(entry, names, watch, authorities)
        authorities.append(authority)
        mappers[authority.name] = mapper
        entry.close()
    proves: dict[str, list[Authenticator]] = {"token": [], "certificate": []}
    for entry in section.sections("authenticators", ()):
        own, mapper = _read_own(entry, names, revocations)
        proves[entry.choice("proves", proves)].append(own)
        mappers[own.name] = mapper
        entry.close()
    if issuers:
        proves["token"].append(
            TokenAuthenticator(issuers, max_token_bytes=max_bytes, remembered=remembered, revocations=revocations)
        )
    if authorities:
        proves["certificate"].append(
            CertificateAuthenticator(authorities, remembered=remembered, revocations=revocations)
        )
    if not any(proves.values()):
        raise section.refuse(
            "", "nobody can be proven: there are no `issuers`, `mtls` or `authenticators`", "configure one of them"
        )
    authentication = Authentication(
        _first(proves["token"]),
        _first(proves["certificate"]),
        combine=_read_combine(section, both=all(proves.values())),
        anonymous=_read_anonymous(section),
        forwarders=_read_forwarders(section, authorities),
        background=watch.all(),
        startup=section.duration("startup", DEFAULT_STARTUP, most=300.0),
    )
    section.close()
    return Authn(authentication, MapperByIssuer(mappers, remembered=remembered))


def read_provers(section: Section) -> dict[str, str]:
    """Whoever can prove somebody: each issuer, authority and authenticator by its name, with its prefix.

    Raises:
        ConfigError: a name or a prefix cannot be used.
    """
    names = _Names()
    entries = [entry for key in _PROVERS for entry in section.sections(key, ())]
    principals = [entry.section("principal", None) for entry in entries]
    return dict(names.take(entry, own or entry) for entry, own in zip(entries, principals, strict=True))


def _first(authenticators: Sequence[Authenticator]) -> Authenticator | None:
    if len(authenticators) > 1:
        return FirstAuthenticator(authenticators)
    return authenticators[0] if authenticators else None


def _read_own(
    section: Section, names: _Names, revocations: WatchedFile[Revocations] | None
) -> _Mapped[NamedAuthenticator]:
    name, prefix = names.take(section, section)
    inner = make_plugin(section, AUTHENTICATORS, name, prefix)
    mapper = read_mapper(section, lambda entry: read_claim(entry, "claim"))
    return NamedAuthenticator(name, prefix, inner, revocations), mapper


def _read_combine(section: Section, *, both: bool) -> Combine | None:
    if not both:
        if "combine" in section:
            raise section.refuse(
                "combine", "`combine` needs both tokens and certificates to be credentials", "remove it"
            )
        return None
    if "combine" not in section:
        raise section.refuse(
            "",
            f"`{section.name}.combine` is missing: both tokens and certificates are credentials",
            "write `combine: require_both`, or `jwt` or `mtls` for who the caller is if both are shown",
        )
    return Combine(section.choice("combine", [rule.value for rule in Combine]))


def _read_anonymous(section: Section) -> Sequence[str]:
    anonymous = section.section("anonymous", None)
    if anonymous is None:
        return ()
    methods = anonymous.texts("methods")
    for method in methods:
        if not is_method(method):
            raise anonymous.refuse("methods", f"`{method}` is not a gRPC method", f"write {METHOD_RULE}")
    anonymous.close()
    return methods


def _read_forwarders(section: Section, authorities: Sequence[Authority]) -> Sequence[str]:
    forwarded = section.section("forwarded", None)
    if forwarded is None:
        return ()
    peers = forwarded.texts("peers")
    for peer in peers:
        if not any(peer.startswith(f"user:{authority.prefix}") for authority in authorities):
            raise forwarded.refuse(
                "peers",
                f"`{peer}` is no principal of `mtls`",
                "write who the proxy is, as in a record: user:<prefix><subject>",
            )
    forwarded.close()
    return peers


def _read_issuer(section: Section, names: _Names, watch: Watch, usual: _Limits) -> _Mapped[Issuer]:
    principal = section.section("principal", None)
    name, prefix = names.take(section, principal or section)
    subject = SUBJECT if principal is None else read_claim(principal, "claim", "sub")
    if principal is not None:
        principal.close()
    url = section.text("issuer")
    if not is_visible(url) or any(c.isspace() for c in url):
        raise section.refuse("issuer", "`issuer` has a blank or a character that cannot be seen")
    algorithms = section.texts("algorithms")
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            known = ", ".join(sorted(ALGORITHMS))
            raise section.refuse("algorithms", f"`{algorithm}` is not an algorithm for tokens", f"known here: {known}")
    types = section.texts("typ", ("at+jwt", "JWT"))
    for kind in types:
        if not _TYPE.fullmatch(kind.lower()):
            remedy = "write it as in a token's header, without `application/`, e.g. at+jwt"
            raise section.refuse("typ", f"`{kind}` cannot be a token's `typ`", remedy)
    limits = usual.read(section)
    issuer = Issuer(
        name=name,
        issuer=url,
        audiences=frozenset(section.texts("audiences")),
        algorithms=frozenset(algorithms),
        keys=read_keys(section, name, url, frozenset(algorithms), watch),
        prefix=prefix,
        types=frozenset(kind.lower() for kind in types),
        type_required=not section.boolean("allow_missing_typ", False),
        subject=subject,
        conditions=read_conditions(section, "require", lambda entry: read_claim(entry, "claim")),
        leeway=limits.leeway,
        max_lifetime=limits.max_lifetime,
    )
    return issuer, read_mapper(section, lambda entry: read_claim(entry, "claim"))


def _read_authority(section: Section, names: _Names, watch: Watch, before: Sequence[Authority]) -> _Mapped[Authority]:
    name, prefix = names.take(section, section)
    subject_from = section.choice("map", SUBJECT_FROM)
    attribute = section.choice("attribute", ATTRIBUTES) if subject_from == "attribute" else ""
    trust_domains = section.texts("trust_domains") if subject_from == "spiffe" else ()
    anchors = read_anchors(section, name, trust_domains, watch)
    for other in before:
        if any(certificate in other.anchors.value for certificate in anchors.value):
            raise section.refuse("ca_file", f"it holds a certificate of the authority `{other.name}` also")
    intermediates_file = section.file("intermediates_file", None)
    for domain in trust_domains:
        if not is_trust_domain(domain):
            raise section.refuse(
                "trust_domains", f"`{domain}` is not a trust domain", "write it as in spiffe://<it>/path"
            )
        for other in before:
            if domain in other.trust_domains:
                raise section.refuse("trust_domains", f"`{domain}` belongs to the authority `{other.name}`")
    intermediates: Sequence[Certificate] = ()
    if intermediates_file is not None:
        intermediates = from_file(section, "intermediates_file", lambda: read_authority_file(intermediates_file))
    crls = None
    if "crl_file" in section:
        crls = watch.file(section, "crl_file", lambda path: read_crl_file(path, [*anchors.value, *intermediates]))
    authority = Authority(
        name=name,
        anchors=anchors,
        intermediates=intermediates,
        prefix=prefix,
        subject_from=subject_from,
        attribute=attribute,
        trust_domains=frozenset(trust_domains),
        require=_read_require(section),
        conditions=read_conditions(section, "conditions", read_field),
        crls=crls,
        usage_required=not section.boolean("allow_missing_client_usage", False),
    )
    return authority, read_mapper(section, read_field)


def _read_require(section: Section) -> dict[str, str]:
    required = section.section("require", None)
    if required is None:
        return {}
    values = {name: required.text(name) for name in ATTRIBUTES if name in required}
    required.close(ATTRIBUTES)
    return values
