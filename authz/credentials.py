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
_AUTHORIZATION = "authorization"
_FORWARDED = "x-forwarded-client-cert"
_KEYS = frozenset({_AUTHORIZATION, _FORWARDED})


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


@dataclass(frozen=True, slots=True, repr=False)
class ForwardedCertificate:
    """What a proxy says of the certificate that its own caller showed.

    It counts only if the peer is named for it in the configuration; else it is as if it had not been written.

    Args:
        text: the value of ``x-forwarded-client-cert``; the values of several such entries, joined with commas.
    """

    text: str

    def __repr__(self) -> str:
        return f"ForwardedCertificate(<{len(self.text)} characters>)"


@dataclass(frozen=True, slots=True)
class MalformedCredential:
    """Something was shown that cannot be read as a credential. It is refused, and never counts as anonymous."""

    reason: Reason
    detail: str = field(repr=False)


Credential: TypeAlias = BearerToken | ClientCertificate | ForwardedCertificate | MalformedCredential
Credentials: TypeAlias = Sequence[Credential]


def from_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Credentials:
    """The credentials in a call's metadata: of a token at most one, from exactly one ``authorization`` entry.

    Args:
        metadata: key and value pairs as gRPC delivers them; keys are lower case, ``-bin`` values are bytes.

    Returns:
        an empty tuple if nothing is there; a :class:`BearerToken` for an ``authorization`` entry, or a
        :class:`MalformedCredential` if it is repeated or is anything but ``Bearer <token>``; after it a
        :class:`ForwardedCertificate` if there are ``x-forwarded-client-cert`` entries.
    """
    shown = [entry for entry in metadata if entry[0] in _KEYS]
    if not shown:
        return ()
    authorization = [value for key, value in shown if key == _AUTHORIZATION]
    token = (_token(authorization),) if authorization else ()
    if len(authorization) == len(shown):
        return token
    forwarded = [value for key, value in shown if key == _FORWARDED]
    texts = [value for value in forwarded if isinstance(value, str)]
    if len(texts) < len(forwarded):
        return (*token, MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the forwarded certificate is not text"))
    return (*token, ForwardedCertificate(",".join(texts)))


def _token(shown: Sequence[str | bytes]) -> BearerToken | MalformedCredential:
    if len(shown) > 1:
        return MalformedCredential(Reason.CREDENTIAL_REPEATED, f"{len(shown)} authorization entries")
    value = shown[0]
    if isinstance(value, bytes):
        return MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the authorization entry is not text")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != _BEARER:
        return MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the authorization scheme is not Bearer")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        return MalformedCredential(Reason.CREDENTIAL_MALFORMED, "what follows Bearer is not one token")
    return BearerToken(token)
