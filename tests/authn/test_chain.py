"""The chain: one rule for both kinds of credential, and no way from a bad one to a good answer."""

from __future__ import annotations

import pytest

from authz.authn.base import ANONYMOUS, Principal
from authz.authn.chain import Authentication, Combine
from authz.authn.plugin import FirstAuthenticator, NamedAuthenticator
from authz.credentials import BearerToken, ClientCertificate, Credential, MalformedCredential
from authz.errors import AuthenticationError
from authz.reason import Reason
from tests.authn.setting import MINTER, NOW, certificates, client, tokens

OPEN = "/grpc.health.v1.Health/Check"
CLOSED = "/orders.v1.Orders/Get"
TOKEN = BearerToken(MINTER.mint(now=NOW))
BAD_TOKEN = BearerToken(MINTER.mint(now=NOW, aud="other"))
CERTIFICATE = client(spiffe_id="spiffe://prod.example.org/a")
BAD_CERTIFICATE = client(spiffe_id="spiffe://staging.example.org/a")
MALFORMED = MalformedCredential(Reason.CREDENTIAL_MALFORMED, "test")


def outcome(authentication: Authentication, shown: tuple[Credential, ...], method: str = CLOSED) -> str | Reason:
    try:
        return authentication.authenticate(shown, method, NOW).id
    except AuthenticationError as exc:
        return exc.reason


def both(combine: Combine) -> Authentication:
    return Authentication(tokens(), certificates(), combine=combine, anonymous=[OPEN])


BY_TOKEN, BY_CERTIFICATE = "user:corp:alice", "user:prod:spiffe://prod.example.org/a"
AUDIENCE, SUBJECT = Reason.TOKEN_AUDIENCE_WRONG, Reason.CERTIFICATE_SUBJECT_REFUSED
MISSING = Reason.CREDENTIAL_MISSING
# what is shown: the outcome under require_both, jwt, mtls
TABLE: list[tuple[tuple[Credential, ...], tuple[str | Reason, str | Reason, str | Reason]]] = [
    ((TOKEN, CERTIFICATE), (BY_TOKEN, BY_TOKEN, BY_CERTIFICATE)),
    ((CERTIFICATE, TOKEN), (BY_TOKEN, BY_TOKEN, BY_CERTIFICATE)),
    ((TOKEN,), (MISSING, BY_TOKEN, BY_TOKEN)),
    ((CERTIFICATE,), (MISSING, BY_CERTIFICATE, BY_CERTIFICATE)),
    ((BAD_TOKEN, CERTIFICATE), (AUDIENCE, AUDIENCE, AUDIENCE)),
    ((TOKEN, BAD_CERTIFICATE), (SUBJECT, SUBJECT, SUBJECT)),
    ((BAD_TOKEN,), (AUDIENCE, AUDIENCE, AUDIENCE)),
    ((BAD_CERTIFICATE,), (SUBJECT, SUBJECT, SUBJECT)),
    ((MALFORMED, CERTIFICATE), (Reason.CREDENTIAL_MALFORMED,) * 3),
    ((TOKEN, MALFORMED), (Reason.CREDENTIAL_MALFORMED,) * 3),
    ((TOKEN, TOKEN), (Reason.CREDENTIAL_REPEATED,) * 3),
    ((CERTIFICATE, CERTIFICATE), (Reason.CREDENTIAL_REPEATED,) * 3),
    ((), (MISSING, MISSING, MISSING)),
]


@pytest.mark.parametrize(("shown", "outcomes"), TABLE)
@pytest.mark.parametrize("combine", list(Combine))
def test_both_kinds(combine: Combine, shown: tuple[Credential, ...], outcomes: tuple[str | Reason, ...]) -> None:
    assert outcome(both(combine), shown) == outcomes[list(Combine).index(combine)]


@pytest.mark.parametrize("shown", [(BAD_TOKEN,), (BAD_CERTIFICATE,), (MALFORMED,), (TOKEN, TOKEN)])
@pytest.mark.parametrize("combine", list(Combine))
def test_nobody_becomes_anonymous_by_showing_something_bad(combine: Combine, shown: tuple[Credential, ...]) -> None:
    assert isinstance(outcome(both(combine), shown, OPEN), Reason)


@pytest.mark.parametrize("combine", list(Combine))
def test_who_shows_nothing_is_anonymous_where_that_is_open(combine: Combine) -> None:
    assert both(combine).authenticate((), OPEN, NOW) is ANONYMOUS


def test_a_certificate_alone_is_no_way_around_both_for_an_open_method() -> None:
    assert outcome(both(Combine.REQUIRE_BOTH), (CERTIFICATE,), OPEN) is MISSING


def test_the_certificate_of_a_mesh_is_no_credential() -> None:
    authentication = Authentication(tokens(), anonymous=[OPEN])
    assert outcome(authentication, (BAD_CERTIFICATE, TOKEN)) == BY_TOKEN
    assert outcome(authentication, (CERTIFICATE,)) is MISSING
    assert authentication.authenticate((CERTIFICATE,), OPEN, NOW) is ANONYMOUS


def test_a_token_that_nobody_can_prove_is_refused() -> None:
    authentication = Authentication(certificates=certificates(), anonymous=[OPEN])
    assert outcome(authentication, (TOKEN, CERTIFICATE)) is Reason.CREDENTIAL_UNSUPPORTED
    assert outcome(authentication, (TOKEN,), OPEN) is Reason.CREDENTIAL_UNSUPPORTED


def test_an_authenticator_that_passes_proves_nobody() -> None:
    class Passing:
        def authenticate(self, credential: Credential, now: float) -> Principal | None:
            return None

    assert outcome(Authentication(Passing()), (TOKEN,)) is Reason.CREDENTIAL_UNSUPPORTED
    assert outcome(Authentication(certificates=Passing()), (CERTIFICATE,)) is Reason.CREDENTIAL_UNSUPPORTED


def test_both_are_one_principal_that_ends_with_the_first() -> None:
    authentication = both(Combine.REQUIRE_BOTH)
    first = authentication.authenticate((TOKEN, CERTIFICATE), CLOSED, NOW)
    assert authentication.authenticate((BearerToken(TOKEN.value), CERTIFICATE), CLOSED, NOW) is first
    assert first.expires_at == NOW + 330
    assert len(first.fingerprint) == 64


def test_the_rule_for_both_has_no_default() -> None:
    with pytest.raises(ValueError, match="combine"):
        Authentication(tokens(), certificates())
    with pytest.raises(ValueError, match="combine"):
        Authentication(tokens(), combine=Combine.JWT)


def test_refusals_are_counted_by_reason() -> None:
    authentication = both(Combine.JWT)
    shown: tuple[Credential, ...]
    for shown in ((BAD_TOKEN,), (BAD_TOKEN,), (TOKEN,), ()):
        outcome(authentication, shown)
    assert authentication.refusals == {AUDIENCE: 2, MISSING: 1}


def test_an_empty_certificate_is_a_bad_one() -> None:
    assert outcome(both(Combine.JWT), (TOKEN, ClientCertificate(b""))) is Reason.CERTIFICATE_MALFORMED


def test_what_was_proven_lately_is_recognized() -> None:
    authentication = both(Combine.JWT)
    assert not authentication.recognizes((TOKEN,))
    assert not authentication.recognizes((CERTIFICATE,))
    authentication.authenticate((TOKEN, CERTIFICATE), CLOSED, NOW)
    assert authentication.recognizes((TOKEN, CERTIFICATE))
    assert not authentication.recognizes((TOKEN, BAD_CERTIFICATE))
    assert not authentication.recognizes((MALFORMED,))
    assert Authentication(tokens()).recognizes((CERTIFICATE,))
    assert set(authentication.caches) == {"tokens", "certificates", "pairs"}
    assert authentication.reads_certificates
    assert not Authentication(tokens()).reads_certificates


def test_of_several_the_first_that_handles_a_credential_decides() -> None:
    class Passing:
        def authenticate(self, credential: Credential, now: float) -> Principal | None:
            return None

    several = FirstAuthenticator([Passing(), tokens()])
    assert not several.remembers(TOKEN)
    assert several.authenticate(TOKEN, NOW)
    assert several.remembers(TOKEN)
    assert FirstAuthenticator([Passing()]).authenticate(TOKEN, NOW) is None
    assert NamedAuthenticator("a", "a:", Passing()).authenticate(TOKEN, NOW) is None
