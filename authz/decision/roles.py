"""Roles: who is a member of what, as the ``g`` lines of a policy say, at any depth and also in a circle.

Asking about a name that no line knows leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

_NO_DOMAIN: Final = ""


class Roles:
    """The lines of one role type. With ``domains``, the third field says where a line holds.

    Args:
        lines: the fields of each line: member, role, and with ``domains`` the domain.
        domains: whether membership is by domain.
    """

    __slots__ = ("_is_role", "_parents", "_reached", "domains")

    def __init__(self, lines: Iterable[Sequence[str]], *, domains: bool = False) -> None:
        self.domains = domains
        parents: dict[str, dict[str, dict[str, None]]] = {}
        for line in lines:
            domain = line[2] if domains else _NO_DOMAIN
            parents.setdefault(domain, {}).setdefault(line[0], {})[line[1]] = None
        self._parents: Mapping[str, Mapping[str, Mapping[str, None]]] = MappingProxyType(parents)
        self._is_role = frozenset(role for graph in parents.values() for below in graph.values() for role in below)
        self._reached: dict[tuple[str, str], frozenset[str]] = {}

    def parents(self, name: str, domain: str = _NO_DOMAIN) -> Iterable[str]:
        """The roles that ``name`` is a direct member of, in the order of the lines."""
        return self._parents.get(domain, {}).get(name, ())

    def members(self, domain: str = _NO_DOMAIN) -> Iterable[str]:
        """Every name that is a direct member of something."""
        return self._parents.get(domain, {})

    def knows(self, name: str, domain: str = _NO_DOMAIN) -> bool:
        """Whether ``name`` is a direct member of anything."""
        graph = self._parents.get(domain)
        return graph is not None and name in graph

    def reached(self, name: str, domain: str = _NO_DOMAIN) -> frozenset[str]:
        """``name`` and every role that it is a member of, directly or not.

        Remembered for names that are roles themselves, so for no more names than the policy has roles.
        """
        known = self._reached.get((domain, name))
        if known is not None:
            return known
        graph = self._parents.get(domain)
        if graph is None or name not in graph:
            return frozenset((name,))
        if name not in self._is_role:
            return frozenset((name,)).union(*(self.reached(parent, domain) for parent in graph[name]))
        known = self._reached[domain, name] = frozenset(found_in_order(graph, name))
        return known

    def has(self, name: str, role: str, domain: str = _NO_DOMAIN) -> bool:
        """Whether ``name`` is ``role`` or a member of it, directly or not."""
        return name == role or role in self.reached(name, domain)

    def chain(self, name: str, role: str, domain: str = _NO_DOMAIN) -> tuple[str, ...]:
        """A shortest way from ``name`` to ``role``, both included; empty if there is none."""
        before: dict[str, str] = {name: ""}
        waiting = [name]
        for each in waiting:
            if each == role:
                way = [role]
                while before[way[-1]]:
                    way.append(before[way[-1]])
                return tuple(reversed(way))
            for parent in self.parents(each, domain):
                if parent not in before:
                    before[parent] = each
                    waiting.append(parent)
        return ()


def found_in_order(graph: Mapping[str, Iterable[str]], name: str) -> list[str]:
    """Everything that can be reached from ``name`` in ``graph``, nearest first, ``name`` included."""
    seen = {name}
    waiting = [name]
    for each in waiting:
        for parent in graph.get(each, ()):
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return waiting
