"""TokenAuthenticator: proves bearer tokens that are JSON web tokens, and remembers which it has proven."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from authz.authn.base import Principal
from authz.authn.issuer import Issuer
from authz.authn.keys import KeySet
from authz.authn.memory import Memory
from authz.authn.token import read_token
from authz.credentials import BearerToken, Credential
from authz.errors import AuthenticationError
from authz.reason import Reason

DEFAULT_TOKEN_BYTES: Final = 8192
DEFAULT_REMEMBERED: Final = 10_000


class TokenAuthenticator:
    """Proves the tokens of its issuers.

    A token that was proven is remembered by its SHA-256 until it expires or its issuer's key set is another; the same
    principal is returned for it.

    Args:
        issuers: each with its own ``name``, ``issuer`` and ``prefix``.
        max_token_bytes: longer tokens are refused unread.
        remembered: how many proven tokens are remembered, at most.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        max_token_bytes: int = DEFAULT_TOKEN_BYTES,
        remembered: int = DEFAULT_REMEMBERED,
    ) -> None:
        self.issuers = tuple(issuers)
        self._by_claim = {issuer.issuer: issuer for issuer in self.issuers}
        if len(self._by_claim) != len(self.issuers):
            raise ValueError("two issuers have the same `issuer`")
        self._max_bytes = max_token_bytes
        self._proven: Memory[bytes, tuple[Principal, float, Issuer, KeySet]] = Memory(remembered)

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """Prove a :class:`BearerToken`. See :class:`authz.authn.base.Authenticator`."""
        if not isinstance(credential, BearerToken):
            return None
        text = credential.value
        if len(text) > self._max_bytes:
            raise AuthenticationError(Reason.TOKEN_TOO_LARGE, f"the token is longer than {self._max_bytes} bytes")
        # Text that cannot be encoded is refused by the reader; here it only must not be mistaken for other text.
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._proven.get(digest)
        if found is not None:
            principal, expires_at, issuer, keys = found
            if now < expires_at and issuer.keys.current(now) is keys:
                return principal
        token = read_token(text, self._max_bytes)
        claims = token.claims()
        issuer = self._issuer(claims)
        principal, keys = issuer.verify(token, claims, now)
        self._proven.put(digest, (principal, principal.expires_at or 0.0, issuer, keys))
        return principal

    def remembers(self, token: BearerToken) -> bool:
        """Whether ``token`` was proven and is not forgotten. It may have expired since: this is no proof."""
        return sha256(token.value.encode("utf-8", "surrogatepass")).digest() in self._proven

    def _issuer(self, claims: dict[str, object]) -> Issuer:
        named = claims.get("iss")
        if "iss" not in claims:
            raise AuthenticationError(Reason.TOKEN_CLAIM_MISSING, "`iss` is missing")
        if not isinstance(named, str):
            raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, "`iss` is not text")
        issuer = self._by_claim.get(named)
        if issuer is None:
            raise AuthenticationError(Reason.TOKEN_ISSUER_UNKNOWN, f"`iss` is {named[:255]!r}, which is not configured")
        return issuer
