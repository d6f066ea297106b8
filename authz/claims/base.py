"""Claims: a principal's roles, and ClaimMapper: what finds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from authz.authn.base import Principal

_ROLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NONE: Mapping[str, frozenset[str]] = MappingProxyType({})

ROLE_RULE = "1 to 128 ASCII letters, digits, '_', '.' and '-', not starting with '.' or '-'"
EVERYONE = "everyone"
AUTHENTICATED = "authenticated"
RESERVED_ROLES = frozenset({EVERYONE, AUTHENTICATED})
"""Roles that the decision room itself gives: every caller is ``everyone``, every proven one ``authenticated``."""


def is_role(text: str) -> bool:
    """Whether ``text`` can be the name of a role that a mapper grants: :data:`ROLE_RULE`, and not reserved."""
    return _ROLE.fullmatch(text) is not None and text not in RESERVED_ROLES


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """A principal's roles. Compared by identity, like the principal.

    Attributes:
        principal: whose.
        system: roles that hold everywhere.
        namespaces: namespace -> roles that hold there and nowhere else. Names only, never patterns.
        expires_at: when the roles end, in seconds since the epoch, and the mapper is asked again; None: with the
            principal.
        used: names of the claims or certificate fields that granted something, for the audit record.
        notes: what granted nothing although it was there, and why, for the person who looks for a missing role.
    """

    principal: Principal
    system: frozenset[str] = frozenset()
    namespaces: Mapping[str, frozenset[str]] = field(default_factory=lambda: _NONE)
    expires_at: float | None = None
    used: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), repr=False)


class ClaimMapper(Protocol):
    """Maps a proven principal to roles. Thread-safe, no I/O."""

    def map(self, principal: Principal) -> Claims:
        """The claims of ``principal``; no roles at all is a good answer.

        Raises:
            MappingError: what the credential says of the caller cannot be mapped, so the caller is refused.
        """
        ...
