"""Principal: the proven caller, and Authenticator: what proves one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from authz.credentials import Credential

_NOTHING: Mapping[str, object] = MappingProxyType({})


class PrincipalKind(StrEnum):
    """What proved the principal."""

    TOKEN = "token"
    CERTIFICATE = "certificate"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """The proven caller.

    Two principals are compared by identity: an authenticator that remembers a credential returns the same object
    again, and every later room may remember what it worked out for that object.

    Attributes:
        kind: what proved it.
        issuer: the ``name`` of the issuer or certificate authority in the configuration (not its URL).
        subject: who, within that issuer.
        prefix: what sets this issuer's subjects apart from every other issuer's.
        expires_at: when the proof ends, in seconds since the epoch; None: it does not.
        attributes: what the credential says of the caller: a token's claims set, or a certificate's names. Never
            logged, and never shown by repr.
        key_id: the ``kid`` of the key that verified a token.
        fingerprint: SHA-256 of the certificate (hex), for a certificate or a token bound to one.
    """

    kind: PrincipalKind
    issuer: str
    subject: str
    prefix: str = ""
    expires_at: float | None = None
    attributes: Mapping[str, object] = field(default_factory=lambda: _NOTHING, repr=False)
    key_id: str = ""
    fingerprint: str = ""

    @property
    def id(self) -> str:
        """The policy subject, ``user:<prefix><subject>``."""
        return f"user:{self.prefix}{self.subject}"


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, "", "anonymous")
"""The caller who showed nothing, where the configuration lists the method as open to that."""


class Authenticator(Protocol):
    """Proves credentials of the kinds that it knows. Thread-safe, no network I/O, no waiting."""

    def authenticate(self, credential: Credential, now: float) -> Principal | None:
        """Prove one credential.

        Args:
            credential: what was shown.
            now: seconds since the epoch.

        Returns:
            the principal, valid at ``now``, or None if this authenticator does not handle this kind of credential.

        Raises:
            AuthenticationError: the credential is of a kind that this authenticator handles, and is refused.
        """
        ...
