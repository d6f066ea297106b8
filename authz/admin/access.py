"""Access: who may call a method, what a subject may do, and all of it as a matrix. Complete, by class (see reach)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from authz.admin.classes import NameClass
from authz.admin.reach import ANONYMOUS, PROVEN, Reach, method_classes, namespace_classes
from authz.call import ApiMethod, Scope
from authz.decision.base import Effect
from authz.decision.rules import ALLOW, DENY
from authz.policy.revision import NOWHERE, PolicyLine, Revision


@dataclass(frozen=True, slots=True)
class Grant:
    """One subject and what it may do, or is denied, by one rule.

    Attributes:
        subject: the subject; ``role:authenticated`` for every proven caller, ``role:everyone`` for all.
        namespaces: names, beginnings with a star (less what is named elsewhere), ``@cluster``.
        methods: full methods; a service and a star for those that the catalogue does not name.
        effect: ALLOW or DENY.
        line: the rule that decides.
        ends: when it ends, in seconds since the epoch; infinity: never.
    """

    subject: str
    namespaces: tuple[str, ...]
    methods: tuple[str, ...]
    effect: Effect
    line: PolicyLine
    ends: float


def who_can(revision: Revision, method: str, namespace: str | None = None, now: float | None = None) -> list[Grant]:
    """Who may call ``method``: one grant for each subject and rule. A subject that is denied is there too.

    Args:
        revision: the bundle.
        method: gRPC full method.
        namespace: a name or ``@cluster``; left out: anywhere, by class.
        now: the moment, in seconds since the epoch; left out: now.

    Raises:
        Beyond: the model says more than can be worked out for every call at once.
    """
    reach = Reach(revision, now)
    spaces = namespace_classes(reach) if namespace is None else [NameClass(namespace, namespace)]
    return list(_grants(reach, _everybody(reach), spaces, [NameClass(method, method)]))


def list_access(
    revision: Revision, subject: str, namespace: str | None = None, now: float | None = None
) -> list[Grant]:
    """What a caller may do who is ``subject``, and else only what every caller is.

    Args and raises: as :func:`who_can`.
    """
    reach = Reach(revision, now)
    spaces = namespace_classes(reach) if namespace is None else [NameClass(namespace, namespace)]
    return list(_grants(reach, [subject], spaces, method_classes(reach)))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Every subject, namespace and method of a bundle.

    Attributes:
        revision: the bundle.
        subjects, namespaces, methods: what the axes say, in order.
        entries: for each method, what the catalogue says of it.
        rules: the rules that decide anything.
        cells: subject, namespace, method (positions) -> position of the deciding rule. What is not here is refused
            because no rule says anything.
    """

    revision: Revision
    subjects: tuple[str, ...]
    namespaces: tuple[str, ...]
    methods: tuple[str, ...]
    entries: tuple[ApiMethod, ...]
    rules: tuple[tuple[PolicyLine, Effect], ...]
    cells: dict[tuple[int, int, int], int]


def matrix(revision: Revision, subjects: Iterable[str] = (), now: float | None = None) -> Matrix:
    """The whole access of a bundle, for ``subjects`` or for all that stand in it.

    Raises:
        Beyond: the model says more than can be worked out for every call at once.
    """
    reach = Reach(revision, now)
    who = tuple(subjects) or tuple(_everybody(reach))
    spaces, methods = namespace_classes(reach), method_classes(reach)
    rules: dict[int, int] = {}
    cells: dict[tuple[int, int, int], int] = {}
    for m, method in enumerate(methods):
        for n, space in enumerate(spaces):
            if _asked(reach, method, space):
                for s, subject in enumerate(who):
                    rule = _deciding(reach, subject, space.example, method.example)
                    if rule >= 0:
                        cells[s, n, m] = rules.setdefault(rule, len(rules))
    told = tuple((reach.line(rule), Effect.DENY if reach.effects[rule] == DENY else Effect.ALLOW) for rule in rules)
    entries = tuple(entry for each in methods if (entry := revision.catalogue.find(each.example)) is not None)
    labels = tuple(each.label for each in spaces), tuple(each.label for each in methods)
    return Matrix(revision, who, *labels, entries, told, cells)


def _everybody(reach: Reach) -> list[str]:
    others = [each for each in reach.subjects if each not in (ANONYMOUS, PROVEN)]
    roles = [each for each in others if each.startswith("role:")]
    return [*roles, *(each for each in others if each not in set(roles)), PROVEN, ANONYMOUS]


def _asked(reach: Reach, method: NameClass, space: NameClass) -> bool:
    """Whether ``method`` is asked about in ``space``: a method of the cluster is in ``@cluster`` alone."""
    entry = reach.revision.catalogue.find(method.example)
    return entry is not None and (space.example == NOWHERE or entry.scope is Scope.NAMESPACE)


def _deciding(reach: Reach, subject: str, space: str, method: str) -> int:
    """The rule that decides; -1: none."""
    rules = reach.rules_for(subject, space, method)
    effect = reach.told(rules)
    wanted = {Effect.ALLOW: ALLOW, Effect.DENY: DENY}.get(effect, -1)
    return next((rule for rule in rules if reach.effects[rule] == wanted), -1)


def _grants(
    reach: Reach, subjects: Iterable[str], spaces: list[NameClass], methods: list[NameClass]
) -> Iterator[Grant]:
    for subject in subjects:
        by_rule: dict[tuple[int, str], list[str]] = {}
        for space in spaces:
            for method in methods:
                if _asked(reach, method, space) or len(spaces) == 1:
                    rule = _deciding(reach, subject, space.example, method.example)
                    if rule >= 0:
                        by_rule.setdefault((rule, space.label), []).append(method.label)
        grouped: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for (rule, label), found in by_rule.items():
            grouped.setdefault((rule, tuple(found)), []).append(label)
        for (rule, found_methods), found_spaces in sorted(grouped.items(), key=lambda each: each[0][0]):
            effect = Effect.DENY if reach.effects[rule] == DENY else Effect.ALLOW
            yield Grant(subject, tuple(found_spaces), found_methods, effect, reach.line(rule), reach.ends(rule))
