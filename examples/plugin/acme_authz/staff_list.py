"""A claim mapper: roles by a list of the staff, and not by what a token says."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from authz.authn.base import Principal
from authz.claims.base import Claims
from authz.document import Section


class StaffList:
    """Knows the roles of each subject. Who is not on the list has none.

    Args:
        rows: subject, namespace (``*``: everywhere), role.
    """

    def __init__(self, rows: Iterable[tuple[str, str, str]]) -> None:
        self._system: dict[str, set[str]] = {}
        self._namespaces: dict[str, dict[str, set[str]]] = {}
        for subject, namespace, role in rows:
            if namespace == "*":
                self._system.setdefault(subject, set()).add(role)
            else:
                self._namespaces.setdefault(subject, {}).setdefault(namespace, set()).add(role)

    def map(self, principal: Principal) -> Claims:
        """See :class:`authz.ClaimMapper`."""
        namespaces = self._namespaces.get(principal.subject, {})
        return Claims(
            principal,
            system=frozenset(self._system.get(principal.subject, ())),
            namespaces={namespace: frozenset(roles) for namespace, roles in namespaces.items()},
            expires_at=principal.expires_at,
            used=("staff list",),
        )


def make(options: Section) -> StaffList:
    """The entry point: ``options: {file: ...}``, a CSV file of subject, namespace and role."""
    with options.file("file").open(encoding="utf-8", newline="") as file:
        return StaffList((subject, namespace, role) for subject, namespace, role in csv.reader(file))
