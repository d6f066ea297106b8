"""Recognized: callers who were proven lately, for whom a server need not take care before it has read their message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_LIMIT: Final = 16_384
_AUTHORIZATION: Final = "authorization"
_FORWARDED: Final = "x-forwarded-client-cert"

Metadata = Iterable[tuple[str, str | bytes]]


class Recognized:
    """Knows by a hash who has shown a token that was good. A hint that costs next to nothing, and no proof.

    What a hint saves is a wait; every call is proven again. Thread-safe.

    Args:
        without_token: what to say of a caller who shows no token: where a certificate counts as a credential, the
            connection has one, or it has not.
    """

    def __init__(self, *, without_token: bool) -> None:
        self._without_token = without_token
        self._hashes: set[int] = set()

    def __contains__(self, metadata: Metadata) -> bool:
        """Whether the caller who sent ``metadata`` was proven lately."""
        shown = None
        for key, value in metadata:
            if key == _FORWARDED or (key == _AUTHORIZATION and shown is not None):
                return False
            if key == _AUTHORIZATION:
                shown = value
        return self._without_token if shown is None else hash(shown) in self._hashes

    def add(self, metadata: Metadata) -> None:
        """The caller who sent ``metadata`` is proven."""
        if len(self._hashes) >= _LIMIT:
            self._hashes = set()
        self._hashes.update(hash(value) for key, value in metadata if key == _AUTHORIZATION)
