"""Callers: whom the rules of a policy mean by a caller: the caller's own name, its roles, and the roles above these.

A role is known by its name as claims have it, without ``role:``, so that a caller's roles can be held against the rules
as the set that they are. Everybody else whom the policy names is a :class:`Named`, which no role can be equal to: a
role that is called like a user is not that user.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.claims.base import AUTHENTICATED, EVERYONE

_ANONYMOUS: Final = PrincipalKind.ANONYMOUS
_ROLE: Final = "role:"


class Named:
    """Somebody whom the policy names and who is no role, e.g. ``user:corp:alice``."""

    __slots__ = ("subject",)

    def __init__(self, subject: str) -> None:
        self.subject = subject


Name = str | Named
"""A role's name without ``role:``, or somebody else whom the policy names."""
_NOBODY: Final[frozenset[Name]] = frozenset()


def subject_of(name: Name) -> str:
    """What a policy file writes for ``name``."""
    return _ROLE + name if isinstance(name, str) else name.subject


class Callers:
    """Whom the policy means by whom.

    Args:
        subjects: whoever stands in some rule.
        members: whoever is a direct member of a role.
        meant_by: a caller's subject -> those of ``subjects`` that it is, directly or through its roles. For a subject
            that the policy does not name, it is nobody.

    Attributes:
        members: the roles by which rules mean more than the role itself.
        members_by_name: who is a member of a role without being one.
        proven: whom rules may name to mean any proven caller.
    """

    __slots__ = ("_above", "_below", "_everyone", "_meant_by", "_named", "members", "members_by_name", "proven")

    def __init__(
        self, subjects: Iterable[str], members: Iterable[str], meant_by: Callable[[str], Collection[str]]
    ) -> None:
        self._meant_by = meant_by
        self._named: dict[str, Named] = {}
        self.members_by_name: set[str] = set()
        roles: set[str] = set()
        for subject in subjects:
            self._know(subject, roles)
        for member in members:
            self._know(member, roles)
            if not member.startswith(_ROLE):
                self.members_by_name.add(member)
        self._everyone = self._meant(_ROLE + EVERYONE)
        self.proven = self._everyone | self._meant(_ROLE + AUTHENTICATED)
        # Whom else the policy means by somebody; most are nobody else. Of users, it is found out when one comes.
        self._above: dict[Name, frozenset[Name]] = {}
        for subject in roles:
            meant = self._meant(subject)
            if not meant <= {subject[5:]}:
                self._above[subject[5:]] = meant
        self.members: frozenset[Name] = frozenset(self._above)
        self._below: dict[Name, list[Name]] = {}
        for role, meant in self._above.items():
            for name in meant:
                self._below.setdefault(name, []).append(role)

    def _know(self, subject: str, roles: set[str]) -> None:
        if subject.startswith(_ROLE):
            roles.add(subject)
        elif subject not in self._named:
            self._named[subject] = Named(subject)

    def name_of(self, subject: str) -> Name:
        """The name of ``subject``, one of those of the policy."""
        return subject[5:] if subject.startswith(_ROLE) else self._named[subject]

    def _meant(self, subject: str) -> frozenset[Name]:
        return frozenset(map(self.name_of, self._meant_by(subject)))

    def named(self, principal: Principal) -> Named | None:
        """What lines of the policy name ``principal`` itself; None: no line does."""
        return None if principal.kind is _ANONYMOUS else self._named.get(principal.id)

    def meaning(self, names: Collection[Name]) -> frozenset[Name]:
        """The roles by which rules for one of ``names`` mean a caller."""
        roles: list[Name] = [name for name in names if isinstance(name, str)]
        below = self._below
        return frozenset(roles).union(*[below[role] for role in roles if role in below])

    def is_member(self, principal: Principal) -> bool:
        """Whether a line of the policy makes ``principal`` itself a member of a role."""
        return principal.kind is not _ANONYMOUS and principal.id in self.members_by_name

    def others(self, principal: Principal, members: Iterable[Name]) -> frozenset[Name]:
        """Whom rules may name to mean ``principal`` beside itself and its roles; ``members``: those among its roles."""
        others = self._everyone if principal.kind is _ANONYMOUS else self.proven
        for role in members:
            others = others | self._above[role] if others else self._above[role]
        if self.members_by_name and self.is_member(principal) and (named := self.named(principal)):
            others |= self._of(named)
        return others

    def _of(self, named: Named) -> frozenset[Name]:
        meant = self._above.get(named)
        if meant is None:
            meant = self._above[named] = self._meant(named.subject)
        return meant

    def via(self, principal: Principal, members: Iterable[Name], name: Name) -> Name:
        """The caller's own subject that leads to ``name``, one of :meth:`others` or itself: the first of them."""
        proven = principal.kind is not _ANONYMOUS
        if name == EVERYONE or (proven and name == AUTHENTICATED):
            return name
        if isinstance(name, Named):
            return name
        if self.members_by_name and (named := self.named(principal)) and name in self._of(named):
            return named
        for role in sorted(map(str, members)):
            if name in self._above[role]:
                return role
        return AUTHENTICATED if proven and name in self._above.get(AUTHENTICATED, _NOBODY) else EVERYONE
