"""Tokens: what is proven of a good one, and the claims for which one is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authz.authn.base import PrincipalKind
from authz.authn.conditions import Condition, Has, IsBoolean, IsOneOf, IsPresent, Matches
from authz.authn.jwt import TokenAuthenticator
from authz.authn.keys import ASYMMETRIC, FixedKeys, KeySet
from authz.authn.pattern import read_pattern
from authz.authn.pointer import Pointer
from authz.credentials import BearerToken, ClientCertificate
from authz.reason import Reason
from authz.testing import SigningKey, TokenMinter
from tests.authn.setting import MINTER, NOW, issuer, key_set, refusal, tokens


def test_a_good_token_proves_its_subject() -> None:
    principal = tokens().authenticate(BearerToken(MINTER.mint(now=NOW, groups=["a"])), NOW)
    assert principal is not None
    assert principal.kind is PrincipalKind.TOKEN
    assert (principal.issuer, principal.subject, principal.id) == ("corp", "alice", "user:corp:alice")
    assert principal.expires_at == NOW + MINTER.lifetime + 30
    assert principal.attributes["groups"] == ["a"]
    assert principal.key_id == "test-key"


@pytest.mark.parametrize("algorithm", sorted(ASYMMETRIC))
def test_each_algorithm_verifies(algorithm: str) -> None:
    key = SigningKey.shared(algorithm)
    token = TokenMinter(key=key).mint(now=NOW)
    assert TokenAuthenticator([issuer(key)]).authenticate(BearerToken(token), NOW)


def test_an_issuer_without_keys_answers_for_itself_alone() -> None:
    class Without(FixedKeys):
        def current(self, now: float) -> Any:
            return None

    other = issuer(name="other", issuer="https://other.test", prefix="other:", keys=Without(key_set(MINTER.key)))
    authenticator = TokenAuthenticator([issuer(), other])
    assert refusal(authenticator, MINTER.mint(now=NOW, iss="https://other.test")) is Reason.KEYS_UNAVAILABLE
    assert authenticator.authenticate(BearerToken(MINTER.mint(now=NOW)), NOW)


def test_a_certificate_is_not_its_business() -> None:
    assert tokens().authenticate(ClientCertificate(b""), NOW) is None


def test_the_subject_is_where_the_issuer_says() -> None:
    token = BearerToken(MINTER.mint(now=NOW, account={"login": "al"}))
    principal = tokens(subject=Pointer("/account/login")).authenticate(token, NOW)
    assert principal is not None
    assert principal.subject == "al"


def test_a_known_token_is_the_same_principal_until_it_expires() -> None:
    authenticator = tokens()
    text = MINTER.mint(now=NOW)
    first = authenticator.authenticate(BearerToken(text), NOW)
    assert authenticator.authenticate(BearerToken(str(text)), NOW + 300) is first
    assert refusal(authenticator, text, NOW + 330) is Reason.TOKEN_EXPIRED


def test_a_known_token_is_verified_again_under_other_keys() -> None:
    class Changing(FixedKeys):
        keys = key_set(MINTER.key)

        def current(self, now: float) -> KeySet:
            return self.keys

    source = Changing(Changing.keys)
    authenticator = tokens(keys=source)
    token = MINTER.mint(now=NOW)
    authenticator.authenticate(BearerToken(token), NOW)
    source.keys = key_set(SigningKey("ES256", "another"))
    assert refusal(authenticator, token) is Reason.TOKEN_KEY_UNKNOWN


CLAIMS: list[tuple[dict[str, Any], Reason]] = [
    ({"iss": None}, Reason.TOKEN_CLAIM_MISSING),
    ({"iss": ["https://issuer.test"]}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"iss": "https://issuer.test/"}, Reason.TOKEN_ISSUER_UNKNOWN),
    ({"iss": "https://ISSUER.test"}, Reason.TOKEN_ISSUER_UNKNOWN),
    ({"aud": None}, Reason.TOKEN_CLAIM_MISSING),
    ({"aud": []}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"aud": "tes"}, Reason.TOKEN_AUDIENCE_WRONG),
    ({"aud": ["other", "Test"]}, Reason.TOKEN_AUDIENCE_WRONG),
    ({"aud": ["test", 1]}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"exp": None}, Reason.TOKEN_CLAIM_MISSING),
    ({"exp": NOW - 30, "iat": NOW - 60}, Reason.TOKEN_EXPIRED),
    ({"exp": str(NOW + 60)}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"exp": True}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"exp": 1e300}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"exp": NOW + 86_431}, Reason.TOKEN_LIFETIME_TOO_LONG),
    ({"exp": NOW + 86_431, "iat": None}, Reason.TOKEN_LIFETIME_TOO_LONG),
    ({"iat": NOW - 86_300}, Reason.TOKEN_LIFETIME_TOO_LONG),
    ({"iat": NOW + 31}, Reason.TOKEN_NOT_YET_VALID),
    ({"nbf": NOW + 31}, Reason.TOKEN_NOT_YET_VALID),
    ({"nbf": False}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"nbf": NOW + 10, "exp": NOW + 10}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"sub": None}, Reason.TOKEN_CLAIM_MISSING),
    ({"sub": 7}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"sub": ""}, Reason.TOKEN_CLAIM_MALFORMED),
    ({"sub": "a\nb"}, Reason.TOKEN_CLAIM_MALFORMED),
]


@pytest.mark.parametrize(("claims", "reason"), CLAIMS, ids=[str(claims) for claims, _ in CLAIMS])
def test_claims_for_which_a_token_is_refused(claims: dict[str, Any], reason: Reason) -> None:
    assert refusal(tokens(), MINTER.mint(now=NOW, **claims)) is reason


def test_keys_of_one_issuer_do_not_verify_for_another() -> None:
    theirs = SigningKey("ES256", "theirs")
    other = issuer(theirs, name="other", issuer="https://other.test", prefix="other:")
    authenticator = TokenAuthenticator([issuer(), other])
    assert refusal(authenticator, TokenMinter(key=theirs).mint(now=NOW)) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        (IsBoolean(Pointer("v"), True), [True], [False, "true", 1, None, ...]),
        (IsBoolean(Pointer("v"), False), [False], [True, 0, "", None, ...]),
        (IsOneOf(Pointer("v"), frozenset({"a", "b"})), ["a", "b"], ["c", "A", ["a"], 1, ...]),
        (Has(Pointer("v"), "a"), [["b", "a"]], ["a", [["a"]], {"a": 1}, [], ...]),
        (
            Matches(Pointer("v"), read_pattern("a[0-9]+")),
            ["a1"],
            ["xa1", "a1x", "a1\n", "a" + "1" * 600, ["a1"], 1, ...],
        ),
        (IsPresent(Pointer("v")), [0, "", [], False], [None, ...]),
    ],
)
def test_conditions(condition: Condition, good: list[Any], bad: list[Any]) -> None:
    authenticator = tokens(conditions=[condition])
    for values, accepted in ((good, True), (bad, False)):
        for value in values:
            claims = {"iss": MINTER.issuer, "aud": "test", "sub": "a", "exp": NOW + 60}
            if value is not ...:
                claims["v"] = value
            token = MINTER.sign(b'{"alg":"ES256","typ":"at+jwt","kid":"test-key"}', json.dumps(claims).encode())
            if accepted:
                assert authenticator.authenticate(BearerToken(token), NOW)
            else:
                assert refusal(authenticator, token) is Reason.TOKEN_CONDITION_FAILED
    assert "`v`" in condition.text


def test_two_issuers_of_one_name_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="same `issuer`"):
        TokenAuthenticator([issuer(), issuer(name="other")])


def test_what_is_remembered() -> None:
    authenticator = TokenAuthenticator([issuer()], remembered=2)
    texts = [MINTER.mint(now=NOW, jti=str(i)) for i in range(3)]
    for text in texts:
        authenticator.authenticate(BearerToken(text), NOW)
    assert [authenticator.remembers(BearerToken(text)) for text in texts] == [False, True, True]
    assert not authenticator.remembers(BearerToken("\ud800"))
    assert len(authenticator.memory) == 2
    with pytest.raises(ValueError, match="at least one"):
        TokenAuthenticator([issuer()], remembered=0)


def test_nothing_bad_is_remembered() -> None:
    authenticator = tokens()
    refusal(authenticator, MINTER.mint(now=NOW, aud="other"))
    assert len(authenticator.memory) == 0
