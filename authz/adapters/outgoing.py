"""Outgoing: the metadata for the server behind: what passes, what does not, what is added of the proven caller."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from typing import Final, TypeAlias
from urllib.parse import quote

import jwt

from authz.claims.base import Claims
from authz.config.serve import Forward, SignedIdentity
from authz.decision.base import Decision

Pair: TypeAlias = tuple[str, str | bytes]
Pairs: TypeAlias = Iterable[Pair]

# of one connection, or made anew by the proxy's own client
_HOP: Final = frozenset(
    {
        "connection", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
# what a server might take for an identity that somebody proved
_IDENTITY: Final = (
    "x-authz-", "x-forwarded-client-cert", "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups",
    "x-forwarded-preferred-username", "x-forwarded-access-token", "x-auth-request-", "x-remote-user", "x-remote-group",
    "x-remote-extra-",
)  # fmt: skip
_PASSED: Final = frozenset({"grpc-trace-bin", "grpc-tags-bin"})
_REMEMBERED: Final = 10_000
_KEY: Final = re.compile(r"[0-9a-z_.-]{1,256}")
_VISIBLE: Final = "!#$&'()*+,/:;=?@[]~-._|"


class Outgoing:
    """Makes the metadata of the call to the server behind.

    Args:
        forward: what is told of the caller, and what no client may send.

    Attributes:
        never: keys that no client may send, as far as they can be listed.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        own = [forward.principal, forward.roles, forward.audit_id, forward.signed.header if forward.signed else ""]
        exact = {key for key in (*own, *forward.strip) if key and not key.endswith("*")}
        self.never = frozenset(exact | (set() if forward.authorization else {"authorization"}))
        self._never = frozenset(map(hyphenated, self.never))
        prefixes = (key[:-1] for key in forward.strip if key.endswith("*"))
        self._prefixes = tuple({*_IDENTITY, *map(hyphenated, prefixes)})
        self._seen: dict[str, bool] = {}
        self._signer = Signer(forward.signed) if forward.signed else None

    def make(self, incoming: Pairs, decision: Decision, namespaces: Collection[str | None]) -> list[Pair]:
        """The metadata to send.

        Args:
            incoming: what the client sent.
            decision: the allow.
            namespaces: in which the call was allowed.

        Raises:
            ValueError: an entry's value is no text that metadata may hold; the text is for the client.
        """
        seen = self._seen
        pairs = [pair for pair in incoming if (seen[pair[0]] if pair[0] in seen else self._passes(pair[0]))]
        for key, value in pairs:
            # gRPC would neither send it nor say so: the call would hang
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise ValueError(f"the value of the metadata entry {key} is not printable ASCII")
        pairs += self.identity(decision, namespaces)
        return pairs

    def identity(self, decision: Decision, namespaces: Collection[str | None]) -> list[Pair]:
        """What is told of the caller."""
        forward = self._forward
        told: list[Pair] = []
        if forward.audit_id:
            told.append((forward.audit_id, decision.audit_id))
        if decision.principal is not None and decision.claims is not None:
            if forward.principal:
                told.append((forward.principal, printable(decision.principal.id)))
            if forward.roles:
                told.append((forward.roles, ",".join(roles(decision.claims, namespaces))))
            if self._signer is not None:
                told.append((self._signer.header, self._signer.sign(decision.claims, namespaces)))
        return told

    def forged(self, key: str) -> bool:
        """Whether a client may not send this key: it speaks of an identity."""
        spelled = hyphenated(key)
        return spelled in self._never or spelled.startswith(self._prefixes)

    def _passes(self, key: str) -> bool:
        passes = (
            _KEY.fullmatch(key) is not None
            and hyphenated(key) not in _HOP
            and not self.forged(key)
            and (not key.startswith(("grpc-", ":")) or key in _PASSED)
        )
        if len(self._seen) < _REMEMBERED:
            self._seen[key] = passes
        return passes


class Signer:
    """Signs tokens that tell the server behind who calls. A token is used again for half of its life.

    Raises:
        ValueError: the key does not fit the algorithm.
    """

    def __init__(self, settings: SignedIdentity) -> None:
        self.header = settings.header
        self._settings = settings
        self._made: dict[tuple[int, tuple[str, ...]], tuple[Claims, float, str]] = {}
        try:
            jwt.encode({}, settings.key, settings.algorithm)
        except Exception as exc:
            message = f"`signed.key_file` is no private key for {settings.algorithm}: {type(exc).__name__}"
            raise ValueError(message) from None

    def sign(self, claims: Claims, namespaces: Collection[str | None]) -> str:
        """A token for the caller with ``claims``, naming the roles that count in ``namespaces``."""
        held = roles(claims, namespaces)
        key = id(claims), tuple(held)
        now = time.time()
        made = self._made.get(key)
        if made is not None and made[0] is claims and now < made[1]:
            return made[2]
        settings, principal = self._settings, claims.principal
        ends = [end for end in (principal.expires_at, claims.expires_at) if end is not None]
        expires = min(now + settings.lifetime, *ends) if ends else now + settings.lifetime
        content = {
            "iss": settings.issuer, "aud": settings.audience, "sub": principal.id, "roles": held,
            "iat": int(now), "exp": int(max(expires, now + 1)),
        }  # fmt: skip
        headers = {"kid": settings.key_id} if settings.key_id else None
        token = jwt.encode(content, settings.key, settings.algorithm, headers)
        if len(self._made) >= _REMEMBERED:
            self._made.clear()
        self._made[key] = (claims, now + (expires - now) / 2, token)
        return token


def roles(claims: Claims, namespaces: Collection[str | None]) -> list[str]:
    """The roles that count for a call: ``admin`` system-wide, ``writer@orders`` in a namespace of the call."""
    here = [f"{role}@{name}" for name in namespaces if name for role in claims.namespaces.get(name, ())]
    return sorted(claims.system) + sorted(here)


def hyphenated(key: str) -> str:
    """``key`` as servers see it that make variables of headers: to them ``_`` and ``-`` are one."""
    return key.replace("_", "-")


def printable(text: str) -> str:
    """``text`` percent-encoded as far as metadata needs it: the rest of ASCII stays as it is, ``%`` becomes ``%25``."""
    return quote(text, safe=_VISIBLE)
