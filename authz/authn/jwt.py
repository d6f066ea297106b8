"""TokenAuthenticator: proves bearer tokens that are JSON web tokens, and remembers which it has proven."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeAlias

from authz.authn.background import WatchedFile
from authz.authn.base import Principal
from authz.authn.issuer import Issuer
from authz.authn.keys import KeySet, KeySource
from authz.authn.memory import Memory
from authz.authn.revocation import NOTHING_REVOKED, Revocations
from authz.authn.token import read_token
from authz.credentials import BearerToken, Credential
from authz.errors import AuthenticationError
from authz.reason import Reason

DEFAULT_TOKEN_BYTES: Final = 8192
DEFAULT_REMEMBERED: Final = 10_000

# A principal, when it ends, where its keys are from, the key set that it was proven with and the revocations that it
# was compared with. Both are immutable: as long as they are the same objects, what they said still holds.
_Proven: TypeAlias = tuple[Principal, float, KeySource, KeySet, Revocations]


class _NeverRevoked:
    value: Final = NOTHING_REVOKED


class TokenAuthenticator:
    """Proves the tokens of its issuers.

    A token that was proven is remembered by its SHA-256 until it expires, its issuer's key set is another or the
    revocations are; the same principal is returned for it.

    Args:
        issuers: each with its own ``name``, ``issuer`` and ``prefix``.
        max_token_bytes: longer tokens are refused unread.
        remembered: how many proven tokens are remembered, at most.
        revocations: what is revoked at the moment; None: nothing ever.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        max_token_bytes: int = DEFAULT_TOKEN_BYTES,
        remembered: int = DEFAULT_REMEMBERED,
        revocations: WatchedFile[Revocations] | None = None,
    ) -> None:
        self.issuers = tuple(issuers)
        self._by_claim = {issuer.issuer: issuer for issuer in self.issuers}
        if len(self._by_claim) != len(self.issuers):
            raise ValueError("two issuers have the same `issuer`")
        self.max_token_bytes = max_token_bytes
        self.revocations = revocations or _NeverRevoked()
        self._proven: Memory[bytes, _Proven] = Memory(remembered)

    @property
    def memory(self) -> Memory[bytes, _Proven]:
        """What is remembered, for metrics."""
        return self._proven

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """Prove a :class:`BearerToken`. See :class:`authz.authn.base.Authenticator`."""
        if not isinstance(credential, BearerToken):
            return None
        text = credential.value
        if len(text) > self.max_token_bytes:
            raise AuthenticationError(Reason.TOKEN_TOO_LARGE, f"the token is longer than {self.max_token_bytes} bytes")
        try:
            digest = sha256(text.encode("ascii")).digest()
        except UnicodeEncodeError:
            raise AuthenticationError(Reason.TOKEN_MALFORMED, "the token is not ASCII") from None
        revocations = self.revocations.value
        found = self._proven.get(digest)
        if found is not None:
            principal, expires_at, source, keys, checked = found
            if now < expires_at and source.current(now) is keys and revocations is checked:
                return principal
        token = read_token(text, self.max_token_bytes)
        claims = token.claims()
        issuer = self.issuer_of(claims)
        principal, keys = issuer.verify(token, claims, now)
        revocations.check(principal)
        self._proven.put(digest, (principal, principal.expires_at or 0.0, issuer.keys, keys, revocations))
        return principal

    def remembers(self, token: BearerToken) -> bool:
        """Whether ``token`` was proven and is not forgotten. It may have expired since: this is no proof."""
        return sha256(token.value.encode("utf-8", "surrogatepass")).digest() in self._proven

    def issuer_of(self, claims: dict[str, object]) -> Issuer:
        """The configured issuer that ``iss`` names.

        Raises:
            AuthenticationError: TOKEN_CLAIM_MISSING, TOKEN_CLAIM_MALFORMED or TOKEN_ISSUER_UNKNOWN.
        """
        named = claims.get("iss")
        if "iss" not in claims:
            raise AuthenticationError(Reason.TOKEN_CLAIM_MISSING, "`iss` is missing")
        if not isinstance(named, str):
            raise AuthenticationError(Reason.TOKEN_CLAIM_MALFORMED, "`iss` is not text")
        issuer = self._by_claim.get(named)
        if issuer is None:
            raise AuthenticationError(Reason.TOKEN_ISSUER_UNKNOWN, f"`iss` is {named[:255]!r}, which is not configured")
        return issuer
