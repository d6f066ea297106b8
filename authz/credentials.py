"""Credentials: what a caller showed. Nothing here is proven; ``authn`` proves it.

The representation of a credential is redacted, so that none reaches a log by accident.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from authz.reason import Reason

_BEARER = "bearer"


@dataclass(frozen=True, slots=True, repr=False)
class BearerToken:
    """A token from ``authorization: Bearer <value>``.

    Args:
        value: the token alone, without the scheme.
    """

    value: str

    def __repr__(self) -> str:
        return f"BearerToken(<{len(self.value)} characters>)"


@dataclass(frozen=True, slots=True, repr=False)
class ClientCertificate:
    """The leaf certificate of a mutual TLS connection, on which the peer has proven the private key.

    Args:
        pem: the certificate in PEM, as ``auth_context()["x509_pem_cert"][0]`` gives it.
    """

    pem: bytes

    def __repr__(self) -> str:
        return f"ClientCertificate(sha256={hashlib.sha256(self.pem).hexdigest()[:12]})"


@dataclass(frozen=True, slots=True)
class MalformedCredential:
    """Something was shown that cannot be read as a credential. It is refused, and never counts as anonymous."""

    reason: Reason
    detail: str = field(repr=False)


Credential: TypeAlias = BearerToken | ClientCertificate | MalformedCredential
Credentials: TypeAlias = Sequence[Credential]


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Credentials:
    """The credentials in a call's metadata: at most one, from exactly one ``authorization`` entry.

    Args:
        metadata: key and value pairs as gRPC delivers them; keys are lower case, ``-bin`` values are bytes.

    Returns:
        an empty tuple if there is no ``authorization`` entry, a :class:`BearerToken`, or a
        :class:`MalformedCredential` if the entry is repeated or is anything but ``Bearer <token>``.
    """
    shown = [value for key, value in metadata if key == "authorization"]
    if not shown:
        return ()
    if len(shown) > 1:
        return (MalformedCredential(Reason.CREDENTIAL_REPEATED, f"{len(shown)} authorization entries"),)
    value = shown[0]
    if isinstance(value, bytes):
        return (MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the authorization entry is not text"),)
    scheme, _, token = value.partition(" ")
    if scheme.lower() != _BEARER:
        return (MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the authorization scheme is not Bearer"),)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        return (MalformedCredential(Reason.CREDENTIAL_MALFORMED, "what follows Bearer is not one token"),)
    return (BearerToken(token),)
