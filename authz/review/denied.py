"""Denied: what was refused, grouped, with the smallest rule that would allow it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from authz.policy.revision import NOWHERE
from authz.review.logs import Logs
from authz.review.search import Search


@dataclass(frozen=True, slots=True)
class Denial:
    """Refusals that are alike.

    Attributes:
        sub: the caller; None: nobody was proven.
        method, namespace, reason: what was refused, and why.
        rule: the rule that denied it, with its place; None: none did.
        count, first, last: how often, and when.
        example: audit id of the latest.
        remedy: the smallest rule that would allow it, or what stands in the way of one.
    """

    sub: str | None
    method: str
    namespace: str
    reason: str
    rule: str | None
    count: int
    first: datetime
    last: datetime
    example: str
    remedy: str


def denied(logs: Logs, search: Search | None = None, limit: int = 100) -> list[Denial]:
    """The refusals that a search finds, those that come most often first."""
    where, parameters = (search or Search()).sql()
    rows = logs.ask(
        "SELECT sub, method, namespace, reason, rule, rule_src, any_value(request[4]) AS access, count(*) AS n, "
        "min(time) AS first, max(time) AS last, arg_max(id, time) AS id FROM decisions "
        f"WHERE decision <> 'allow' AND {where} GROUP BY sub, method, namespace, reason, rule, rule_src "
        "ORDER BY n DESC, last DESC, method, namespace LIMIT ?",
        [*parameters, limit],
    )
    return [
        Denial(
            row["sub"],
            row["method"],
            row["namespace"] or NOWHERE,
            row["reason"],
            f"{row['rule']} ({row['rule_src']})" if row["rule"] else None,
            row["n"],
            row["first"],
            row["last"],
            row["id"],
            _remedy(row["reason"], row["sub"], row["namespace"], row["method"], row["access"]),
        )
        for row in rows
    ]


def _remedy(reason: str, sub: str | None, namespace: str | None, method: str, access: str | None) -> str:
    if reason == "no_rule" and sub:
        return f"p, {sub}, {namespace or NOWHERE}, {method}, {access or '*'}, allow"
    if reason == "denied_by_rule":
        return "none: the rule that denies it would win"
    if reason == "method_unknown":
        return "none: the API catalogue does not know the method"
    if reason in ("evaluation_failed", "audit_unavailable", "keys_unavailable"):
        return "none: it could not be decided"
    return "none: it was refused before the rules were asked"
