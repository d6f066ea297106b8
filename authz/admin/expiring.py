"""Expiring: the rules that end by themselves, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from authz.decision.rules import Rules
from authz.policy.load import MODEL
from authz.policy.model import read_model
from authz.policy.revision import PolicyLine, Revision


@dataclass(frozen=True, slots=True)
class Expiring:
    """A rule that ends.

    Attributes:
        line: the rule.
        end: when, in seconds since the epoch.
        now: the moment that it is looked at.
    """

    line: PolicyLine
    end: float
    now: float

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.end <= self.now

    @property
    def when(self) -> str:
        """The end, as the policy writes it."""
        return f"{datetime.fromtimestamp(self.end, UTC):%Y-%m-%dT%H:%M:%SZ}"

    @property
    def left(self) -> str:
        """How long it still counts, for a person."""
        return span(self.end - self.now)


def expiring(revision: Revision, now: float | None = None, within: float | None = None) -> list[Expiring]:
    """The rules of ``revision`` that end, the next one first; those that have ended come first of all.

    Args:
        revision: the bundle.
        now: the moment, in seconds since the epoch; left out: now.
        within: only those that end within so many seconds from then.
    """
    at = time.time() if now is None else now
    rules = Rules(
        read_model(revision.model, str(revision.path / MODEL)), [(x.ptype, *x.fields) for x in revision.lines]
    )
    found = sorted((end, rules.lines[rule]) for rule, end in rules.ends.items())
    return [Expiring(revision.lines[line], end, at) for end, line in found if within is None or end <= at + within]


def span(seconds: float) -> str:
    """A length of time for a person: whole units of the largest that fits."""
    for length, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {name}{'s' * (number != 1)}"
    return "less than a minute"
