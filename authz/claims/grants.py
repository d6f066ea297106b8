"""Grants: what the rules find for one principal, under the ceiling of its issuer. Everything only ever adds."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from authz.authn.base import Principal
from authz.call import is_namespace
from authz.claims.base import Claims, is_role

_NOTES_LIMIT: Final = 20


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that an issuer or authority can grant.

    A role that holds everywhere reaches every namespace, so a ceiling on namespaces leaves no system-wide role, unless
    ``system_roles`` names it.

    Attributes:
        namespaces: names, or beginnings of names with a ``*`` at the end; None: every namespace.
        roles: the roles; None: every role.
        system_roles: the roles that may hold system-wide; None: all of ``roles`` if ``namespaces`` is None, else none.
    """

    namespaces: tuple[str, ...] | None = None
    roles: frozenset[str] | None = None
    system_roles: frozenset[str] | None = None

    def allows(self, role: str, namespace: str | None) -> bool:
        """Whether ``role`` may be granted in ``namespace`` (None: system-wide)."""
        if self.roles is not None and role not in self.roles:
            return False
        if namespace is None:
            return self.namespaces is None if self.system_roles is None else role in self.system_roles
        return self.namespaces is None or any(
            namespace.startswith(name[:-1]) if name.endswith("*") else namespace == name for name in self.namespaces
        )


class Grants:
    """Collects the grants for one principal.

    Args:
        ceiling: what goes beyond it is not granted, and noted.
    """

    def __init__(self, ceiling: Ceiling) -> None:
        self._ceiling = ceiling
        self._system: set[str] = set()
        self._namespaces: dict[str, set[str]] = {}
        self._used: dict[str, None] = {}
        self._notes: list[str] = []

    def add(self, role: str, namespace: str | None, source: str) -> None:
        """Grant ``role`` in ``namespace`` (None: system-wide), because of the claim or field ``source``."""
        if not is_role(role) or not (namespace is None or is_namespace(namespace)):
            self.note(f"{source}: not a role name with a namespace name")
            return
        if not self._ceiling.allows(role, namespace):
            where = "system-wide" if namespace is None else f"in {namespace}"
            self.note(f"{source}: {role} {where} is above what the issuer can grant")
            return
        (self._system if namespace is None else self._namespaces.setdefault(namespace, set())).add(role)
        self._used[source] = None

    def note(self, text: str) -> None:
        """Remember why something granted nothing."""
        if len(self._notes) < _NOTES_LIMIT:
            self._notes.append(text)

    def claims(self, principal: Principal) -> Claims:
        """What was collected, for ``principal``."""
        namespaces = {name: frozenset(roles) for name, roles in self._namespaces.items()}
        return Claims(
            principal=principal,
            system=frozenset(self._system),
            namespaces=MappingProxyType(namespaces),
            expires_at=principal.expires_at,
            used=tuple(self._used),
            notes=tuple(self._notes),
        )


def is_namespace_pattern(text: str) -> bool:
    """Whether ``text`` can stand in a ceiling: a namespace, or how one begins and a ``*``; not the ``*`` alone."""
    return is_namespace(text.removesuffix("*"))
