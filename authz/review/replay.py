"""Replay: what would another policy have said? Recorded decisions, made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims, is_role
from authz.decision import authorizer_for
from authz.decision.base import Authorizer, Effect, Verdict
from authz.errors import EvaluationError
from authz.policy.load import load_bundle
from authz.review.logs import Logs, Row
from authz.review.search import Search

_DISTINCT: Final = ("sub", "iss", "authn", "roles", "method", "namespaces", "unreadable", "decision", "rule")
_BY_POLICY: Final = frozenset(
    {"allowed", "denied_by_rule", "no_rule", "method_unknown", "namespace_malformed", "namespace_unreadable"}
)
_FLIPS_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Flip:
    """Decisions that come out otherwise.

    Attributes:
        sub, method, namespaces, roles: what was asked by whom.
        before, after: the effects: allow, deny or no_opinion.
        rule_before, rule_after: the rules that decided; None: none did.
        count: how many there are.
        example: audit id of the latest.
    """

    sub: str
    method: str
    namespaces: tuple[str | None, ...]
    roles: tuple[str, ...]
    before: str
    after: str
    rule_before: str | None
    rule_after: str | None
    count: int
    example: str


@dataclass(slots=True)
class Replay:
    """What a replay says.

    Attributes:
        policy: revision that the decisions were made by again.
        decided: how many decisions were.
        skipped: how many could not be: refused before any policy was asked, shortened, or masked.
        flips: what comes out otherwise: allows that would be denials first.
    """

    policy: str
    decided: int = 0
    skipped: int = 0
    flips: list[Flip] = field(default_factory=list)


def claims_of(record: Mapping[str, Any]) -> Claims | None:
    """The caller's claims as a record tells them; None if it does not tell all of them."""
    sub, roles = record.get("sub"), record.get("roles")
    if not sub or roles is None or record.get("truncated"):
        return None
    if record.get("authn") == PrincipalKind.ANONYMOUS:
        principal = ANONYMOUS
    else:
        try:
            kind = PrincipalKind(str(record.get("authn")))
        except ValueError:
            return None
        principal = Principal(kind, str(record.get("iss")), str(sub).removeprefix("user:"))
    system: set[str] = set()
    within: dict[str, set[str]] = {}
    for role in roles:
        name, _, namespace = str(role).partition("@")
        if not is_role(name):
            return None
        if namespace:
            within.setdefault(namespace, set()).add(name)
        else:
            system.add(name)
    return Claims(principal, frozenset(system), {name: frozenset(held) for name, held in within.items()})


def decide_again(authorizer: Authorizer, record: Mapping[str, Any]) -> Verdict | None:
    """What ``authorizer`` says of a recorded call; None if no policy was asked then, or the record lacks something."""
    if record.get("reason") not in _BY_POLICY:
        return None
    claims = claims_of(record)
    if claims is None:
        return None
    call = Call(str(record.get("method")), tuple(record.get("namespaces") or ()), record.get("unreadable"))
    try:
        return authorizer.authorize(claims, call)
    except EvaluationError:
        return None


def replay(logs: Logs, bundle: Path, search: Search | None = None) -> Replay:
    """Make the recorded decisions again, by the policy bundle in the folder ``bundle``.

    Decisions that ask the same are made once.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    revision = load_bundle(bundle)
    result = Replay(revision.id)
    authorizer = authorizer_for(revision)
    for row in questions(logs, search or Search()):
        verdict = decide_again(authorizer, row)
        if verdict is None:
            result.skipped += row["n"]
            continue
        result.decided += row["n"]
        if (verdict.effect is Effect.ALLOW) != (row["decision"] == "allow"):
            result.flips.append(_flip(row, verdict))
    result.flips.sort(key=lambda flip: (flip.before != "allow", -flip.count))
    del result.flips[_FLIPS_LIMIT:]
    return result


def questions(logs: Logs, search: Search) -> Iterable[Row]:
    """Every different question among the recorded decisions, with ``n``, how often it was asked."""
    where, parameters = search.sql()
    names = ", ".join(_DISTINCT)
    return logs.each(
        f"SELECT {names}, any_value(reason) AS reason, bool_or(truncated) AS truncated, count(*) AS n, "
        f"arg_max(id, time) AS id, min(time) AS first, max(time) AS last FROM decisions WHERE {where} GROUP BY {names}",
        parameters,
    )


def _flip(row: Row, verdict: Verdict) -> Flip:
    return Flip(
        row["sub"],
        row["method"],
        tuple(row["namespaces"] or ()),
        tuple(row["roles"] or ()),
        row["decision"],
        verdict.effect.value,
        row["rule"],
        f"{verdict.rule.text} ({verdict.rule})" if verdict.rule else None,
        row["n"],
        row["id"],
    )
