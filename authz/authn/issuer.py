"""Issuer: who may sign tokens, with which keys, for whom, and what its tokens must be like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from authz.authn import base64url
from authz.authn.base import Principal, PrincipalKind
from authz.authn.conditions import Condition
from authz.authn.keys import Key, KeySet, KeySource
from authz.authn.pointer import ABSENT, Pointer
from authz.authn.subject import subject_problem
from authz.authn.token import UnverifiedToken
from authz.errors import AuthenticationError
from authz.reason import Reason

_LATEST = 253_402_300_799  # the last second of the year 9999
_TEXT_LIMIT = 1024
_AUDIENCES_LIMIT = 100
SUBJECT = Pointer("sub")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Issuer:
    """An issuer of tokens.

    Attributes:
        name: its name in the configuration, in principals and in records.
        issuer: what ``iss`` must be, to the letter.
        audiences: ``aud`` must name at least one of these.
        algorithms: what ``alg`` may be.
        keys: where its keys come from.
        prefix: what its subjects begin with in policy; no issuer's or authority's prefix begins with another's.
        types: what ``typ`` may be, in lower case and without ``application/``.
        type_required: whether a token without a ``typ`` is refused.
        subject: where the claims set names the caller.
        leeway: how far clocks may be apart, in seconds.
        max_lifetime: how long a token may live, in seconds, both from its ``iat`` and from now.
        conditions: what must hold of every token's claims set.
    """

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    keys: KeySource
    prefix: str
    types: frozenset[str] = frozenset({"at+jwt", "jwt"})
    type_required: bool = True
    subject: Pointer = SUBJECT
    leeway: float = 30.0
    max_lifetime: float = 86_400.0
    conditions: Sequence[Condition] = ()

    def verify(self, token: UnverifiedToken, claims: dict[str, object], now: float) -> tuple[Principal, KeySet]:
        """Prove that this issuer signed ``token`` and that it is good at ``now``.

        Args:
            token: the token.
            claims: its claims set; ``iss`` in it has been matched already.
            now: seconds since the epoch.

        Returns:
            the principal, and the key set that it was proven with.

        Raises:
            AuthenticationError: TOKEN_ALGORITHM_REFUSED, TOKEN_TYPE_REFUSED, KEYS_UNAVAILABLE, TOKEN_KEY_UNKNOWN,
                TOKEN_SIGNATURE_WRONG, TOKEN_CLAIM_MISSING, TOKEN_CLAIM_MALFORMED, TOKEN_AUDIENCE_WRONG, TOKEN_EXPIRED,
                TOKEN_NOT_YET_VALID, TOKEN_LIFETIME_TOO_LONG, TOKEN_CONDITION_FAILED or TOKEN_BINDING_UNSUPPORTED.
        """
        self.check_algorithm(token)
        self.check_type(token)
        keys = self.key_set(now)
        key = self.check_signature(token, keys)
        expires_at = self.check_times(claims, now)
        self.check_audience(claims)
        self.check_conditions(claims)
        principal = Principal(
            kind=PrincipalKind.TOKEN,
            issuer=self.name,
            subject=self.subject_of(claims),
            prefix=self.prefix,
            expires_at=expires_at,
            attributes=MappingProxyType(claims),
            key_id=key.id or "",
            fingerprint=bound_to(claims),
        )
        return principal, keys

    def check_algorithm(self, token: UnverifiedToken) -> None:
        """Refuse an ``alg`` that is not this issuer's."""
        if token.algorithm not in self.algorithms:
            known = ", ".join(sorted(self.algorithms))
            detail = f"`alg` is {token.algorithm!r}; the issuer {self.name} signs with {known}"
            raise AuthenticationError(Reason.TOKEN_ALGORITHM_REFUSED, detail)

    def check_type(self, token: UnverifiedToken) -> None:
        """Refuse a ``typ`` that is not an access token's."""
        if token.type not in self.types and (token.type is not None or self.type_required):
            detail = f"`typ` is {token.type!r}; the issuer {self.name}'s tokens have {', '.join(sorted(self.types))}"
            raise AuthenticationError(Reason.TOKEN_TYPE_REFUSED, detail)

    def key_set(self, now: float) -> KeySet:
        """The issuer's keys, if there are any."""
        keys = self.keys.current(now)
        if keys is None:
            raise AuthenticationError(Reason.KEYS_UNAVAILABLE, f"there are no keys of the issuer {self.name}")
        return keys

    def check_signature(self, token: UnverifiedToken, keys: KeySet) -> Key:
        """The key among ``keys`` that signed the token."""
        candidates = keys.find(token.key_id, token.algorithm)
        if not candidates:
            self.keys.missed(token.key_id)
            named = "without `kid`" if token.key_id is None else f"with the `kid` {token.key_id!r}"
            detail = f"the issuer {self.name} has no one key for a {token.algorithm} token {named}"
            raise AuthenticationError(Reason.TOKEN_KEY_UNKNOWN, detail)
        for key in candidates:
            if key.verifies(token.algorithm, token.signed, token.signature):
                return key
        raise AuthenticationError(Reason.TOKEN_SIGNATURE_WRONG, f"the signature is not the issuer {self.name}'s")

    def check_times(self, claims: Mapping[str, object], now: float) -> float:
        """When the token ends, leeway included, if it is good at ``now`` and does not live too long."""
        expiry, earliest, issued = _time(claims, "exp"), _time(claims, "nbf"), _time(claims, "iat")
        if expiry is None:
            raise AuthenticationError(Reason.TOKEN_CLAIM_MISSING, "`exp` is missing")
        if now >= expiry + self.leeway:
            raise AuthenticationError(Reason.TOKEN_EXPIRED, f"the token expired {now - expiry:.0f} s ago")
        for name, begin in (("nbf", earliest), ("iat", issued)):
            if begin is None:
                continue
            if begin > now + self.leeway:
                detail = f"the token is not good before {begin - now:.0f} s from now (`{name}`)"
                raise AuthenticationError(Reason.TOKEN_NOT_YET_VALID, detail)
            if begin >= expiry:
                raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, f"`{name}` is not before `exp`")
        lifetime = max(expiry - (expiry if issued is None else issued), expiry - now - self.leeway)
        if lifetime > self.max_lifetime:
            detail = f"the token lives for {lifetime:.0f} s, longer than {self.max_lifetime:.0f} s"
            raise AuthenticationError(Reason.TOKEN_LIFETIME_TOO_LONG, detail)
        return expiry + self.leeway

    def check_audience(self, claims: Mapping[str, object]) -> None:
        """Refuse a token that is for somebody else."""
        audience = claims.get("aud", ABSENT)
        if audience is ABSENT:
            raise AuthenticationError(Reason.TOKEN_CLAIM_MISSING, "`aud` is missing")
        named = audience if isinstance(audience, list) else [audience]
        if not 1 <= len(named) <= _AUDIENCES_LIMIT or not all(_is_text(name) for name in named):
            detail = f"`aud` is neither a text nor a list of 1 to {_AUDIENCES_LIMIT} texts"
            raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, detail)
        if self.audiences.isdisjoint(named):
            detail = f"`aud` names none of {', '.join(sorted(self.audiences))}"
            raise AuthenticationError(Reason.TOKEN_AUDIENCE_WRONG, detail)

    def check_conditions(self, claims: Mapping[str, object]) -> None:
        """Refuse a token for which one of the issuer's conditions does not hold."""
        token_id = claims.get("jti", "")
        if not isinstance(token_id, str) or len(token_id) > _TEXT_LIMIT:
            # what a revocation list names must be there as text, or not at all
            raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, "`jti` is not text")
        for condition in self.conditions:
            if not condition.holds(claims):
                detail = f"the issuer {self.name} requires that {condition.text}"
                raise AuthenticationError(Reason.TOKEN_CONDITION_FAILED, detail)

    def subject_of(self, claims: Mapping[str, object]) -> str:
        """The caller's name."""
        value = self.subject.find(claims)
        if value is ABSENT:
            raise AuthenticationError(Reason.TOKEN_CLAIM_MISSING, f"`{self.subject.text}` is missing")
        problem = subject_problem(value)
        if problem or not isinstance(value, str):
            raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, f"`{self.subject.text}` {problem}")
        return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _TEXT_LIMIT


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate: a JSON number of seconds since the epoch, and no text or boolean that looks like one."""
    value = claims.get(name, ABSENT)
    if value is ABSENT:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        detail = f"`{name}` is not a number of seconds from 1970 to the year 9999"
        raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, detail)
    return float(value)


def bound_to(claims: Mapping[str, object]) -> str:
    """SHA-256 (hex) of the certificate that must be shown with the token (RFC 8705, section 3.1); empty: none."""
    if "cnf" not in claims:
        return ""
    binding = claims["cnf"]
    if not isinstance(binding, dict) or list(binding) != ["x5t#S256"]:
        # Whoever bound the token to something else relies on somebody to check that.
        detail = "the token is bound to its holder (`cnf`) by something else than a certificate's `x5t#S256`"
        raise AuthenticationError(Reason.TOKEN_BINDING_UNSUPPORTED, detail)
    text = binding["x5t#S256"]
    try:
        digest = base64url.decode(text.encode("ascii")) if isinstance(text, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, "`x5t#S256` in `cnf` is not a SHA-256 in base64url")
    return digest.hex()
