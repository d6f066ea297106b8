"""Replay: what would another policy have said? Recorded decisions, made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims, is_role
from authz.decision import authorizer_for
from authz.decision.base import Effect, Verdict
from authz.errors import EvaluationError
from authz.policy.ending import FUNCTION, NEVER, read_end
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.review.logs import Logs, Row
from authz.review.named_users import NamedUsers
from authz.review.search import Search

_DISTINCT: Final = ("sub", "iss", "authn", "roles", "method", "namespaces", "unreadable", "decision", "rule")
BY_POLICY: Final = frozenset(
    {"allowed", "denied_by_rule", "no_rule", "method_unknown", "namespace_malformed", "namespace_unreadable"}
)
"""The reasons of which the policy, or its API catalogue, is the cause."""
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
        skipped: how many could not be: refused before any policy was asked, shortened, or of a hashed caller whom the
            policy may name.
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


class Again:
    """Decides recorded calls again by ``revision``, each as at the time when it was made: what ended since then counts.

    Raises:
        PolicyError: it cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        self._at = 0.0
        self._users = NamedUsers(revision)
        self.ends = _ends(revision)
        """When rules of it end: between one end and the next, its answers do not change."""
        self._authorizer = authorizer_for(revision, lambda: self._at)

    def decide(self, record: Mapping[str, Any], at: datetime) -> Verdict | None:
        """What it says of a call that was made ``at`` that time (UTC).

        Returns:
            None if no policy was asked then, or if the record does not tell all of the caller that counts: it was
            shortened, or a hash stands for somebody whom the policy may name.
        """
        claims = claims_of(record)
        if record.get("reason") not in BY_POLICY or claims is None or self._users.may_be(record):
            return None
        call = Call(str(record.get("method")), tuple(record.get("namespaces") or ()), record.get("unreadable"))
        self._at = at.replace(tzinfo=UTC).timestamp()
        try:
            return self._authorizer.authorize(claims, call)
        except EvaluationError:
            return None


def _ends(revision: Revision) -> list[datetime]:
    if FUNCTION not in revision.model:
        return []
    found = set()
    for text in {text for line in revision.lines for text in line.fields} - {NEVER}:
        with contextlib.suppress(ValueError):
            found.add(datetime.fromtimestamp(read_end(text), UTC).replace(tzinfo=None))
    return sorted(found)


def replay(logs: Logs, bundle: Path, search: Search | None = None) -> Replay:
    """Make the recorded decisions again, by the policy bundle in the folder ``bundle``, each as at its own time.

    So the policy that was in force says what it said then; and of another, what counts is what it would have said then.
    Decisions that ask the same are made once.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    revision = load_bundle(bundle)
    result = Replay(revision.id)
    again = Again(revision)
    for row in _questions(logs, search or Search(), again.ends):
        verdict = again.decide(row, row["first"])
        if verdict is None:
            result.skipped += row["n"]
            continue
        result.decided += row["n"]
        if (verdict.effect is Effect.ALLOW) != (row["decision"] == "allow"):
            result.flips.append(_flip(row, verdict))
    result.flips.sort(key=lambda flip: (flip.before != "allow", -flip.count))
    del result.flips[_FLIPS_LIMIT:]
    return result


def _questions(logs: Logs, search: Search, ends: Sequence[datetime]) -> Iterable[Row]:
    """Every different question among the recorded decisions, with ``n``, how often it came between two ``ends``."""
    where, parameters = search.sql()
    names = ", ".join(_DISTINCT)
    span = "len(list_filter(CAST(? AS TIMESTAMP[]), lambda ended: ended <= time))" if ends else "0"
    return logs.each(
        f"SELECT {names}, {span} AS span, any_value(reason) AS reason, bool_or(truncated) AS truncated, "
        "any_value(redacted) AS redacted, count(*) AS n, arg_max(id, time) AS id, min(time) AS first "
        f"FROM decisions WHERE {where} GROUP BY {names}, span",
        [*([list(ends)] if ends else []), *parameters],
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
