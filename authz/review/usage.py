"""Usage: the least policy that covers what somebody did, and who did what beside who can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from authz.authn.base import PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Authorizer, Effect
from authz.errors import AuditError, EvaluationError
from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE, PolicyLine, Revision
from authz.review.logs import Logs, Row
from authz.review.matching import KeptPolicies
from authz.review.named_users import NamedUsers, is_hashed
from authz.review.narrow_rules import (
    BEYOND,
    HASHED,
    METHOD_UNKNOWN,
    NOBODY,
    UNWRITABLE,
    NarrowRules,
    without_roles,
)
from authz.review.replay import claims_of
from authz.review.search import Search


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of the least policy.

    Attributes:
        line: the rule, by the model of the policy; or what stands in the way of one, beginning with ``none``.
        method, namespace: what is allowed by it.
        count, last: how often it would have decided, and when last.
    """

    line: str
    method: str
    namespace: str
    count: int
    last: datetime

    @property
    def is_rule(self) -> bool:
        """Whether there is a rule."""
        return self.line.startswith("p, ")


def suggest(logs: Logs, subject: str, search: Search | None = None, bundle: Path | None = None) -> list[Suggestion]:
    """The least policy that covers what ``subject`` (``user:corp:alice``) was allowed: a rule for each thing done.

    A rule is told if it allows it, alone with the others.

    Args:
        logs: where to look.
        subject: who.
        search: what of it.
        bundle: the policy whose model the rules are for; None: the one that decided last.

    Raises:
        PolicyError: the bundle cannot be used.
        AuditError: the policy that decided is not at hand.
    """
    where, parameters = (search or Search()).sql()
    rows = logs.ask(
        "SELECT name, method, any_value(iss) AS iss, any_value(authn) AS authn, any_value(redacted) AS redacted, "
        "arg_max(policy_version, time) AS version, count(*) AS n, max(time) AS last FROM "
        "(SELECT unnest(namespaces) AS name, * FROM decisions "
        f"WHERE decision = 'allow' AND sub = ? AND {where}) GROUP BY name, method ORDER BY name, method",
        [subject, *parameters],
    )
    if not rows:
        return []
    if bundle is None:
        revision = KeptPolicies(logs.files).find(max(rows, key=lambda row: row["last"])["version"] or "")
    else:
        revision = load_bundle(bundle)
    if revision is None:
        raise AuditError("the policy that decided is not at hand; name a folder of it with --policy")
    found: dict[tuple[str, str, str], Suggestion] = {}
    for line, row in zip(_least(revision, subject, rows), rows, strict=True):
        made = Suggestion(line, row["method"], row["name"] or NOWHERE, row["n"], row["last"])
        # a model may make no difference between namespaces, or between methods
        key = (line, "", "") if made.is_rule else (line, made.method, made.namespace)
        same = found.get(key, made)
        if same is not made:
            made = replace(same, count=same.count + made.count, last=max(same.last, made.last))
        found[key] = made
    return list(found.values())


def _least(revision: Revision, subject: str, rows: Sequence[Row]) -> list[str]:
    """For each of the rows its rule, or why there is none."""
    if is_hashed(rows[0]):
        return [HASHED] * len(rows)
    if rows[0]["authn"] == PrincipalKind.ANONYMOUS:
        return [NOBODY] * len(rows)
    rules = NarrowRules(revision)
    lines: dict[int, PolicyLine] = {}
    told = [METHOD_UNKNOWN] * len(rows)
    for at, row in enumerate(rows):
        if entry := revision.catalogue.find(row["method"]):
            lines[at] = rules.make(subject, row["name"], row["method"], entry)
    writable = rules.writable(lines.values())
    authorizer = rules.authorizer({line.text: line for line in lines.values()}.values())
    claims = without_roles(subject, rows[0]["iss"])
    for at, line in lines.items():
        row = rows[at]
        allowed = authorizer is not None and _allows(authorizer, claims, Call(row["method"], (row["name"],)))
        told[at] = (line.text if line in writable else UNWRITABLE) if allowed else BEYOND
    return told


@dataclass(frozen=True, slots=True)
class Doer:
    """Somebody and a method.

    Attributes:
        sub: who.
        roles: in each namespace, those of their latest call that named it, for a record tells no others.
        did: how often they were let in.
        unenforced: how often of these that was no allow, and nothing was enforced.
        refused: how often they were not let in.
        last: when it was called last; None: never.
        can: whether the policy that was named would allow them, today, one of the calls that anybody made; None: none
            was named, or it cannot tell: the log does not have all their roles, or a hash stands for them, and the
            policy names users.
    """

    sub: str
    roles: tuple[str, ...]
    did: int
    unenforced: int
    refused: int
    last: datetime | None
    can: bool | None


def who_did(logs: Logs, method: str, namespace: str | None = None, bundle: Path | None = None) -> list[Doer]:
    """Who called ``method`` (a pattern), and, by the policy in ``bundle``, who of all known callers can.

    Args:
        logs: where to look.
        method: gRPC full method; ``*`` and ``?`` stand for any characters.
        namespace: only calls that name it (a pattern); None: all.
        bundle: a policy; every caller that the log knows is asked about every call that was matched.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    words = f"method:{method}" + (f" ns:{namespace}" if namespace else "")
    where, parameters = Search.parse(words).sql()
    rows = logs.ask(
        f"SELECT sub, count(*) FILTER (let_in AND {where}) AS did, "
        f"count(*) FILTER (let_in AND decision <> 'allow' AND {where}) AS unenforced, "
        f"count(*) FILTER (NOT let_in AND {where}) AS refused, max(time) FILTER ({where}) AS last "
        "FROM decisions WHERE sub IS NOT NULL GROUP BY sub ORDER BY did DESC, refused DESC, sub",
        parameters * 4,
    )
    callers = _callers(logs)
    able: dict[str, bool | None] = {}
    if bundle is not None:
        asked = logs.ask(
            f"SELECT DISTINCT method, namespaces FROM decisions WHERE {where} "
            "AND unreadable IS NULL AND NOT coalesce(truncated, false)",
            parameters,
        )
        able = _able(callers, [Call(row["method"], tuple(row["namespaces"] or ())) for row in asked], bundle)
    doers = [
        Doer(
            row["sub"],
            tuple(callers[row["sub"]]["roles"]) if row["sub"] in callers else (),
            row["did"],
            row["unenforced"],
            row["refused"],
            row["last"],
            able.get(row["sub"]),
        )
        for row in rows
    ]
    return [doer for doer in doers if doer.did or doer.refused or doer.can]


def _callers(logs: Logs) -> dict[str, Row]:
    """What the log knows of each caller, as fields of a record, with the roles from all namespaces."""
    rows = logs.each(
        "SELECT sub, namespaces, max(time) AS last, arg_max(roles, time) AS roles, arg_max(authn, time) AS authn, "
        "arg_max(iss, time) AS iss, arg_max(redacted, time) AS redacted, arg_max(truncated, time) AS truncated "
        "FROM decisions WHERE sub IS NOT NULL AND roles IS NOT NULL GROUP BY sub, namespaces ORDER BY last, namespaces"
    )
    latest: dict[str, Row] = {}
    within: dict[str, dict[str, list[str]]] = {}
    cut: set[str] = set()
    for row in rows:
        sub = row["sub"]
        here = within.setdefault(sub, {})
        here.update({name: [] for name in row["namespaces"] or () if name})
        for role in row["roles"]:
            if namespace := role.partition("@")[2]:
                here.setdefault(namespace, []).append(role)
        latest[sub] = row
        if row["truncated"]:
            cut.add(sub)
    for sub, row in latest.items():
        system = [role for role in row["roles"] if "@" not in role]
        row["roles"] = system + sorted(role for roles in within[sub].values() for role in roles)
        row["truncated"] = sub in cut
    return latest


def _able(callers: Mapping[str, Row], calls: Sequence[Call], bundle: Path) -> dict[str, bool | None]:
    """Who may make one of ``calls``; None: that cannot be told."""
    revision = load_bundle(bundle)
    users, authorizer = NamedUsers(revision), authorizer_for(revision)
    able: dict[str, bool | None] = {}
    for sub, row in callers.items():
        claims = claims_of(row)
        if claims is None or not calls or users.may_be(row):
            able[sub] = None
        else:
            able[sub] = any(_allows(authorizer, claims, call) for call in calls)
    return able


def _allows(authorizer: Authorizer, claims: Claims, call: Call) -> bool:
    try:
        return authorizer.authorize(claims, call).effect is Effect.ALLOW
    except EvaluationError:
        return False
