"""Unused: what of a policy decided nothing for as long as it was in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from authz.errors import Place
from authz.policy.load import load_bundle
from authz.policy.revision import PolicyLine, Revision
from authz.review.logs import Logs
from authz.review.matching import KeptPolicies

_ROLES_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Idle:
    """A line of a policy that was not used.

    Attributes:
        line: the line.
        since: since when it was in force without a break, as far as the log shows (UTC); None: it does not show it.
        whole: whether it was in force for all of the time that was looked at: else that it was not used says less.
    """

    line: PolicyLine
    since: datetime | None
    whole: bool

    @property
    def text(self) -> str:
        """The line in Casbin's CSV form."""
        return self.line.text

    @property
    def place(self) -> Place:
        """Where it is written."""
        return self.line.place


@dataclass(frozen=True, slots=True)
class Unused:
    """What of a policy decided nothing.

    Attributes:
        policy: its revision.
        since: from when decisions were looked at.
        in_force: since when the log shows this very revision in force; None: it does not.
        rules: rules that said what came out of no call; those that were in force all the time first.
        grants: ``g`` lines by which no rule was reached, likewise.
        roles: roles that callers had and no rule was reached by, as (subject, role), at most 1,000.
        decided: how many decisions were looked at.
        alone: of how many of them only the one rule is known that the record names, because the policy that decided is
            not at hand or cannot be compiled, or the record was shortened.
    """

    policy: str
    since: datetime
    in_force: datetime | None
    rules: tuple[Idle, ...]
    grants: tuple[Idle, ...]
    roles: tuple[tuple[str, str], ...]
    decided: int = 0
    alone: int = 0

    @property
    def any(self) -> bool:
        """Whether something was in force all the time, and not used."""
        return bool(self.roles) or any(idle.whole for idle in (*self.rules, *self.grants))


def unused(logs: Logs, bundle: Path, days: float, now: datetime | None = None) -> Unused:
    """What of the policy in the folder ``bundle`` was not used in the last ``days``, by the log.

    A rule counts as used if it said what came out of a call, in whichever revision: every rule that did, and not only
    the one that the record names, where the policy that decided is kept.

    Raises:
        PolicyError: the bundle cannot be used.
    """
    revision = load_bundle(bundle)
    since = ((now or datetime.now(UTC)) - timedelta(days=days)).astimezone(UTC).replace(tzinfo=None)
    kept = KeptPolicies(logs.files, revision)
    used = _Used()
    rows = logs.each(
        "SELECT policy_version, sub, iss, authn, roles, method, namespaces, unreadable, decision, rule, rule_chain, "
        "bool_or(truncated) AS truncated, max(time) AS last, count(*) AS n FROM decisions WHERE time >= ? "
        "GROUP BY policy_version, sub, iss, authn, roles, method, namespaces, unreadable, decision, rule, rule_chain",
        [since],
    )
    for row in rows:
        used.note(row, kept)
    at = _in_force(logs, revision, kept)

    def idle(lines: Iterable[PolicyLine]) -> tuple[Idle, ...]:
        found = [Idle(line, at.get(line.text), at.get(line.text, datetime.max) <= since) for line in lines]
        return tuple(sorted(found, key=lambda each: not each.whole))

    loaded = logs.ask(
        "SELECT min(time) AS first FROM records WHERE event = 'policy.loaded' AND policy_version = ?", [revision.id]
    )
    return Unused(
        revision.id,
        since.replace(tzinfo=UTC),
        loaded[0]["first"],
        idle(line for line in revision.lines if line.ptype == "p" and line.text not in used.rules),
        idle(line for line in revision.lines if line.ptype == "g" and tuple(line.fields[:2]) not in used.steps),
        tuple(sorted(used.idle_roles()))[:_ROLES_LIMIT],
        used.decided,
        used.alone,
    )


class _Used:
    """What decisions made use of."""

    def __init__(self) -> None:
        self.rules: set[str] = set()
        self.steps: set[tuple[str, str]] = set()
        self.decided = self.alone = 0
        self._held: set[tuple[str, str]] = set()
        self._reached: set[tuple[str, str]] = set()

    def note(self, row: Mapping[str, Any], kept: KeptPolicies) -> None:
        """Note decisions that are alike."""
        sub, again = row["sub"], kept.matched(row) if row["rule"] else []
        self.decided += row["n"]
        self.alone += row["n"] if again is None else 0
        found = [(row["rule"], row["rule_chain"] or ())] if row["rule"] else []
        for text, way in (*found, *((rule.text, rule.chain) for rule in again or ())):
            self.rules.add(text)
            self.steps.update(pairwise(way))
            if sub and way:
                self._reached.add((sub, way[0]))
        if sub:
            self._held.update((sub, role) for role in row["roles"] or ())

    def idle_roles(self) -> set[tuple[str, str]]:
        """Who held which role, and reached no rule by it."""
        return {(sub, role) for sub, role in self._held if (sub, f"role:{role.partition('@')[0]}") not in self._reached}


def _in_force(logs: Logs, revision: Revision, kept: KeptPolicies) -> dict[str, datetime]:
    """Since when each line of ``revision`` was in force without a break, up to the end of the log.

    Where the policy of some time is not at hand, what was before it does not count.
    """
    loads = logs.ask(
        "WITH seen AS (SELECT time, writer, policy_version FROM records WHERE event = 'policy.loaded' UNION ALL "
        "SELECT min(time), writer, policy_version FROM decisions WHERE policy_version IS NOT NULL "
        "GROUP BY writer, policy_version), here AS (SELECT DISTINCT writer FROM seen WHERE policy_version = ?) "
        # the log of another service, in the same folder, says nothing of this policy
        "SELECT time, policy_version FROM seen WHERE writer IN (SELECT writer FROM here) "
        "OR NOT EXISTS (SELECT 1 FROM here) ORDER BY time DESC",
        [revision.id],
    )
    found: dict[str, datetime] = {}
    left = {line.text for line in revision.lines}
    later: tuple[datetime, str] | None = None
    for row in loads:
        time, version = row["time"], row["policy_version"]
        if later is None or version != later[1]:
            there = kept.find(version)
            still = left & {line.text for line in there.lines} if there is not None else set()
            if later is not None:
                found.update(dict.fromkeys(left - still, later[0]))
            left = still
        if not left:
            return found
        later = (time, version)
    if later is not None:
        found.update(dict.fromkeys(left, later[0]))
    return found
