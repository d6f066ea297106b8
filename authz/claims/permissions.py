"""PermissionsRule: a list of ``namespace:role``, as Temporal servers read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from authz.authn.pointer import ABSENT, Pointer
from authz.claims.grants import Grants
from authz.claims.rules import malformed, read_entries

ROLE_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"read": "reader", "write": "writer", "worker": "worker", "admin": "admin"}
)
"""Temporal's words and the roles that they are; upper and lower case are the same."""
SYSTEM_NAMESPACE: Final = "temporal-system"


@dataclass(frozen=True, slots=True)
class PermissionsRule:
    """Grants from a list of ``namespace:role``.

    The first ``:`` divides an entry. The namespace is taken to the letter: no blank is removed, no case changed, and a
    ``*`` is refused like every name that is none. The claim must be a list of texts if it is there; an entry that is
    no permission grants nothing, with a note.

    Attributes:
        claim: where the list is.
        system_namespace: the namespace whose roles hold system-wide.
        pattern: takes the place of the first ``:``: matches a whole entry, with the groups ``namespace`` and ``role``.
    """

    claim: Pointer
    system_namespace: str = SYSTEM_NAMESPACE
    pattern: re.Pattern[str] | None = None

    def apply(self, attributes: Mapping[str, object], grants: Grants) -> None:
        """See :class:`authz.claims.rules.Rule`."""
        value = self.claim.find(attributes)
        if value is ABSENT:
            return
        if not isinstance(value, list):
            raise malformed(f"`{self.claim.text}` is not a list of permissions")
        for i, entry in enumerate(read_entries(self.claim, attributes, split=False)):
            namespace, word = self._divide(entry)
            role = ROLE_WORDS.get(word.lower()) if word.isascii() else None
            if role is None:
                grants.note(
                    f"{self.claim.text}[{i}]: no permission `namespace:role` with a role of {', '.join(ROLE_WORDS)}"
                )
            elif namespace == self.system_namespace:
                grants.add(role, None, self.claim.text)
            else:
                grants.add(role, namespace, self.claim.text)

    def _divide(self, entry: str) -> tuple[str, str]:
        if self.pattern is None:
            namespace, _, word = entry.partition(":")
            return namespace, word
        match = self.pattern.fullmatch(entry)
        return ("", "") if match is None else (match["namespace"] or "", match["role"] or "")
