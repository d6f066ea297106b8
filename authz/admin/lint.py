"""Lint: what is allowed in a bundle and yet hardly meant. Everything here holds for every call, not for a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from authz.admin.classes import NameClass
from authz.admin.expiring import span
from authz.admin.findings import Finding, Severity
from authz.admin.reach import ANONYMOUS, PROVEN, Key, Reach, method_classes, namespace_classes
from authz.call import Access, Scope
from authz.decision.rules import ALLOW, DENY
from authz.document import did_you_mean
from authz.errors import Place
from authz.policy.revision import NOWHERE

_STAR: Final = "*"


class Lint:
    """Looks through one bundle.

    Args:
        reach: the bundle.
        held: roles that somebody is known to hold: in the bundle's tests, in the configuration; None: not known.
        soon: seconds before its end from which on a rule is told to end soon.
    """

    def __init__(self, reach: Reach, held: Iterable[str] | None = None, soon: float = 14 * 86_400.0) -> None:
        self._reach = reach
        self._soon = soon
        self._held = None if held is None else frozenset(held)
        self._spaces = namespace_classes(reach)
        self._methods: dict[tuple[object, ...], list[NameClass]] = {}
        for each in method_classes(reach):
            entry, keys = reach.accepted_methods(each.example)
            self._methods.setdefault((entry and entry.scope, keys), []).append(each)
        self._masks: dict[Key, int] = {}
        self._wider: dict[Key, frozenset[Key]] = {}
        self._everywhere: dict[Key, tuple[int, int]] = {}
        self._measure()

    def _measure(self) -> None:
        """For each thing that rules say of methods, the classes of methods (as bits) that it accepts."""
        for bit, ((scope, keys), _) in enumerate(self._methods.items()):
            for key in keys if isinstance(keys, frozenset) else ():
                self._masks[key] = self._masks.get(key, 0) | 1 << bit
                there = 0 if scope is Scope.CLUSTER else 1
                cluster, inside = self._everywhere.get(key, (0, 0))
                self._everywhere[key] = (cluster | 1 << bit, inside | (1 << bit if there else 0))
        self._spaces_of: dict[Key, int] = {}
        for bit, space in enumerate(self._spaces):
            for way in self._reach.accepted_namespaces(space.example):
                self._spaces_of[way] = self._spaces_of.get(way, 0) | 1 << bit

    def findings(self) -> Iterator[Finding]:
        """Everything that is found, in no order."""
        yield from self._rules()
        yield from self._unreached()
        yield from self._roles()
        yield from self._ends()

    def _matchable(self, way: Key, key: Key) -> bool:
        """Whether any call has a namespace of ``way`` and a method of ``key``: bit 0 of the spaces is ``@cluster``."""
        spaces = self._spaces_of.get(way, 0)
        cluster, inside = self._everywhere.get(key, (0, 0))
        return bool(spaces & 1 and cluster) or bool(spaces >> 1 and inside)

    def _rules(self) -> Iterator[Finding]:
        reach = self._reach
        base = {False: reach.reached(ANONYMOUS, ""), True: reach.reached(PROVEN, "") | reach.reached(ANONYMOUS, "")}
        for way, there in reach.cells.items():
            spaces = self._spaces_of.get(way, 0)
            ways = [each for each in self._about(spaces) if _covers(self._spaces_of[each], spaces)]
            for key, cell in there.items():
                if not self._matchable(way, key):
                    yield from (self._dead(rule) for rules in cell.values() for rule in rules)
                    continue
                above = self._above(key)
                wider = []
                for each in ways:
                    others = reach.cells[each]
                    wider += [
                        others[k] for k in (others if len(others) < len(above) else above) if k in others and k in above
                    ]
                for subject, rules in cell.items():
                    names = {subject}
                    if not reach.by_namespace:
                        names |= reach.reached(subject, "") | base[subject != ANONYMOUS]
                    for rule in rules:
                        yield from self._covered(rule, wider, names)
                        yield from self._wide(rule, key, subject)

    def _above(self, key: Key) -> frozenset[Key]:
        """What rules may say of the method to be about all that ``key`` is about."""
        found = self._wider.get(key)
        if found is None:
            mask = self._masks[key]
            found = self._wider[key] = frozenset(k for k, other in self._masks.items() if other & mask == mask)
        return found

    def _about(self, spaces: int) -> tuple[Key, ...]:
        """What rules say of the namespace who are about the first of ``spaces``: whatever covers them all is there."""
        if not spaces:
            return ()
        return self._reach.accepted_namespaces(self._spaces[(spaces & -spaces).bit_length() - 1].example)

    def _covered(self, rule: int, wider: list[dict[str, list[int]]], names: set[str]) -> Iterator[Finding]:
        reach = self._reach
        effect = reach.effects[rule]
        for cell in wider:
            for name in names if len(names) < len(cell) else cell:
                for other in cell.get(name, ()) if name in names else ():
                    if other == rule:
                        continue
                    if effect == ALLOW and reach.effects[other] == DENY:
                        line = reach.line(other)
                        yield self._at(
                            "AZ203",
                            rule,
                            f"is always overruled by {line.place.path}:{line.place.line}: {line.text}",
                            "remove one of them",
                        )
                        return
        for cell in wider:
            for name in names if len(names) < len(cell) else cell:
                for other in cell.get(name, ()) if name in names else ():
                    if other == rule or reach.effects[other] != effect or reach.ends(other) < reach.ends(rule):
                        continue
                    if other > rule and self._alike(other, rule):
                        continue
                    line = reach.line(other)
                    yield self._at(
                        "AZ202",
                        rule,
                        f"says nothing that {line.place.path}:{line.place.line} does not: {line.text}",
                        "remove it, or keep it with a waiver if it is there for the reader",
                    )
                    return

    def _alike(self, one: int, other: int) -> bool:
        """Whether two rules are about the same calls, however they say it: the later one is the one too many."""
        (way, key, subject), (way2, key2, subject2) = self._reach.key_of(one), self._reach.key_of(other)
        same = self._masks.get(key) == self._masks.get(key2) and self._spaces_of.get(way) == self._spaces_of.get(way2)
        return same and subject == subject2 and self._reach.ends(one) == self._reach.ends(other)

    def _dead(self, rule: int) -> Finding:
        reach = self._reach
        where, what, how = (reach.said(rule, name) for name in ("dom", "obj", "act"))
        denial = "denial " if reach.effects[rule] == DENY else ""
        entry = reach.revision.catalogue.find(what) if what.startswith("/") else None
        if entry is not None and how not in (_STAR, entry.access.value):
            return self._at(
                "AZ201",
                rule,
                f"this {denial}rule matches no call: {what} is {entry.access.value}",
                f"write `{entry.access.value}` or `*` for the access",
            )
        if where != _STAR and entry is not None and entry.scope is Scope.CLUSTER:
            return self._at(
                "AZ201",
                rule,
                f"this {denial}rule matches no call: {what} touches no namespace",
                f"write `{NOWHERE}` for the namespace",
            )
        return self._at(
            "AZ201",
            rule,
            f"this {denial}rule matches no call: no method is `{what}` with access `{how}`"
            + (f" in `{where}`" if where != _STAR else ""),
            "change it, or remove it",
        )

    def _wide(self, rule: int, key: Key, subject: str) -> Iterator[Finding]:
        reach = self._reach
        if reach.effects[rule] != ALLOW:
            return
        where, what, how = (reach.said(rule, name) for name in ("dom", "obj", "act"))
        if subject in (ANONYMOUS, PROVEN):
            who = "everyone, also a caller who showed nothing" if subject == ANONYMOUS else "every proven caller"
            if where == _STAR or where.endswith("*"):
                yield self._at(
                    "AZ204",
                    rule,
                    f"{who} may do this in every namespace that is `{where}`",
                    f"name the namespace, or `{NOWHERE}`, or the role",
                )
            elif how not in (Access.READ.value,) and not self._reads(key):
                yield self._at("AZ204", rule, f"{who} may do more here than read", "write `read`, or name the role")
        elif (where, what, how) == (_STAR, _STAR, _STAR):
            yield self._at(
                "AZ204",
                rule,
                f"`{subject}` may do everything everywhere, methods to come included",
                "name the access, the methods or the namespaces",
            )

    def _reads(self, key: Key) -> bool:
        mask = self._masks.get(key, 0)
        for bit, methods in enumerate(self._methods.values()):
            if mask >> bit & 1:
                entry = self._reach.revision.catalogue.find(methods[0].example)
                if entry is not None and entry.access is not Access.READ:
                    return False
        return True

    def _unreached(self) -> Iterator[Finding]:
        """Methods that no rule allows to anybody anywhere."""
        reach = self._reach
        allowed = 0
        for way, there in reach.cells.items():
            for key, cell in there.items():
                if self._matchable(way, key) and any(reach.effects[r] == ALLOW for rs in cell.values() for r in rs):
                    allowed |= self._masks.get(key, 0)
        place = Place(str(reach.revision.path / "catalogue.yaml"))
        for bit, methods in enumerate(self._methods.values()):
            if not allowed >> bit & 1:
                for each in methods:
                    message = f"no rule allows `{each.label}` to anybody"
                    yield Finding("AZ205", Severity.NOTE, place, message, "add a rule, or leave it refused on purpose")

    def _roles(self) -> Iterator[Finding]:
        """Roles of rules that no line, no test and no configuration gives to anyone."""
        reach = self._reach
        if self._held is None:
            return
        first: dict[str, int] = {}
        for rule in range(len(reach.rows)):
            first.setdefault(reach.said(rule, "sub"), rule)
        given = set(self._held)
        given.update(line[2] for line in reach.lines if line[0] in reach.model.roles)
        for subject, rule in first.items():
            if subject.startswith("role:") and subject not in given and subject not in (ANONYMOUS, PROVEN):
                near = did_you_mean(subject[5:], [role[5:] for role in given if role.startswith("role:")])
                remedy = near if near.startswith("did") else "give it to a caller in tests.yaml, or remove its rules"
                yield self._at("AZ206", rule, f"no line and no test gives `{subject}` to anybody", remedy)

    def _ends(self) -> Iterator[Finding]:
        """Rules that have ended or soon will."""
        reach = self._reach
        for rule, end in sorted(reach.rules.ends.items(), key=lambda each: each[1]):
            when = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ}"
            if end <= reach.now:
                yield self._at("AZ208", rule, f"this rule has ended at {when}", "remove it")
            elif end <= reach.now + self._soon:
                left = span(end - reach.now)
                message = f"this rule ends in {left}, at {when}"
                yield Finding(
                    "AZ207", Severity.NOTE, reach.line(rule).place, message, "write a later end, or let it go"
                )

    def _at(self, code: str, rule: int, message: str, remedy: str) -> Finding:
        return Finding(code, Severity.WARNING, self._reach.line(rule).place, message, remedy)


def _covers(wide: int, narrow: int) -> bool:
    return narrow != 0 and wide & narrow == narrow


def roles_of(claims: Iterable[tuple[Iterable[str], Mapping[str, Iterable[str]]]]) -> set[str]:
    """The roles, as subjects, of callers given as their system-wide roles and their roles by namespace."""
    found: set[str] = set()
    for system, namespaces in claims:
        found.update(f"role:{role}" for role in system)
        for roles in namespaces.values():
            found.update(f"role:{role}" for role in roles)
    return found
