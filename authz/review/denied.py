"""Denied: what no policy allowed, grouped, with the smallest rule that would allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from authz.policy.load import load_bundle
from authz.policy.revision import NOWHERE
from authz.review.logs import Logs, Row
from authz.review.matching import KeptPolicies
from authz.review.narrow_rules import METHOD_UNKNOWN
from authz.review.remedy import UNKNOWN, Remedies
from authz.review.search import Search


@dataclass(frozen=True, slots=True)
class Denial:
    """Denials that are alike.

    Attributes:
        sub: the caller; None: nobody was proven.
        method, namespace, reason: what was refused, and why.
        rule: the rule that denied it, with its place; None: none did.
        count, first, last: how often, and when.
        example: audit id of the latest.
        let_in: whether the callers were let in all the same, since nothing was enforced.
        remedy: the smallest rule that would allow it, by the model of the policy; where a call needs one in each of
            several namespaces, all of them, with `` and `` between them; or what stands in the way of one.
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
    let_in: bool
    remedy: str


def denied(logs: Logs, search: Search | None = None, limit: int = 100, bundle: Path | None = None) -> list[Denial]:
    """The denials that a search finds, those that come most often first.

    Args:
        logs: where to look.
        search: what to look for.
        limit: the most groups of denials.
        bundle: the policy that is to allow them; None: for each of them, the one that refused it last, if it is kept.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    where, parameters = (search or Search()).sql()
    rows = logs.ask(
        "SELECT sub, method, namespace, namespaces, reason, rule, rule_src, let_in, count(*) AS n, min(time) AS first, "
        "max(time) AS last, arg_max(id, time) AS id, arg_max(policy_version, time) AS version, "
        "arg_max(roles, time) AS roles, arg_max(authn, time) AS authn, arg_max(iss, time) AS iss, "
        "arg_max(redacted, time) AS redacted, arg_max(truncated, time) AS truncated FROM decisions "
        f"WHERE decision <> 'allow' AND {where} "
        "GROUP BY sub, method, namespace, namespaces, reason, rule, rule_src, let_in "
        "ORDER BY n DESC, last DESC, method, namespace LIMIT ?",
        [*parameters, limit],
    )
    remedies = _remedies(logs, rows, bundle)
    return [
        Denial(
            row["sub"],
            row["method"],
            ", ".join(name or NOWHERE for name in row["namespaces"] or (row["namespace"],)),
            row["reason"],
            f"{row['rule']} ({row['rule_src']})" if row["rule"] else None,
            row["n"],
            row["first"],
            row["last"],
            row["id"],
            row["let_in"],
            remedy,
        )
        for row, remedy in zip(rows, remedies, strict=True)
    ]


def _remedies(logs: Logs, rows: Sequence[Row], bundle: Path | None) -> list[str]:
    told = [_without_rule(row) for row in rows]
    given = None if bundle is None else load_bundle(bundle)
    kept = KeptPolicies(logs.files)
    by_policy: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        if not told[at]:
            by_policy.setdefault(given.id if given else row["version"] or "", []).append(at)
    for version, places in by_policy.items():
        revision = given or kept.find(version)
        found = [UNKNOWN] * len(places) if revision is None else Remedies(revision).find([rows[at] for at in places])
        for at, remedy in zip(places, found, strict=True):
            told[at] = remedy
    return told


def _without_rule(row: Row) -> str:
    """Why no rule would have changed it; empty: one would."""
    reason = row["reason"]
    if reason == "no_rule" and row["sub"]:
        return ""
    if reason == "denied_by_rule":
        return "none: the rule that denies it would win"
    if reason == "method_unknown":
        return METHOD_UNKNOWN
    if reason in ("evaluation_failed", "audit_unavailable", "keys_unavailable"):
        return "none: it could not be decided"
    return "none: it was refused before the rules were asked"
