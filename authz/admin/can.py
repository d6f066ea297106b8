"""Can: may this caller make this call? With the rule that decided, or what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.admin.caller import NOBODY
from authz.admin.reach import Beyond, Reach
from authz.call import ApiMethod, Call, Scope
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Effect, Verdict
from authz.decision.bundle import request_values, subjects_of
from authz.decision.rules import ALLOW
from authz.document import did_you_mean
from authz.policy.ending import NEVER
from authz.policy.lines import PolicyLines
from authz.policy.model import read_model
from authz.policy.revision import NOWHERE, PolicyLine, Revision
from authz.reason import Reason

_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An allow rule that all but one thing fits: ``missing`` says which, for a person."""

    line: PolicyLine
    missing: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policy says of one call.

    Attributes:
        verdict: the answer, with the rule that decided and the chain of roles to it.
        subjects: everything that the caller is to the policy, in this namespace.
        near: of a refusal, the nearest misses.
        smallest: of a refusal, the smallest rule that would allow the call; empty if no rule can.
        remedy: of a refusal, what to do, for a person.
    """

    verdict: Verdict
    subjects: tuple[str, ...]
    near: tuple[NearMiss, ...] = ()
    smallest: str = ""
    remedy: str = ""


def can(revision: Revision, claims: Claims, namespace: str, method: str, now: float | None = None) -> Answer:
    """Ask ``revision`` whether the caller with ``claims`` may call ``method`` in ``namespace`` (or ``@cluster``).

    Args:
        revision: the bundle.
        claims: the caller.
        namespace: a name, or ``@cluster``.
        method: gRPC full method.
        now: the moment, in seconds since the epoch; left out: now.

    Raises:
        PolicyError: the bundle cannot be evaluated.
        EvaluationError: the call could not be decided.
    """
    authorizer = authorizer_for(revision) if now is None else authorizer_for(revision, lambda: now)
    where = None if namespace == NOWHERE else namespace
    verdict = authorizer.authorize(claims, Call(method, (where,)))
    entry = revision.catalogue.find(method)
    if entry is not None and entry.scope is Scope.CLUSTER:
        where = None
    subjects = subjects_of(claims, where)
    if verdict.effect:
        return Answer(verdict, subjects)
    if verdict.reason is Reason.METHOD_UNKNOWN or entry is None:
        known = [name for name in revision.catalogue.methods if not name.endswith("*")]
        hint = did_you_mean(method, known) if known else ""
        remedy = f"add the method to {revision.path / 'catalogue.yaml'}"
        return Answer(verdict, subjects, remedy=f"{hint} else {remedy}" if hint.startswith("did") else remedy)
    if verdict.effect is Effect.DENY and verdict.rule is not None:
        return Answer(verdict, subjects, remedy=f"a denial wins: no rule can allow it while {verdict.rule} stands")
    near = _near(revision, subjects, where, method, entry, now)
    smallest = _smallest(revision, subjects, where, method, entry)
    return Answer(verdict, subjects, near, smallest, f"add the line `{smallest}`")


def _smallest(revision: Revision, subjects: Sequence[str], where: str | None, method: str, entry: ApiMethod) -> str:
    """A rule for this caller, this namespace and this method alone, as the bundle's model wants it."""
    values = request_values(where, method, entry)
    values["sub"] = next((each for each in subjects if each != f"user:{NOBODY}"), subjects[0])
    values |= {"eft": "allow"}
    model = read_model(revision.model, str(revision.path))
    return ", ".join(("p", *(values.get(name, NEVER if name == "until" else "*") for name in model.policies["p"])))


def _near(
    revision: Revision, subjects: Sequence[str], where: str | None, method: str, entry: ApiMethod, now: float | None
) -> tuple[NearMiss, ...]:
    try:
        reach = Reach(revision, now)
    except Beyond:
        return ()
    place = NOWHERE if where is None else where
    names = frozenset[str]().union(*(reach.reached(subject, place) for subject in subjects))
    ways = frozenset(reach.accepted_namespaces(place))
    keys = reach.accepted_methods(method)[1]
    found: list[tuple[int, int, NearMiss]] = []
    for rule, effect in enumerate(reach.rules.effects):
        if effect != ALLOW:
            continue
        way, key, name = reach.key_of(rule)
        misses = (name not in names) + (way not in ways) + (key not in keys)
        if misses == 0 and reach.ends(rule) <= reach.now:
            found.append((0, rule, NearMiss(reach.line(rule), "it has ended")))
        elif misses == 1:
            if key not in keys:
                order, missing = 3, f"it is about {_what(reach, rule)}, and this is {entry.access.value}"
            elif way not in ways:
                order, missing = 2, f"it is about `{reach.said(rule, 'dom')}`, not `{place}`"
            else:
                order, missing = 1, f"the caller is not `{name}`"
            found.append((order, rule, NearMiss(reach.line(rule), missing)))
    return tuple(miss for _, _, miss in sorted(found, key=lambda each: each[:2])[:_TOLD])


def _what(reach: Reach, rule: int) -> str:
    what, how = reach.said(rule, "obj"), reach.said(rule, "act")
    return f"`{how}`" if what == "*" else f"`{what}`" if how == "*" else f"`{what}` ({how})"


def smallest_holds(revision: Revision, answer: Answer, claims: Claims, namespace: str, method: str) -> bool:
    """Whether the rule in ``answer.smallest`` really allows the call, once it is added."""
    lines = PolicyLines()
    lines.add("\n".join([*(line.text for line in revision.lines), answer.smallest]), "with-it.csv", [])
    more = Revision(revision.id, Path(revision.path), revision.model, lines, revision.catalogue)
    where = None if namespace == NOWHERE else namespace
    return bool(authorizer_for(more).authorize(claims, Call(method, (where,))).effect)
