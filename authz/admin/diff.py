"""Diff: who gains and who loses access between two bundles, completely.

Not the text is compared but the answers: for every class of subjects, namespaces and methods (see
:mod:`authz.admin.reach`), what a caller is told by the old bundle and by the new one. A caller has several subjects at
once, but a denial of any of them wins, else an allow of any: so where no caller with one subject is told something
else, no caller with several is. Each difference comes with one call that shows it, asked of both bundles for real.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from authz.admin.caller import claims_of
from authz.admin.classes import NameClass
from authz.admin.reach import ANONYMOUS, EFFECTS, PROVEN, Beyond, Key, Reach, method_classes, namespace_classes
from authz.call import Call
from authz.decision import authorizer_for
from authz.decision.base import Authorizer, Effect, Verdict
from authz.errors import Place
from authz.policy.ending import NEVER, end_field
from authz.policy.matcher import parse_matcher
from authz.policy.revision import NOWHERE, Revision
from authz.reason import Reason

__all__ = ["Beyond", "Change", "Difference", "Example", "Kind", "diff"]

_NOTHING: Final[dict[str, int]] = {}


class Kind(StrEnum):
    """What a caller with one subject gains or loses."""

    GAINED = "gained"
    LOST = "lost"
    DENIED = "denied"
    """Not allowed before either, but now a rule denies it: who was allowed by another subject no longer is."""
    UNDENIED = "undenied"
    """Not allowed now either, but no rule denies it any longer: who is allowed by another subject now is."""


@dataclass(frozen=True, slots=True)
class Example:
    """One call that shows a change, and what each bundle really says of it."""

    subject: str
    namespace: str
    method: str
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True)
class Change:
    """One subject that is told something else, in these namespaces, of these methods.

    Attributes:
        kind: gained, lost, denied, undenied.
        subject: a subject of the policy; ``role:authenticated`` for every proven caller, ``role:everyone`` for all.
        namespaces: names, beginnings with a star (less what is named elsewhere), ``@cluster``.
        methods: full methods; a service and a star for those that the catalogue does not name.
        before, after: what the subject is told by the old bundle and by the new one.
        example: one call that shows it.
        except_for: subjects that the change does not reach though they are callers too: they are told something else.
        within: the class of each namespace and method, with one name for each.
    """

    kind: Kind
    subject: str
    namespaces: tuple[str, ...]
    methods: tuple[str, ...]
    before: Effect
    after: Effect
    example: Example
    except_for: tuple[str, ...] = ()
    within: tuple[tuple[NameClass, ...], tuple[NameClass, ...]] = ((), ())


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different between two bundles.

    Attributes:
        old, new: the bundles.
        changes: every change of what a caller is told.
        catalogue: methods whose namespaces are read from other places of the request now: a call that looks the same
            may be decided for other namespaces.
        ends: rules that are in both and end at another moment: the same answers now, and others later.
    """

    old: Revision
    new: Revision
    changes: tuple[Change, ...]
    catalogue: tuple[str, ...]
    ends: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.changes or self.catalogue or self.ends)

    @property
    def new_access(self) -> tuple[Change, ...]:
        """The changes by which somebody may do more than before."""
        return tuple(change for change in self.changes if change.kind in (Kind.GAINED, Kind.UNDENIED))


Raw = tuple[str, Effect, Effect, tuple[str, ...]]


def diff(old: Revision, new: Revision, now: float | None = None) -> Difference:
    """Compare what ``old`` and ``new`` answer.

    Args:
        old, new: the bundles.
        now: the moment that both are asked at, in seconds since the epoch; left out: now.

    Raises:
        Beyond: a model says more than can be worked out for every call at once.
        PolicyError: a bundle cannot be evaluated.
    """
    at = time.time() if now is None else now
    pair = _Pair(Reach(old, at), Reach(new, at))
    ask_old, ask_new = authorizer_for(old, lambda: at), authorizer_for(new, lambda: at)
    changes = [_shown(raw, spaces, methods, ask_old, ask_new) for raw, spaces, methods in pair.grouped()]
    order = list(Kind)
    changes.sort(key=lambda change: (order.index(change.kind), change.subject, change.namespaces, change.methods))
    return Difference(old, new, tuple(changes), tuple(_catalogue(old, new)), tuple(_ends(pair.old, pair.new)))


class _Pair:
    """Two bundles, and the classes that neither tells apart."""

    def __init__(self, old: Reach, new: Reach) -> None:
        self.old, self.new = old, new
        self.namespaces = namespace_classes(old, new)
        self.subjects = tuple(dict.fromkeys((*old.subjects, *new.subjects)))
        self.methods: dict[tuple[object, ...], list[NameClass]] = {}
        for each in method_classes(old, new):
            (entry, keys), (other, others) = old.accepted_methods(each.example), new.accepted_methods(each.example)
            alike = (entry and entry.scope, keys, other and other.scope, others)
            self.methods.setdefault(alike, []).append(each)
        self._links: dict[str, tuple[dict[str, set[str]], dict[str, set[str]]]] = {}
        self._cells: dict[tuple[int, Key, frozenset[Key]], dict[str, int]] = {}
        self._differ: dict[tuple[int, int], set[str]] = {}

    def grouped(self) -> Iterator[tuple[Raw, tuple[NameClass, ...], tuple[NameClass, ...]]]:
        """Every change with the namespaces and methods that it is the same for."""
        by_space: dict[tuple[Raw, str], list[NameClass]] = {}
        spaces: dict[str, NameClass] = {}
        for space in self.namespaces:
            spaces[space.label] = space
            for methods in self.methods.values():
                for raw in self._changes(space.example, methods[0].example):
                    by_space.setdefault((raw, space.label), []).extend(methods)
        by_methods: dict[tuple[Raw, tuple[NameClass, ...]], list[NameClass]] = {}
        for (raw, label), methods in by_space.items():
            by_methods.setdefault((raw, tuple(sorted(methods, key=lambda m: m.label))), []).append(spaces[label])
        for (raw, methods_of), spaces_of in by_methods.items():
            yield raw, tuple(spaces_of), methods_of

    def _changes(self, space: str, method: str) -> Iterator[Raw]:
        """What is told to whom, otherwise than before, of one question."""
        before, after = self._side(self.old, space, method), self._side(self.new, space, method)
        if all(side is None or side.place != space for side in (before, after)):
            return
        candidates = self._candidates(before, after)
        base: dict[str, tuple[Effect, Effect]] = {}
        for subject in (ANONYMOUS, PROVEN):
            if candidates is None or not candidates.isdisjoint((ANONYMOUS, PROVEN)):
                base[subject] = (_told(before, subject), _told(after, subject))
            else:
                base[subject] = (Effect.NO_OPINION, Effect.NO_OPINION)
        shared = base[PROVEN] if base[PROVEN][0] is not base[PROVEN][1] else None
        if shared is not None:
            candidates = None
        others: list[str] = []
        for subject in self.subjects if candidates is None else sorted(candidates):
            if subject in (ANONYMOUS, PROVEN):
                continue
            was, now = _told(before, subject), _told(after, subject)
            if shared is not None:
                if (was, now) == shared:
                    continue
                others.append(subject)
            if was is not now:
                yield subject, was, now, ()
        was, now = base[ANONYMOUS]
        if was is not now and (was, now) == shared:
            yield ANONYMOUS, was, now, tuple(others)
        else:
            if shared is not None:
                yield PROVEN, *shared, tuple(others)
            if was is not now:
                # a proven caller is told what the line above says, or nothing new
                yield ANONYMOUS, was, now, (PROVEN, *self._named())

    def _named(self) -> Iterable[str]:
        return (subject for subject in self.subjects if subject not in (ANONYMOUS, PROVEN))

    def _side(self, reach: Reach, space: str, method: str) -> _Side | None:
        entry, keys = reach.accepted_methods(method)
        if entry is None:
            return None
        place = reach.asked(entry, space)
        return _Side(
            reach, place, space, {way: self._merged(reach, way, keys) for way in reach.accepted_namespaces(place)}
        )

    def _merged(self, reach: Reach, way: Key, keys: frozenset[Key]) -> dict[str, int]:
        """Subject of a rule -> effects, of the rules that say ``way`` of the namespace and one of ``keys`` else."""
        at = (0 if reach is self.old else 1, way, keys)
        found = self._cells.get(at)
        if found is None:
            found = self._cells[at] = {}
            there = reach.cells[way]
            for key in there if len(there) < len(keys) else keys:
                if key in keys and key in there:
                    for name, rules in there[key].items():
                        found[name] = found.get(name, 0) | reach.bits((there[key],), (name,)) if rules else 0
        return found

    def _candidates(self, before: _Side | None, after: _Side | None) -> set[str] | None:
        """The subjects that may be told something else; None: any of them."""
        if before is None or after is None or before.place != after.place:
            return None
        touched: set[str] = set()
        for way in {**before.cells, **after.cells}:
            was, now = before.cells.get(way), after.cells.get(way)
            if was is not now:
                touched |= self._unlike(was or _NOTHING, now or _NOTHING)
        found: set[str] = set()
        members, moved = self._linked(before.place, after.place)
        for name in touched:
            found |= members.get(name, set())
        if moved:
            for side in (before, after):
                for cell in side.cells.values():
                    for name in moved.keys() & cell.keys():
                        found |= moved[name]
        return found

    def _unlike(self, was: dict[str, int], now: dict[str, int]) -> set[str]:
        """The names with other effects in one of them."""
        at = (id(was), id(now))
        found = self._differ.get(at)
        if found is None:
            names = was.keys() | now.keys()
            found = self._differ[at] = {name for name in names if was.get(name, 0) != now.get(name, 0)}
        return found

    def _linked(self, before: str, after: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """What a rule may say -> whom it is about in either bundle, and whom in one of them alone."""
        at = f"{before}\0{after}" if self.old.by_namespace or self.new.by_namespace else ""
        found = self._links.get(at)
        if found is None:
            members: dict[str, set[str]] = {}
            moved: dict[str, set[str]] = {}
            for subject in dict.fromkeys((*self.subjects, ANONYMOUS, PROVEN)):
                was, now = self.old.reached(subject, before), self.new.reached(subject, after)
                for name in was | now:
                    members.setdefault(name, set()).add(subject)
                for name in was ^ now:
                    moved.setdefault(name, set()).add(subject)
            # a name that only one bundle's rules use is a member of itself in both
            found = self._links[at] = (members, moved)
        return found


class _Side:
    """One bundle's rules for one question."""

    __slots__ = ("cells", "place", "reach", "space")

    def __init__(self, reach: Reach, place: str, space: str, cells: dict[Key, dict[str, int]]) -> None:
        self.reach = reach
        self.place = place
        self.space = space
        self.cells = cells

    def bits(self, name: str) -> int:
        bits = 0
        for cell in self.cells.values():
            bits |= cell.get(name, 0)
        return bits

    def told(self, subject: str) -> Effect:
        bits = 0
        for name in self.reach.names_of(subject, self.place, self.space):
            bits |= self.bits(name)
        return EFFECTS[bits]


def _told(side: _Side | None, subject: str) -> Effect:
    # a method that the catalogue does not know is refused, whatever the rules say; no rule denies it
    return Effect.NO_OPINION if side is None else side.told(subject)


def _shown(
    raw: Raw,
    spaces: Sequence[NameClass],
    methods: Sequence[NameClass],
    ask_old: Authorizer,
    ask_new: Authorizer,
) -> Change:
    subject, was, now, others = raw
    space, method = spaces[0].example, methods[0].example
    claims = claims_of(subject, space)
    call = Call(method, (None if space == NOWHERE else space,))
    example = Example(subject, space, method, ask_old.authorize(claims, call), ask_new.authorize(claims, call))
    if _by_rules(example.before) is not was or _by_rules(example.after) is not now:
        raise Beyond(
            Place(str(space)),
            f"{subject} and {method}: worked out {was.value} and {now.value}, "
            f"but the bundles say {example.before.effect.value} and {example.after.effect.value}",
        )
    if now is Effect.ALLOW:
        kind = Kind.GAINED
    elif was is Effect.ALLOW:
        kind = Kind.LOST
    else:
        kind = Kind.DENIED if now is Effect.DENY else Kind.UNDENIED
    labels = tuple(each.label for each in spaces), tuple(each.label for each in methods)
    return Change(kind, subject, *labels, was, now, example, others, (tuple(spaces), tuple(methods)))


def _by_rules(verdict: Verdict) -> Effect:
    return Effect.NO_OPINION if verdict.reason is Reason.METHOD_UNKNOWN else verdict.effect


def _ends(old: Reach, new: Reach) -> Iterator[str]:
    def by_rule(reach: Reach) -> dict[tuple[str, ...], str]:
        names = reach.model.policies["p"]
        field = end_field(parse_matcher(reach.model))
        column = names.index(field) if field else -1
        return {
            tuple(value for at, value in enumerate(row) if at != column): row[column] if field else NEVER
            for row in reach.rows
        }

    before = by_rule(old)
    for rule, end in by_rule(new).items():
        was = before.get(rule, end)
        if was != end:
            yield f"p, {', '.join(rule)}: ends {end}, before {was}"


def _catalogue(old: Revision, new: Revision) -> Iterator[str]:
    for name, entry in new.catalogue.methods.items():
        before = old.catalogue.methods.get(name)
        if before is not None and (before.namespaces, before.opaque) != (entry.namespaces, entry.opaque):
            was, now = (", ".join((*each.namespaces, *each.opaque)) or "nowhere" for each in (before, entry))
            yield f"{name}: names its namespaces in {now}, before in {was}"
