"""Revocation: the deny list, the authorities' own lists, and tokens that are bound to a certificate."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from authz.authn import base64url
from authz.authn.authority_files import read_authority_file
from authz.authn.background import FileWatcher, WatchedFile
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.chain import Authentication, Combine
from authz.authn.crl import read_crl_file
from authz.authn.jwt import TokenAuthenticator
from authz.authn.revocation import RevocationReader, Revocations
from authz.credentials import BearerToken, ClientCertificate, Credential
from authz.errors import AuthenticationError, KeyFileError
from authz.reason import Reason
from authz.testing import CertificateAuthority
from tests.authn.setting import (
    MINTER,
    NOW,
    TODAY,
    authority,
    certificate_authority,
    certificates,
    client,
    issuer,
    refusal,
    tokens,
)
from tests.authn.test_hostile_certificates import resigned

CA = certificate_authority()
ID = "spiffe://prod.example.org/a"
DAY = timedelta(days=1)


def fingerprint(shown: ClientCertificate) -> bytes:
    return x509.load_pem_x509_certificate(shown.pem).fingerprint(hashes.SHA256())


def watched(path: Path, text: str) -> WatchedFile[Revocations]:
    path.write_text(text)
    return WatchedFile(path, RevocationReader(["corp", "prod", "other"]))


def change(file: WatchedFile[Any], content: str | bytes) -> bool:
    """Write another content and look at once, with a time that is surely another."""
    file.path.write_bytes(content.encode() if isinstance(content, str) else content)
    status = file.path.stat()
    os.utime(file.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    return file.look()


@pytest.mark.parametrize(
    "line",
    [
        "token corp t-1",
        "subject corp alice",
        "issuer corp",
        "# x\n\ntoken corp t-1\r\n",
        "token corp t 2\nissuer corp",
    ],
)
def test_a_known_token_is_refused_as_soon_as_it_is_revoked(tmp_path: Path, line: str) -> None:
    file = watched(tmp_path / "revoked", "token corp other\nsubject corp bob\nissuer other\ntoken other t-1\n")
    authenticator = TokenAuthenticator([issuer()], revocations=file)
    token = BearerToken(MINTER.mint(now=NOW, jti="t-1"))
    first = authenticator.authenticate(token, NOW)
    assert authenticator.authenticate(token, NOW) is first
    assert change(file, line)
    assert refusal(authenticator, token) is Reason.CREDENTIAL_REVOKED
    assert change(file, "")
    assert authenticator.authenticate(token, NOW)


def test_a_revoked_certificate_is_refused_and_so_is_what_is_bound_to_it(tmp_path: Path) -> None:
    shown = client(spiffe_id=ID)
    file = watched(tmp_path / "revoked", "")
    by_certificate = CertificateAuthenticator([authority()], revocations=file)
    by_token = TokenAuthenticator([issuer()], revocations=file)
    bound = BearerToken(MINTER.mint(now=NOW, cnf={"x5t#S256": base64url.encode(fingerprint(shown)).decode()}))
    assert by_certificate.authenticate(shown, NOW)
    assert by_token.authenticate(bound, NOW)
    change(file, f"certificate {fingerprint(shown).hex()}")
    assert refusal(by_certificate, shown) is Reason.CREDENTIAL_REVOKED
    assert refusal(by_token, bound) is Reason.CREDENTIAL_REVOKED
    change(file, f"subject prod {ID}")
    assert refusal(by_certificate, shown) is Reason.CREDENTIAL_REVOKED


def test_a_malformed_token_id_is_no_way_around_the_list() -> None:
    for token_id in (1, ["t-1"], None, "x" * 2000):
        text = MINTER.sign(
            b'{"alg": "ES256", "typ": "at+jwt", "kid": "test-key"}',
            json.dumps({"iss": MINTER.issuer, "aud": "test", "sub": "a", "exp": NOW + 60, "jti": token_id}).encode(),
        )
        assert refusal(tokens(), text) is Reason.TOKEN_CLAIM_MALFORMED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens corp x", ":1: `tokens` cannot be revoked"),
        ("\ntoken corp", ":2: a token is named by 2 words"),
        ("issuer ", ":1: a issuer is named by 1 words"),
        ("issuer a b", ":1: there is a blank too many|named by"),
        ("certificate AB", "64 hexadecimal digits"),
        ("subject corp a\tb", "character that cannot be seen"),
        ("token  corp x", "named by|blank too many"),
        ("token corp x ", "blank too many"),
        ("token corp \ud800", ":1: is not UTF-8"),
        ("token corp a\rsubject corp b", ":1: a carriage return alone ends no line"),
        ("# leaked\rsubject corp b", ":1: a carriage return alone ends no line"),
        ("issuer corp\nsubject crop alice", ":2: no issuer or authority is named `crop`; did you mean `corp`?"),
        ("token crop t-1", ":1: no issuer or authority is named `crop`"),
        ("issuer copr", ":1: no issuer or authority is named `copr`; did you mean `corp`?"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "revoked"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(KeyFileError, match=message):
        RevocationReader(["corp", "prod"])(path)


def test_a_bad_line_takes_no_other_one_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = watched(tmp_path / "revoked", "\ufefftoken corp t-1\nissuer prod\ntoken corp t-2\n")
    assert change(file, "token corp t-1\nisuer prod\nsubject crop alice\ntoken corp t-3\n")
    assert file.value.tokens == {("corp", "t-1"), ("corp", "t-2"), ("corp", "t-3")}
    assert file.value.issuers == {"prod"}
    assert not file.value.subjects
    assert f"{file.path}:2: `isuer` cannot be revoked" in caplog.text
    assert f"{file.path}:3: no issuer or authority is named `crop`; did you mean `corp`?" in caplog.text
    assert "2 lines revoke nobody, and nothing is taken off the list meanwhile" in caplog.text
    caplog.clear()
    assert change(file, b"token corp t-4\ntoken corp \xff\n")
    assert {("corp", "t-1"), ("corp", "t-4")} < file.value.tokens
    assert ":2: is not UTF-8" in caplog.text
    assert change(file, "token corp t-5\n")
    assert file.value.tokens == {("corp", "t-5")}
    assert not file.value.issuers


def test_a_list_that_cannot_be_read_any_more_stays_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = watched(tmp_path / "revoked", "issuer corp")
    file.path.unlink()
    assert not file.look()
    assert "keeping what" in caplog.text
    assert file.failures == 1
    authenticator = TokenAuthenticator([issuer()], revocations=file)
    assert refusal(authenticator, MINTER.mint(now=NOW)) is Reason.CREDENTIAL_REVOKED
    assert change(file, "issuer other")
    assert file.failures == 0


def test_a_list_that_was_refused_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    path = tmp_path / "crl.pem"
    path.write_bytes(crl())
    file = WatchedFile(path, lambda at: read_crl_file(at, read_authority_file(ca)))
    other = certificate_authority("Other")
    assert not change(file, crl(ca=other))
    ca.write_bytes(other.pem)
    assert not file.look()
    monkeypatch.setattr(file, "_retry_at", 0.0)
    assert file.look()
    assert list(file.value.lists) == [other.name]


def test_a_watcher_takes_changes_by_itself(tmp_path: Path) -> None:
    file = watched(tmp_path / "revoked", "")
    watcher = FileWatcher([file], interval=0.005)
    watcher.start()
    assert watcher.ready(0)
    try:
        file.path.write_text("issuer corp")
        for _ in range(1000):
            if file.value.issuers:
                break
            watcher._end.wait(0.005)
        assert file.value.issuers == {"corp"}
    finally:
        watcher.close()


def test_a_list_that_is_being_written_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    file = watched(tmp_path / "revoked", "issuer corp")
    assert file.settled()
    file.path.write_text("")
    assert not file.settled()
    file.path.write_text("issuer corp\nissuer other\n")
    assert not file.settled()
    assert file.value.issuers == {"corp"}
    assert file.settled()
    assert file.look()
    assert file.value.issuers == {"corp", "other"}


# authorities' own lists


def crl(
    *revoked: x509.Certificate, ca: CertificateAuthority = CA, until: timedelta | None = DAY, partial: bool = False
) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.name).last_update(TODAY - DAY)
    builder = builder.next_update(TODAY + (DAY if until is None else until))
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(TODAY - DAY)
        builder = builder.add_revoked_certificate(entry.build())
    if partial:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), True)
    return builder.sign(ca.private_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def listed(path: Path, content: bytes, *issuers: x509.Certificate) -> CertificateAuthenticator:
    path.write_bytes(content)
    signers = [CA.x509, *issuers]
    file = WatchedFile(path, lambda at: read_crl_file(at, signers))
    return CertificateAuthenticator([authority(crls=file, intermediates=issuers)])


def loaded(shown: ClientCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(shown.pem)


def test_a_certificate_on_the_list_is_refused(tmp_path: Path) -> None:
    good, bad = client(spiffe_id=ID), client(spiffe_id=ID)
    authenticator = listed(tmp_path / "crl.pem", crl(loaded(bad)))
    assert authenticator.authenticate(good, NOW)
    assert refusal(authenticator, bad) is Reason.CERTIFICATE_REVOKED


def test_a_known_certificate_is_refused_as_soon_as_it_is_on_the_list(tmp_path: Path) -> None:
    shown = client(spiffe_id=ID)
    authenticator = listed(tmp_path / "crl.pem", crl())
    assert authenticator.authenticate(shown, NOW)
    file = authenticator.authorities[0].crls
    assert file is not None
    assert change(file, crl(loaded(shown)))
    assert refusal(authenticator, shown) is Reason.CERTIFICATE_REVOKED


def test_a_list_that_is_out_of_date_says_nothing(tmp_path: Path) -> None:
    authenticator = listed(tmp_path / "crl.pem", crl(until=timedelta(minutes=1)))
    shown = client(spiffe_id=ID)
    assert authenticator.authenticate(shown, NOW + 60)
    assert refusal(authenticator, shown, NOW + 61) is Reason.CERTIFICATE_REVOCATION_UNKNOWN


def test_an_intermediate_needs_its_own_list(tmp_path: Path) -> None:
    middle = CertificateAuthority("Middle", parent=CA, not_before=TODAY - DAY, not_after=TODAY + DAY)
    shown = client(middle, spiffe_id=ID)
    without = listed(tmp_path / "a.pem", crl(), middle.x509)
    assert refusal(without, shown) is Reason.CERTIFICATE_REVOCATION_UNKNOWN
    assert listed(tmp_path / "b.pem", crl() + crl(ca=middle), middle.x509).authenticate(shown, NOW)
    revoked = listed(tmp_path / "c.pem", crl(middle.x509) + crl(ca=middle), middle.x509)
    assert refusal(revoked, shown) is Reason.CERTIFICATE_REVOKED


def test_a_list_in_der(tmp_path: Path) -> None:
    bad = client(spiffe_id=ID)
    der = x509.load_pem_x509_crl(crl(loaded(bad))).public_bytes(Encoding.DER)
    assert refusal(listed(tmp_path / "crl.der", der), bad) is Reason.CERTIFICATE_REVOKED


def without_end() -> bytes:
    """A list, rightly signed, that does not say when the next one is due."""
    tbs = x509.load_pem_x509_crl(crl()).tbs_certlist_bytes
    first = tbs.index(b"\x17\x0d")
    second = tbs.index(b"\x17\x0d", first + 15)
    shorter = tbs[2:second] + tbs[second + 15 :]
    return resigned(b"\x30" + bytes([len(shorter)]) + shorter)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without_end(), "does not say when the next one is due"),
        (b"", "is not revocation lists"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "is not revocation lists"),
        (b"-----BEGIN CERTIFICATE-----", "has no revocation list"),
        (crl(ca=CertificateAuthority("Test CA")), "is not signed by the authority"),
        (crl(ca=certificate_authority("Other")), "is not signed by the authority"),
        (crl() + crl(), "two lists of one issuer"),
        (crl(partial=True), "a part of the certificates only"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        listed(tmp_path / "crl.pem", content)


# tokens that are bound to a certificate

HOLDER = client(spiffe_id=ID)
OTHER = client(spiffe_id=ID)
UNKNOWN = client(CertificateAuthority("Mesh", not_before=TODAY - DAY), spiffe_id=ID)


def bound(shown: ClientCertificate = HOLDER) -> BearerToken:
    return BearerToken(MINTER.mint(now=NOW, cnf={"x5t#S256": base64url.encode(fingerprint(shown)).decode()}))


@pytest.mark.parametrize(
    "authentication", [Authentication(tokens()), Authentication(tokens(), certificates(), combine=Combine.JWT)]
)
def test_a_bound_token_is_good_with_its_certificate_alone(authentication: Authentication) -> None:
    def reason(*shown: Credential) -> Reason:
        with pytest.raises(AuthenticationError) as caught:
            authentication.authenticate(shown, "/a.B/C", NOW)
        return caught.value.reason

    for _ in range(2):
        assert authentication.authenticate((bound(), HOLDER), "/a.B/C", NOW).subject == "alice"
        assert reason(bound()) is Reason.TOKEN_BINDING_WRONG
        assert reason(bound(), OTHER) is Reason.TOKEN_BINDING_WRONG
        assert reason(bound(UNKNOWN)) is Reason.TOKEN_BINDING_WRONG
    assert len(authentication._fingerprints) == 1


def test_a_bound_token_is_bound_whoever_vouches_for_the_certificate() -> None:
    authentication = Authentication(tokens())
    assert authentication.authenticate((bound(UNKNOWN), UNKNOWN), "/a.B/C", NOW)
    with pytest.raises(AuthenticationError) as caught:
        authentication.authenticate((bound(), ClientCertificate(b"x")), "/a.B/C", NOW)
    assert caught.value.reason is Reason.CERTIFICATE_MALFORMED


@pytest.mark.parametrize("combine", [Combine.MTLS, Combine.REQUIRE_BOTH])
def test_a_bound_token_is_bound_under_every_rule(combine: Combine) -> None:
    authentication = Authentication(tokens(), certificates(), combine=combine)
    assert authentication.authenticate((bound(), HOLDER), "/a.B/C", NOW)
    with pytest.raises(AuthenticationError) as caught:
        authentication.authenticate((bound(), OTHER), "/a.B/C", NOW)
    assert caught.value.reason is Reason.TOKEN_BINDING_WRONG


@pytest.mark.parametrize(
    ("binding", "reason"),
    [
        ({"jkt": "x"}, Reason.TOKEN_BINDING_UNSUPPORTED),
        ({"x5t#S256": "x", "jkt": "x"}, Reason.TOKEN_BINDING_UNSUPPORTED),
        ({}, Reason.TOKEN_BINDING_UNSUPPORTED),
        ("x", Reason.TOKEN_BINDING_UNSUPPORTED),
        ([], Reason.TOKEN_BINDING_UNSUPPORTED),
        (["x5t#S256"], Reason.TOKEN_BINDING_UNSUPPORTED),
        ({"x5t#S256": "x"}, Reason.TOKEN_CLAIM_MALFORMED),
        ({"x5t#S256": ""}, Reason.TOKEN_CLAIM_MALFORMED),
        ({"x5t#S256": None}, Reason.TOKEN_CLAIM_MALFORMED),
        ({"x5t#S256": "é"}, Reason.TOKEN_CLAIM_MALFORMED),
        ({"x5t#S256": base64url.encode(b"x" * 32).decode() + "="}, Reason.TOKEN_CLAIM_MALFORMED),
    ],
)
def test_a_binding_that_cannot_be_checked_refuses_the_token(binding: Any, reason: Reason) -> None:
    assert refusal(tokens(), MINTER.mint(now=NOW, cnf=binding)) is reason
