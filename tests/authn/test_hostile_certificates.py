"""Hostile certificates: a table of what somebody might present, each with the reason for which it is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from authz.authn.certificate import CertificateAuthenticator
from authz.credentials import ClientCertificate
from authz.reason import Reason
from authz.testing import CertificateAuthority
from tests.authn.setting import NOW, TODAY, authority, certificate_authority, refusal

CA = certificate_authority()
STAGING = certificate_authority("Staging")
STRANGER = CertificateAuthority("Test CA", not_before=TODAY - timedelta(days=9), not_after=TODAY + timedelta(days=9))
OLD = CertificateAuthority("Old", parent=CA, not_before=TODAY - timedelta(days=9), not_after=TODAY - timedelta(days=1))
HOUR = timedelta(hours=1)
ID = "spiffe://prod.example.org/ns/orders/sa/worker"
KEY = ec.generate_private_key(ec.SECP256R1())
RSA_1024 = rsa.generate_private_key(65537, 1024)

MALFORMED = Reason.CERTIFICATE_MALFORMED
UNTRUSTED = Reason.CERTIFICATE_UNTRUSTED
SUBJECT = Reason.CERTIFICATE_SUBJECT_REFUSED

SPIFFE = CertificateAuthenticator(
    [
        authority(),
        authority(STAGING, name="staging", prefix="staging:", trust_domains=frozenset({"staging.example.org"})),
    ]
)
BY_CN = CertificateAuthenticator([authority(subject_from="cn", require={"O": "Example Corp"})])
BY_DNS = CertificateAuthenticator([authority(subject_from="dns")])
BY_EMAIL = CertificateAuthenticator([authority(subject_from="email")])
BY_URI = CertificateAuthenticator([authority(subject_from="uri")])
BY_UID = CertificateAuthenticator([authority(subject_from="attribute", attribute="UID")])

Name = tuple[ObjectIdentifier, str]
O_CORP: Name = (NameOID.ORGANIZATION_NAME, "Example Corp")


def forge(
    *,
    ca: CertificateAuthority = CA,
    names: Iterable[Name] = (),
    uris: Iterable[str] = (),
    san: Iterable[x509.GeneralName] = (),
    raw_san: bytes | None = None,
    key: Any = KEY,
    signer: Any = None,
    issuer: x509.Name | None = None,
    begin: datetime = TODAY - HOUR,
    end: datetime = TODAY + HOUR,
    usages: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    is_ca: bool | None = False,
    extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    digest: Any = None,
) -> bytes:
    """A certificate in PEM, with whatever is wrong with it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
        .issuer_name(issuer or ca.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private_key.public_key()), False)
    )
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
    alternative = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *san]
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), not tuple(names))
    if raw_san is not None:
        oid = x509.SubjectAlternativeName.oid
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, raw_san), not tuple(names))
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer or ca.private_key, digest or hashes.SHA256()).public_bytes(Encoding.PEM)


def san(*names: tuple[int, bytes]) -> bytes:
    """Alternative names in DER, whatever their bytes: (context tag, value)."""
    body = b"".join(bytes([0x80 | tag, len(value)]) + value for tag, value in names)
    return b"\x30" + (bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)])) + body


def spiffe(**settings: Any) -> bytes:
    return forge(**{"uris": [ID], **settings})


def cn(*values: str, **settings: Any) -> bytes:
    return forge(names=[O_CORP, *((NameOID.COMMON_NAME, value) for value in values)], **settings)


def broken(pem: bytes, word: str | None) -> bytes:
    """The certificate with one bit changed: in the first letter of ``word``, or in its signature."""
    der = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    der[-20 if word is None else der.index(word.encode())] ^= 1
    return armored(bytes(der))


def armored(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def without_version(pem: bytes) -> bytes:
    """The certificate with another version number, which no certificate has."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    at = der.index(b"\xa0\x03\x02\x01\x02") + 4
    return armored(der[:at] + b"\x07" + der[at + 1 :])


def resigned(tbs: bytes) -> bytes:
    """What the authority would have signed if it had been given these very bytes, in DER."""
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = CA.private_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    body = tbs + algorithm + bits
    length = len(body).to_bytes(1 if len(body) < 256 else 2, "big")
    return b"\x30" + bytes([0x80 | len(length)]) + length + body


def renamed(pem: bytes, old: bytes, new: bytes) -> bytes:
    """The certificate as the authority would have signed it with ``new``, of the same length, in place of ``old``."""
    tbs = x509.load_pem_x509_certificate(pem).tbs_certificate_bytes
    assert tbs.count(old) == 1
    assert len(old) == len(new)
    return armored(resigned(tbs.replace(old, new)))


GOOD = spiffe()
CLIENT_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

TABLE: list[tuple[str, CertificateAuthenticator, bytes, Reason]] = [
    # no certificate at all
    ("nothing", SPIFFE, b"", MALFORMED),
    ("a word", SPIFFE, b"certificate", MALFORMED),
    ("DER instead of PEM", SPIFFE, x509.load_pem_x509_certificate(GOOD).public_bytes(Encoding.DER), MALFORMED),
    ("empty PEM", SPIFFE, b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", MALFORMED),
    ("half a PEM", SPIFFE, GOOD[: len(GOOD) // 2], MALFORMED),
    ("a wrong byte in PEM", SPIFFE, GOOD.replace(b"A", b"\xff", 1), MALFORMED),
    ("a key", SPIFFE, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", MALFORMED),
    ("nine certificates", SPIFFE, GOOD * 9, MALFORMED),
    ("a hundred kilobytes", SPIFFE, GOOD + b"\n" * 100_000, MALFORMED),
    ("NULs", SPIFFE, b"\0" * 100, MALFORMED),
    ("a version that is none", SPIFFE, without_version(GOOD), MALFORMED),
    # who vouches
    ("signed by a stranger of the authority's name", SPIFFE, spiffe(ca=STRANGER), UNTRUSTED),
    ("signed by a stranger, naming the authority's key", SPIFFE, spiffe(signer=STRANGER.private_key), UNTRUSTED),
    ("signed by itself", SPIFFE, spiffe(signer=KEY, issuer=x509.Name([])), UNTRUSTED),
    ("signed by itself in the authority's name", SPIFFE, spiffe(signer=KEY), UNTRUSTED),
    ("the authority's own", SPIFFE, CA.pem, UNTRUSTED),
    ("the wrong issuer's name", SPIFFE, spiffe(issuer=STAGING.name), UNTRUSTED),
    ("one bit of the signature", SPIFFE, broken(GOOD, None), UNTRUSTED),
    ("one letter of the id", SPIFFE, broken(GOOD, "worker"), UNTRUSTED),
    ("below another caller's certificate", SPIFFE, spiffe(signer=KEY, issuer=x509.Name([])) + GOOD, UNTRUSTED),
    ("below an expired intermediate", SPIFFE, spiffe(ca=OLD) + OLD.pem, UNTRUSTED),
    ("below an intermediate that is not shown", SPIFFE, spiffe(ca=OLD), UNTRUSTED),
    ("a stranger's with the authority's beside", SPIFFE, spiffe(ca=STRANGER) + CA.pem, UNTRUSTED),
    ("a stranger's with the stranger's beside", SPIFFE, spiffe(ca=STRANGER) + STRANGER.pem, UNTRUSTED),
    # what for
    ("for servers", SPIFFE, spiffe(usages=[ExtendedKeyUsageOID.SERVER_AUTH]), UNTRUSTED),
    ("for code", SPIFFE, spiffe(usages=[ExtendedKeyUsageOID.CODE_SIGNING]), UNTRUSTED),
    ("for anything", SPIFFE, spiffe(usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), UNTRUSTED),
    ("for nothing said", SPIFFE, spiffe(usages=[]), UNTRUSTED),
    ("an authority itself", SPIFFE, spiffe(is_ca=True), UNTRUSTED),
    ("a signer of certificates", SPIFFE, spiffe(extra=[(CLIENT_KEY_USAGE, True)]), UNTRUSTED),
    (
        "an unknown critical extension",
        SPIFFE,
        spiffe(extra=[(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
        UNTRUSTED,
    ),
    (
        "name constraints in a leaf",
        SPIFFE,
        spiffe(extra=[(x509.NameConstraints([x509.DNSName("a")], None), True)]),
        UNTRUSTED,
    ),
    ("an RSA key of 1024 bits", SPIFFE, spiffe(key=RSA_1024), Reason.CERTIFICATE_KEY_WEAK),
    (
        "a key on an unusual curve",
        SPIFFE,
        spiffe(key=ec.generate_private_key(ec.SECP256K1())),
        Reason.CERTIFICATE_KEY_WEAK,
    ),
    ("a small curve", SPIFFE, spiffe(key=ec.generate_private_key(ec.SECP192R1())), Reason.CERTIFICATE_KEY_WEAK),
    ("a signature over SHA-224", SPIFFE, spiffe(digest=hashes.SHA224()), UNTRUSTED),
    # when
    ("expired", SPIFFE, spiffe(end=TODAY - timedelta(seconds=1)), Reason.CERTIFICATE_EXPIRED),
    ("long expired", SPIFFE, spiffe(begin=TODAY - HOUR * 9, end=TODAY - HOUR * 8), Reason.CERTIFICATE_EXPIRED),
    ("a stranger's, expired", SPIFFE, spiffe(ca=STRANGER, end=TODAY - HOUR / 2), Reason.CERTIFICATE_EXPIRED),
    ("not yet good", SPIFFE, spiffe(begin=TODAY + timedelta(seconds=1)), Reason.CERTIFICATE_NOT_YET_VALID),
    # SPIFFE ids
    ("no name", SPIFFE, forge(names=[(NameOID.COMMON_NAME, "x")]), SUBJECT),
    ("a SPIFFE id as CN", SPIFFE, forge(names=[(NameOID.COMMON_NAME, ID)]), SUBJECT),
    ("a SPIFFE id as DNS name", SPIFFE, forge(san=[x509.DNSName(ID)]), SUBJECT),
    ("two SPIFFE ids", SPIFFE, forge(uris=[ID, ID + "2"]), SUBJECT),
    ("the same id twice", SPIFFE, forge(uris=[ID, ID]), SUBJECT),
    ("another URI beside", SPIFFE, forge(uris=[ID, "https://example.org"]), SUBJECT),
    ("production's id from staging's authority", SPIFFE, spiffe(ca=STAGING), SUBJECT),
    *(
        (f"{what} in the id", SPIFFE, forge(raw_san=san((6, uri.encode()))), SUBJECT)
        for what, uri in {
            "another trust domain": "spiffe://staging.example.org/a",
            "a longer trust domain": "spiffe://prod.example.org.evil.example/a",
            "a subdomain": "spiffe://x.prod.example.org/a",
            "upper case": "spiffe://PROD.example.org/a",
            "an upper-case scheme": "SPIFFE://prod.example.org/a",
            "another scheme": "https://prod.example.org/a",
            "a user": "spiffe://admin@prod.example.org/a",
            "a port": "spiffe://prod.example.org:443/a",
            "a query": "spiffe://prod.example.org/a?b=c",
            "a fragment": "spiffe://prod.example.org/a#b",
            "no path": "spiffe://prod.example.org",
            "an empty path": "spiffe://prod.example.org/",
            "an empty segment": "spiffe://prod.example.org/ns//sa",
            "a slash at the end": "spiffe://prod.example.org/ns/",
            "a dot": "spiffe://prod.example.org/ns/./sa",
            "two dots": "spiffe://prod.example.org/staging/../ns",
            "two dots at the end": "spiffe://prod.example.org/ns/..",
            "an escape": "spiffe://prod.example.org/ns/%2e%2e/sa",
            "an escaped slash": "spiffe://prod.example.org/ns%2Fx",
            "a blank": "spiffe://prod.example.org/ns x",
            "a star": "spiffe://prod.example.org/ns/*",
            "a comma": "spiffe://prod.example.org/ns/a,b",
            "no trust domain": "spiffe:///ns",
            "a backslash": "spiffe://prod.example.org\\@evil/ns",
        }.items()
    ),
    ("a NUL in the id", SPIFFE, forge(raw_san=san((6, b"spiffe://prod.example.org/a\0b"))), MALFORMED),
    ("a line break in the id", SPIFFE, forge(raw_san=san((6, b"spiffe://prod.example.org/a\nb"))), MALFORMED),
    ("a byte above ASCII in the id", SPIFFE, forge(raw_san=san((6, b"spiffe://prod.example.org/\xe9"))), MALFORMED),
    ("alternative names that are not DER", SPIFFE, forge(raw_san=b"\xff\xff"), MALFORMED),
    # common names and other attributes
    ("no CN", BY_CN, cn(), SUBJECT),
    ("two CNs", BY_CN, cn("billing", "admin"), SUBJECT),
    ("the same CN twice", BY_CN, cn("billing", "billing"), SUBJECT),
    ("an alternative name instead of a CN", BY_CN, forge(names=[O_CORP], san=[x509.DNSName("billing")]), SUBJECT),
    ("no O", BY_CN, forge(names=[(NameOID.COMMON_NAME, "billing")]), SUBJECT),
    ("two Os", BY_CN, cn("billing", san=(), begin=TODAY - HOUR) and forge(names=[O_CORP, O_CORP]), SUBJECT),
    (
        "another O in other case",
        BY_CN,
        forge(names=[(NameOID.ORGANIZATION_NAME, "example corp"), (NameOID.COMMON_NAME, "billing")]),
        SUBJECT,
    ),
    (
        "an O that hides in the CN",
        BY_CN,
        forge(names=[(NameOID.COMMON_NAME, "billing,O=Example Corp")]),
        SUBJECT,
    ),
    *(
        (f"{what} in the CN", BY_CN, cn(value), reason)
        for what, value, reason in [
            ("a line break", "billing\nadmin", MALFORMED),
            ("a NUL", "billing\0.evil", MALFORMED),
            ("an override", "billing\u202e", MALFORMED),
            ("a zero-width blank", "bill\u200bing", MALFORMED),
            ("a delete", "billing\x7f", MALFORMED),
            ("only a blank", " ", SUBJECT),
            ("a blank before", " billing", SUBJECT),
            ("a comma", "billing,CN=admin", SUBJECT),
            ("a star", "*", SUBJECT),
            ("a pattern", "bill*", SUBJECT),
            ("a quote", 'billing"', SUBJECT),
        ]
    ),
    ("a byte that is no text in the CN", BY_CN, renamed(cn("billing"), b"billing", b"billin\xff"), MALFORMED),
    ("no DNS name", BY_DNS, forge(names=[(NameOID.COMMON_NAME, "billing.example.org")]), SUBJECT),
    ("two DNS names", BY_DNS, forge(san=[x509.DNSName("a.example.org"), x509.DNSName("b.example.org")]), SUBJECT),
    ("a wildcard", BY_DNS, forge(san=[x509.DNSName("*.example.org")]), SUBJECT),
    ("a NUL in a DNS name", BY_DNS, forge(raw_san=san((2, b"a.example.org\0.evil"))), MALFORMED),
    ("two addresses", BY_EMAIL, forge(san=[x509.RFC822Name("a@x.org"), x509.RFC822Name("b@x.org")]), SUBJECT),
    ("no address", BY_EMAIL, spiffe(), SUBJECT),
    ("two URIs", BY_URI, forge(uris=["urn:a", "urn:b"]), SUBJECT),
    ("two UIDs", BY_UID, forge(names=[(NameOID.USER_ID, "a"), (NameOID.USER_ID, "b")]), SUBJECT),
    ("no UID", BY_UID, cn("a"), SUBJECT),
]


@pytest.mark.parametrize(("authenticator", "pem", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_it_is_refused(authenticator: CertificateAuthenticator, pem: bytes, reason: Reason) -> None:
    assert refusal(authenticator, ClientCertificate(pem)) is reason


def test_the_table_is_whole() -> None:
    names = [row[0] for row in TABLE]
    assert len(set(names)) == len(names) >= 60


def test_the_same_certificates_unharmed_are_accepted() -> None:
    accepted = [
        (SPIFFE, GOOD),
        (SPIFFE, forge(raw_san=san((6, ID.encode())))),
        (SPIFFE, spiffe(key=ec.generate_private_key(ec.SECP384R1()))),
        (SPIFFE, spiffe(usages=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])),
        (SPIFFE, spiffe(is_ca=None)),
        (SPIFFE, forge(names=[(NameOID.COMMON_NAME, "x")], uris=[ID])),
        (BY_CN, cn("billing")),
        (BY_CN, renamed(cn("billing"), b"billing", b"renamed")),
        (BY_CN, cn("Bücher und mehr")),
        (BY_DNS, forge(san=[x509.DNSName("a.example.org")])),
        (BY_UID, forge(names=[(NameOID.USER_ID, "a")])),
    ]
    for authenticator, pem in accepted:
        assert authenticator.authenticate(ClientCertificate(pem), NOW) is not None
