"""Changes: each policy that came into force or was refused, and what it did to the decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from authz.policy.revision import NOWHERE
from authz.review.logs import Logs

_FLIPS_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Turned:
    """A question that was answered otherwise before and after."""

    sub: str | None
    method: str
    namespace: str
    before: str
    after: str
    count: int


@dataclass(slots=True)
class Change:
    """One policy that came into force, or was refused; or a change of its shadow alone: then before and after are one.

    Attributes:
        time, writer: when, and in which process's log.
        event: ``policy.loaded`` or ``policy.rejected``.
        before, after: revisions; None: not known.
        shadow_before, shadow: revisions of the shadow that was asked beside them; None: there was none.
        problems: why it was refused.
        allowed, denied: decisions of this process by the revision, until it loads another.
        turned: what the logs show decided otherwise by the revision before: at most 20, those asked most often first.
            Of several processes that make the same change, it is told of the first.
    """

    time: datetime
    writer: str
    event: str
    before: str | None
    after: str | None
    problems: tuple[str, ...] = ()
    allowed: int = 0
    denied: int = 0
    turned: list[Turned] = field(default_factory=list)
    shadow_before: str | None = None
    shadow: str | None = None

    @property
    def shadows(self) -> str:
        """The shadow in a few characters: its revision, or which one came after which; empty: none was asked."""
        if self.shadow == self.shadow_before:
            return (self.shadow or "")[:12]
        return f"{(self.shadow_before or 'none')[:12]} to {(self.shadow or 'none')[:12]}"


def changes(logs: Logs) -> list[Change]:
    """Every change of policy, oldest first."""
    rows = logs.ask(
        'SELECT time, writer, seq, event, "before", policy_version, problems, shadow_before, shadow_version '
        "FROM records WHERE event IN ('policy.loaded', 'policy.rejected') ORDER BY time, writer, seq"
    )
    counts = {
        (row["writer"], row["seq"]): (row["allowed"], row["denied"])
        for row in logs.ask(
            "SELECT l.writer, l.seq, count(*) FILTER (decision = 'allow') AS allowed, "
            "count(*) FILTER (decision <> 'allow') AS denied FROM decisions d ASOF JOIN "
            "(SELECT writer, seq, policy_version FROM records WHERE event = 'policy.loaded') l "
            "ON d.writer = l.writer AND d.policy_version = l.policy_version AND d.seq > l.seq GROUP BY l.writer, l.seq"
        )
    }
    found: list[Change] = []
    told: set[tuple[str, str]] = set()
    last: dict[str, str] = {}
    for row in rows:
        loaded = row["event"] == "policy.loaded"
        after = row["policy_version"] if loaded else None
        before = row["before"] or last.get(row["writer"]) if loaded else row["policy_version"]
        change = Change(
            row["time"], row["writer"], row["event"], before, after, tuple(row["problems"] or ()),
            shadow_before=row["shadow_before"], shadow=row["shadow_version"],
        )  # fmt: skip
        if loaded:
            change.allowed, change.denied = counts.get((row["writer"], row["seq"]), (0, 0))
            last[row["writer"]] = str(after)
            if before and after and before != after and (before, after) not in told:
                told.add((before, after))
                change.turned = _turned(logs, before, after)
        found.append(change)
    return found


def _turned(logs: Logs, before: str, after: str) -> list[Turned]:
    rows = logs.ask(
        "WITH asked AS (SELECT policy_version, sub, roles, method, namespaces, "
        "arg_max(decision, time) AS decision, count(*) AS n FROM decisions WHERE policy_version IN (?, ?) "
        "GROUP BY policy_version, sub, roles, method, namespaces) "
        "SELECT b.sub, b.method, b.namespaces, b.decision AS was, a.decision AS is_now, a.n FROM asked b JOIN asked a "
        "ON b.sub IS NOT DISTINCT FROM a.sub AND b.roles IS NOT DISTINCT FROM a.roles AND b.method = a.method "
        "AND b.namespaces IS NOT DISTINCT FROM a.namespaces WHERE b.policy_version = ? AND a.policy_version = ? "
        "AND (b.decision = 'allow') <> (a.decision = 'allow') ORDER BY a.n DESC, b.method, b.sub LIMIT ?",
        [before, after, before, after, _FLIPS_LIMIT],
    )
    return [
        Turned(
            row["sub"], row["method"], ", ".join(name or NOWHERE for name in row["namespaces"] or (None,)), row["was"],
            row["is_now"], row["n"],
        )
        for row in rows
    ]  # fmt: skip
