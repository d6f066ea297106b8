"""Usage: the least policy that covers what somebody did, and who did what beside who can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Authorizer, Effect
from authz.errors import EvaluationError
from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE
from authz.review.logs import Logs, Row
from authz.review.named_users import NamedUsers
from authz.review.replay import claims_of
from authz.review.search import Search


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One line of the least policy.

    Attributes:
        line: the rule.
        count, last: how often it would have decided, and when last.
    """

    line: str
    count: int
    last: datetime


def suggest(logs: Logs, subject: str, search: Search | None = None) -> list[Suggestion]:
    """The least policy that covers what ``subject`` (``user:corp:alice``) was allowed: a rule for each thing done."""
    where, parameters = (search or Search()).sql()
    rows = logs.ask(
        "SELECT name, method, access, count(*) AS n, max(time) AS last FROM "
        "(SELECT unnest(namespaces) AS name, method, request[4] AS access, time FROM decisions "
        f"WHERE decision = 'allow' AND sub = ? AND {where}) "
        "GROUP BY name, method, access ORDER BY name, method",
        [subject, *parameters],
    )
    return [
        Suggestion(
            f"p, {subject}, {row['name'] or NOWHERE}, {row['method']}, {row['access'] or '*'}, allow",
            row["n"],
            row["last"],
        )
        for row in rows
    ]


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
