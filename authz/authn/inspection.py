"""Inspection: each check of a token with its outcome, for the person who wonders why it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from authz.authn.base import Principal
from authz.authn.issuer import Issuer, bound_to
from authz.authn.jwt import TokenAuthenticator
from authz.authn.token import read_token
from authz.credentials import BearerToken
from authz.errors import AuthenticationError
from authz.reason import Reason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        reason: the reason for which it would refuse the token; None: it passed.
        detail: why it refuses, or what it found. Nothing of it could be used as a token.
    """

    name: str
    reason: Reason | None
    detail: str


@dataclass(slots=True)
class Inspection:
    """A token, looked at from all sides; the checks go on after one that refuses.

    Attributes:
        checks: in the order in which a call's token is checked; the first that refuses gives the call's reason.
        issuer: the issuer that the token names, if it is configured.
        principal: whom the token proves; None: nobody.
    """

    checks: list[Check] = field(default_factory=list)
    issuer: Issuer | None = None
    principal: Principal | None = None

    @property
    def reason(self) -> Reason | None:
        """The reason for which a call with the token is refused; None: it is not."""
        return next((check.reason for check in self.checks if check.reason is not None), None)

    def attempt(self, name: str, check: Callable[[], T], found: Callable[[T], str]) -> T | None:
        """Make one check and note what comes of it; what it gives, or None if it refuses."""
        try:
            value = check()
        except AuthenticationError as exc:
            self.checks.append(Check(name, exc.reason, exc.detail))
            return None
        self.checks.append(Check(name, None, found(value)))
        return value


def inspect(text: str, tokens: TokenAuthenticator, now: float) -> Inspection:
    """Check the token ``text`` as ``tokens`` would at ``now``, one check after the other."""
    seen = Inspection()
    token = seen.attempt(
        "header",
        lambda: read_token(text, tokens.max_token_bytes),
        lambda t: f"alg {t.algorithm}, typ {t.type or 'absent'}, kid {t.key_id or 'absent'}",
    )
    if token is None:
        return seen
    claims = seen.attempt("payload", token.claims, lambda c: f"claims: {', '.join(sorted(map(repr, c)))}"[:400])
    if claims is None:
        return seen
    issuer = seen.attempt("issuer", lambda: tokens.issuer_of(claims), lambda i: f"{i.name}: {i.issuer}")
    if issuer is None:
        return seen
    seen.issuer = issuer
    seen.attempt("algorithm", lambda: issuer.check_algorithm(token), lambda _: _one_of(issuer.algorithms))
    seen.attempt("type", lambda: issuer.check_type(token), lambda _: _one_of(issuer.types))
    keys = seen.attempt("keys", lambda: issuer.key_set(now), lambda k: f"{len(k.keys)} in use")
    if keys is not None:
        seen.attempt(
            "signature", lambda: issuer.check_signature(token, keys), lambda k: f"by the key {k.id or '(no name)'}"
        )
    seen.attempt("times", lambda: issuer.check_times(claims, now), lambda end: f"good for {end - now:.0f} s more")
    seen.attempt("audience", lambda: issuer.check_audience(claims), lambda _: _one_of(issuer.audiences))
    seen.attempt("conditions", lambda: issuer.check_conditions(claims), lambda _: f"{len(issuer.conditions)} hold")
    seen.attempt("subject", lambda: issuer.subject_of(claims), lambda subject: subject)
    seen.attempt(
        "binding",
        lambda: bound_to(claims),
        lambda bound: f"to the certificate {bound}" if bound else "to no certificate",
    )
    if seen.reason is None:
        # everything above holds: what is left is what only the authenticator itself can say
        seen.principal = seen.attempt(
            "revocation", lambda: tokens.authenticate(BearerToken(text), now), lambda _: "none"
        )
    return seen


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(sorted(names))}"
