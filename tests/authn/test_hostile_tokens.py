"""Hostile tokens: a table of everything that somebody might try, each with the reason for which it is refused.

All but the forged ones are signed with the issuer's own key, so that nothing but the strict reading refuses them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from authz.authn import base64url
from authz.authn.jwt import TokenAuthenticator
from authz.authn.keys import FixedKeys
from authz.credentials import BearerToken
from authz.errors import AuthenticationError
from authz.reason import Reason
from authz.testing import SigningKey, TokenMinter
from tests.authn.setting import MINTER, NOW, issuer, key_set, refusal

RSA_KEY = SigningKey.shared("RS256", "rsa")
EC_KEY = MINTER.key
ISSUER = issuer(
    algorithms=frozenset({"ES256", "RS256"}),
    keys=FixedKeys(key_set(EC_KEY, RSA_KEY)),
)
HEADER: dict[str, Any] = {"alg": "ES256", "typ": "at+jwt", "kid": EC_KEY.key_id}
CLAIMS: dict[str, Any] = {"iss": MINTER.issuer, "sub": "alice", "aud": "test", "iat": int(NOW), "exp": int(NOW) + 300}
HEADER_TEXT = json.dumps(HEADER)
CLAIMS_TEXT = json.dumps(CLAIMS)

MALFORMED = Reason.TOKEN_MALFORMED
CLAIM = Reason.TOKEN_CLAIM_MALFORMED
ALGORITHM = Reason.TOKEN_ALGORITHM_REFUSED
TYPE = Reason.TOKEN_TYPE_REFUSED
CRITICAL = Reason.TOKEN_CRITICAL_REFUSED
KEY = Reason.TOKEN_KEY_UNKNOWN
SIGNATURE = Reason.TOKEN_SIGNATURE_WRONG
TOO_LARGE = Reason.TOKEN_TOO_LARGE


def signed(header: str | bytes = HEADER_TEXT, payload: str | bytes = CLAIMS_TEXT) -> str:
    """A token with exactly these texts, signed with the issuer's key."""
    as_bytes = (text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in (header, payload))
    return MINTER.sign(*as_bytes)


def signed_with(place: str, text: Any) -> str:
    return signed(header=text) if place == "header" else signed(payload=text)


def headed(**members: Any) -> str:
    return signed(header=json.dumps({k: v for k, v in {**HEADER, **members}.items() if v is not ...}))


def claiming(**claims: Any) -> str:
    return signed(payload=json.dumps({k: v for k, v in {**CLAIMS, **claims}.items() if v is not ...}))


def raw(name: str, text: str) -> str:
    """A token whose claim ``name`` is written as the JSON ``text``."""
    rest = json.dumps({k: v for k, v in CLAIMS.items() if k != name})
    return signed(payload=f"{rest[:-1]}, {json.dumps(name)}: {text}}}")


def segments(change: Callable[[list[str]], list[str]]) -> str:
    return ".".join(change(signed().split(".")))


def forged(signature: bytes, **members: Any) -> str:
    data = base64url.encode(json.dumps({**HEADER, **members}).encode()) + b"." + base64url.encode(CLAIMS_TEXT.encode())
    return (data + b"." + base64url.encode(signature)).decode()


def by_hmac(secret: bytes, algorithm: str = "HS256") -> str:
    data = base64url.encode(json.dumps({**HEADER, "alg": algorithm}).encode())
    data += b"." + base64url.encode(CLAIMS_TEXT.encode())
    digest = hmac.new(secret, data, {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]).digest()
    return (data + b"." + base64url.encode(digest)).decode()


def flipped(token: str, at: int) -> str:
    """The token with another character at ``at``."""
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at:][1:]


STRANGER = SigningKey("ES256", EC_KEY.key_id)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DEEP = "[" * 20 + "]" * 20

OWN_KEYS: dict[str, dict[str, Any]] = {
    "key": {"jwk": STRANGER.jwk()},
    "key set": {"jku": "https://evil.example/jwks.json"},
    "certificate": {"x5c": ["MIIB"]},
    "certificate's address": {"x5u": "https://evil.example/x.pem"},
    "nothing": {},
}

TABLE: list[tuple[str, str, Reason]] = [
    # the text
    ("nothing", "", MALFORMED),
    ("a dot", ".", MALFORMED),
    ("two dots", "..", MALFORMED),
    ("three dots", "...", MALFORMED),
    ("a word", "token", MALFORMED),
    ("an opaque token", "ghp_0123456789abcdefABCDEF", MALFORMED),
    ("no signature segment", segments(lambda s: s[:2]), MALFORMED),
    ("four segments", segments(lambda s: [*s, "AA"]), MALFORMED),
    ("five segments, as if encrypted", segments(lambda s: [*s, "AA", "AA"]), MALFORMED),
    ("a thousand segments", "a." * 1000, MALFORMED),
    ("JSON instead of compact form", json.dumps({"payload": "e30", "signature": "AA"}), MALFORMED),
    ("a leading blank", " " + signed(), MALFORMED),
    ("a trailing blank", signed() + " ", MALFORMED),
    ("a trailing line break", signed() + "\n", MALFORMED),
    ("a line break within", segments(lambda s: [s[0][:8] + "\n" + s[0][8:], *s[1:]]), MALFORMED),
    ("a NUL", segments(lambda s: [s[0], s[1] + "\0", s[2]]), MALFORMED),
    ("a fullwidth dot", signed().replace(".", "\uff0e"), MALFORMED),
    ("an accent", "é" + signed(), MALFORMED),
    ("half of a pair", "\ud800" + signed(), MALFORMED),
    ("too long", signed() + "A" * 8192, TOO_LARGE),
    ("too long by its claims", claiming(padding="x" * 8192), TOO_LARGE),
    ("too long and not ASCII", "é" * 9000, TOO_LARGE),
    ("a quoted token", '"' + signed() + '"', MALFORMED),
    ("two tokens", signed() + "," + signed(), MALFORMED),
    ("a token with its scheme", "Bearer " + signed(), MALFORMED),
    # base64url
    *(
        (f"{what} in segment {i}", segments(lambda s, i=i, f=f: [*s[:i], f(s[i]), *s[i + 1 :]]), MALFORMED)  # type: ignore[misc]
        for i in range(3)
        for what, f in {
            "padding": lambda t: t + "=",
            "full padding": lambda t: t + "=" * (-len(t) % 4 or 4),
            "plus": lambda t: t[:-2] + "+A",
            "slash": lambda t: t[:-2] + "/A",
            "a character left over": lambda t: t[: len(t) - len(t) % 4] + "A",
            "percent": lambda t: t[:-3] + "%41",
            "emptiness": lambda t: "",
        }.items()
        if (i, what) != (2, "emptiness")
    ),
    ("bits left over in the signature", flipped(signed(), -1)[:-1] + "B", MALFORMED),
    # JSON
    *(
        (f"{what}, as {place}", signed_with(place, text), MALFORMED)
        for place, whole in (("header", HEADER_TEXT), ("payload", CLAIMS_TEXT))
        for what, text in {
            "a list": f"[{whole}]",
            "a text": '"x"',
            "a number": "1",
            "null": "null",
            "no JSON": "{",
            "two values": whole + "{}",
            "a trailing comma": whole[:-1] + ",}",
            "a comment": whole + "/**/",
            "single quotes": whole.replace('"', "'"),
            "a byte order mark": "\ufeff" + whole,
            "UTF-16": whole.encode("utf-16"),
            "UTF-32": whole.encode("utf-32"),
            "UTF-16 without a mark": whole.encode("utf-16-le"),
            "a wrong byte": whole[:-1].encode() + b', "x": "\xff"}',
            "an overlong byte": whole[:-1].encode() + b', "x": "\xc0\xaf"}',
            "half of a pair, raw": whole[:-1] + ', "x": "\ud800"}',
            "half of a pair, escaped": whole[:-1] + ', "x": "\\ud800"}',
            "half of a pair, as a name": whole[:-1] + ', "\\udfff": 1}',
            "a raw control character": whole[:-1] + ', "x": "\x01"}',
            "NaN": whole[:-1] + ', "x": NaN}',
            "Infinity": whole[:-1] + ', "x": -Infinity}',
            "a number beyond all": whole[:-1] + ', "x": 1e999}',
            "a long number": whole[:-1] + ', "x": ' + "9" * 400 + "}",
            "a repeated name": whole[:-1] + ', "x": 1, "x": 1}',
            "a repeated name, escaped": whole[:-1] + ', "x": 1, "\\u0078": 2}',
            "a repeated name, within": whole[:-1] + ', "x": {"y": 1, "y": 2}}',
            "depth": whole[:-1] + f', "x": {DEEP}}}',
            "great depth": whole[:-1] + ', "x": ' + "[" * 2000 + "}",
            "whole great depth": whole[:-1] + ', "x": ' + "[" * 1200 + "]" * 1200 + "}",
        }.items()
    ),
    # the header
    ("alg none", headed(alg="none"), ALGORITHM),
    ("alg None", headed(alg="None"), ALGORITHM),
    ("alg NONE without a signature", forged(b"", alg="NONE"), ALGORITHM),
    ("alg nOnE", forged(b"x", alg="nOnE"), ALGORITHM),
    ("no alg", headed(alg=...), MALFORMED),
    ("alg null", headed(alg=None), MALFORMED),
    ("alg of nothing", headed(alg=""), MALFORMED),
    ("alg a number", headed(alg=256), MALFORMED),
    ("alg a list", headed(alg=["ES256"]), MALFORMED),
    ("alg with a blank", headed(alg="ES256 "), ALGORITHM),
    ("alg in lower case", headed(alg="es256"), ALGORITHM),
    ("alg very long", headed(alg="ES256" * 100), MALFORMED),
    ("alg not allowed here", headed(alg="ES384"), ALGORITHM),
    ("alg PS256", headed(alg="PS256"), ALGORITHM),
    ("alg EdDSA", headed(alg="EdDSA"), ALGORITHM),
    ("alg unheard of", headed(alg="ES256K"), ALGORITHM),
    ("alg of another kind of key", headed(alg="RS256"), KEY),
    ("HMAC with the public key", by_hmac(EC_KEY.public_pem()), ALGORITHM),
    ("HMAC with the public key, 512", by_hmac(EC_KEY.public_pem(), "HS512"), ALGORITHM),
    ("HMAC with the RSA key", by_hmac(RSA_KEY.public_pem()), ALGORITHM),
    ("HMAC with nothing", by_hmac(b""), ALGORITHM),
    ("crit", headed(crit=["exp"]), CRITICAL),
    ("crit of nothing", headed(crit=[]), CRITICAL),
    ("crit null", headed(crit=None), CRITICAL),
    ("crit with b64", headed(crit=["b64"], b64=False), CRITICAL),
    ("b64 alone", headed(b64=True), CRITICAL),
    ("zip", headed(zip="DEF"), MALFORMED),
    ("enc", headed(enc="A128GCM"), MALFORMED),
    ("no typ", headed(typ=...), TYPE),
    ("typ null", headed(typ=None), MALFORMED),
    ("typ of nothing", headed(typ=""), MALFORMED),
    ("typ a list", headed(typ=["at+jwt"]), MALFORMED),
    ("typ of an ID token", headed(typ="id+jwt"), TYPE),
    ("typ of a logout token", headed(typ="logout+jwt"), TYPE),
    ("typ of a DPoP proof", headed(typ="dpop+jwt"), TYPE),
    ("typ of a security event", headed(typ="secevent+jwt"), TYPE),
    ("typ JOSE", headed(typ="JOSE"), TYPE),
    ("typ with a blank", headed(typ="at+jwt "), TYPE),
    ("typ application/ twice", headed(typ="application/application/jwt"), TYPE),
    ("kid unknown", headed(kid="other"), KEY),
    ("kid in other case", headed(kid="TEST-KEY"), KEY),
    ("kid of another key", headed(kid="rsa"), KEY),
    ("kid a path", headed(kid="../../../dev/null"), KEY),
    ("kid an address", headed(kid="https://evil.example/jwks.json"), KEY),
    ("kid an injection", headed(kid="x' OR '1'='1"), KEY),
    ("kid null", headed(kid=None), MALFORMED),
    ("kid of nothing", headed(kid=""), MALFORMED),
    ("kid a number", headed(kid=7), MALFORMED),
    ("kid an object", headed(kid={"a": 1}), MALFORMED),
    ("kid with a line break", headed(kid="test-key\n"), MALFORMED),
    ("kid with an override", headed(kid="test-key\u202e"), MALFORMED),
    ("kid with a zero-width blank", headed(kid="test\u200b-key"), MALFORMED),
    ("kid very long", headed(kid="k" * 256), MALFORMED),
    # keys that a token brings along
    *(
        (f"forged with its own {name}", TokenMinter(key=STRANGER).mint(now=NOW, header=extra), SIGNATURE)
        for name, extra in OWN_KEYS.items()
    ),
    # the signature
    ("no signature", segments(lambda s: [s[0], s[1], ""]), SIGNATURE),
    ("a signature of another token", segments(lambda s: [*s[:2], claiming(sub="bob").split(".")[2]]), SIGNATURE),
    ("another payload", segments(lambda s: [s[0], claiming(sub="bob").split(".")[1], s[2]]), SIGNATURE),
    ("another header", segments(lambda s: [headed(typ="JWT").split(".")[0], *s[1:]]), SIGNATURE),
    ("another bit", flipped(signed(), -40), SIGNATURE),
    ("a signature that is too short", forged(b"\1" * 63), SIGNATURE),
    ("a signature that is too long", forged(b"\1" * 65), SIGNATURE),
    ("a signature in DER", forged(bytes.fromhex("3006020101020101")), SIGNATURE),
    ("zeros", forged(bytes(64)), SIGNATURE),
    ("r and s of 1", forged((1).to_bytes(32, "big") * 2), SIGNATURE),
    ("r and s of the order", forged(ORDER.to_bytes(32, "big") * 2), SIGNATURE),
    ("r zero", forged(bytes(32) + (1).to_bytes(32, "big")), SIGNATURE),
    ("s zero", forged((1).to_bytes(32, "big") + bytes(32)), SIGNATURE),
    ("RS256 of zeros", forged(bytes(256), alg="RS256", kid="rsa"), SIGNATURE),
    ("RS256 too short", forged(b"\1", alg="RS256", kid="rsa"), SIGNATURE),
    ("RS256 too long", forged(b"\1" * 257, alg="RS256", kid="rsa"), SIGNATURE),
    ("RS256 of nothing", forged(b"", alg="RS256", kid="rsa"), SIGNATURE),
    # who, and for whom
    ("no iss", claiming(iss=...), Reason.TOKEN_CLAIM_MISSING),
    ("iss null", claiming(iss=None), CLAIM),
    ("iss a list", claiming(iss=[MINTER.issuer]), CLAIM),
    ("iss with a slash", claiming(iss=MINTER.issuer + "/"), Reason.TOKEN_ISSUER_UNKNOWN),
    ("iss in other case", claiming(iss=MINTER.issuer.upper()), Reason.TOKEN_ISSUER_UNKNOWN),
    ("iss with a NUL", claiming(iss=MINTER.issuer + "\0"), Reason.TOKEN_ISSUER_UNKNOWN),
    ("iss with a blank", claiming(iss=" " + MINTER.issuer), Reason.TOKEN_ISSUER_UNKNOWN),
    ("iss of another host", claiming(iss="https://issuer.test.evil.example"), Reason.TOKEN_ISSUER_UNKNOWN),
    ("no aud", claiming(aud=...), Reason.TOKEN_CLAIM_MISSING),
    ("aud null", claiming(aud=None), CLAIM),
    ("aud of nothing", claiming(aud=""), CLAIM),
    ("aud an empty list", claiming(aud=[]), CLAIM),
    ("aud a number", claiming(aud=1), CLAIM),
    ("aud an object", claiming(aud={"test": True}), CLAIM),
    ("aud a list in a list", claiming(aud=[["test"]]), CLAIM),
    ("aud with a null beside", claiming(aud=["test", None]), CLAIM),
    ("aud another", claiming(aud="other"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud in other case", claiming(aud="TEST"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud a beginning", claiming(aud="tes"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud a longer one", claiming(aud="test2"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud a pattern", claiming(aud="*"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud with blanks", claiming(aud="test other"), Reason.TOKEN_AUDIENCE_WRONG),
    ("aud of a hundred and one", claiming(aud=["test"] + ["x"] * 100), CLAIM),
    # when
    ("no exp", claiming(exp=...), Reason.TOKEN_CLAIM_MISSING),
    *(
        (f"{name} {what}", raw(name, text), CLAIM)
        for name in ("exp", "nbf", "iat")
        for what, text in {
            "null": "null",
            "a text": '"1800000100"',
            "a text with underscores": '"1_800_000_100"',
            "a text with blanks": '" 1800000100 "',
            "Arabic digits": '"\u0661\u0668\u0660\u0660\u0660\u0660\u0660\u0661\u0660\u0660"',
            "true": "true",
            "false": "false",
            "a list": "[1800000100]",
            "an object": "{}",
            "beyond the calendar": "1e300",
            "negative": "-1",
            "in the year 10000": "253402300800",
        }.items()
    ),
    ("exp in the past", claiming(exp=NOW - 31, iat=NOW - 60), Reason.TOKEN_EXPIRED),
    ("exp at the end of the leeway", claiming(exp=NOW - 30, iat=NOW - 60), Reason.TOKEN_EXPIRED),
    ("exp zero", claiming(exp=0, iat=...), Reason.TOKEN_EXPIRED),
    ("exp in milliseconds", claiming(exp=int(NOW * 100)), Reason.TOKEN_LIFETIME_TOO_LONG),
    ("exp in a year", claiming(exp=NOW + 365 * 86_400), Reason.TOKEN_LIFETIME_TOO_LONG),
    ("exp in a year, without iat", claiming(exp=NOW + 365 * 86_400, iat=...), Reason.TOKEN_LIFETIME_TOO_LONG),
    ("issued long ago for long", claiming(iat=NOW - 365 * 86_400), Reason.TOKEN_LIFETIME_TOO_LONG),
    ("nbf later", claiming(nbf=NOW + 60), Reason.TOKEN_NOT_YET_VALID),
    ("iat later", claiming(iat=NOW + 60), Reason.TOKEN_NOT_YET_VALID),
    ("iat after exp", claiming(iat=NOW + 20, exp=NOW + 10), CLAIM),
    ("nbf at exp", claiming(nbf=NOW + 10, exp=NOW + 10), CLAIM),
    # the subject
    ("no sub", claiming(sub=...), Reason.TOKEN_CLAIM_MISSING),
    *(
        (f"sub {what}", claiming(sub=value), CLAIM)
        for what, value in {
            "null": None,
            "a number": 1,
            "a list": ["alice"],
            "true": True,
            "of nothing": "",
            "a blank": " ",
            "a no-break blank": "\u00a0",
            "with a blank before": " alice",
            "with a blank after": "alice ",
            "with a line break": "alice\nadmin",
            "with a carriage return": "alice\r",
            "with a tab": "alice\tadmin",
            "with a NUL": "alice\0",
            "with an escape": "\x1b[2Jalice",
            "with a delete": "alice\x7f",
            "with a C1 control": "alice\x85",
            "with a line separator": "alice\u2028x",
            "with an override": "alice\u202egnp",
            "with an isolate": "alice\u2066x",
            "with a zero-width blank": "ali\u200bce",
            "with a zero-width joiner": "ali\u200dce",
            "with a byte order mark": "\ufeffalice",
            "with a soft hyphen": "ali\u00adce",
            "with a tag character": "alice\U000e0041",
            "with a private character": "alice\ue000",
            "with an unassigned one": "alice\u0378",
            "with a no-break blank": "al\u00a0ice",
            "with an em blank": "al\u2003ice",
            "with a comma": "alice, role:admin",
            "with a quote": 'alice"',
            "a star": "*",
            "a pattern": "ali*",
            "another pattern": "ali?e",
            "a class": "[a-z]lice",
            "braces": "{alice}",
            "a backslash": "alice\\",
            "very long": "a" * 256,
            "a hundred kilobytes' beginning": "a" * 5000,
        }.items()
    ),
]


@pytest.mark.parametrize(("token", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_it_is_refused(token: str, reason: Reason) -> None:
    assert refusal(TokenAuthenticator([ISSUER]), token) is reason


def test_the_table_is_whole() -> None:
    names = [row[0] for row in TABLE]
    assert len(set(names)) == len(names) >= 150


def test_the_same_token_unharmed_is_accepted() -> None:
    authenticator = TokenAuthenticator([ISSUER])
    accepted = [
        signed(),
        headed(typ="JWT"),
        headed(typ="application/at+jwt"),
        headed(kid="test-key", x5t="AAAA", cty="x"),
        claiming(aud=["other", "test"]),
        claiming(exp=NOW + 300.5, iat=NOW - 0.5, nbf=0),
        claiming(sub="José Ångström 東京"),
        claiming(name="\U0001f600"),
        claiming(exp=NOW - 29, iat=NOW - 60),
    ]
    for token in accepted:
        assert authenticator.authenticate(BearerToken(token), NOW) is not None


def test_no_detail_repeats_a_token_or_breaks_a_line() -> None:
    for _, token, _ in TABLE:
        with pytest.raises(AuthenticationError) as caught:
            TokenAuthenticator([ISSUER]).authenticate(BearerToken(token), NOW)
        detail = caught.value.detail
        assert detail.isprintable()
        assert len(detail) < 400
        assert not token.split(".")[-1] or len(token) < 60 or token.split(".")[-1] not in detail
