"""Finding: one thing that the verification of a log found, and how many of them are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_LIMIT: Final = 200


class Kind(StrEnum):
    """What a finding is about."""

    # the log is not what was written
    CHANGED = "changed"
    MISSING = "missing"
    REPEATED = "repeated"
    NO_LINE = "no_line"
    CHECKPOINT = "checkpoint"
    CADENCE = "cadence"
    ANCHOR = "anchor"
    BEGINNING = "beginning"
    UNREADABLE = "unreadable"

    # the log is what was written, and it says so itself, or shows less than it could
    LOSS = "loss"
    UNSYNCED = "unsynced"
    RECOVERED = "recovered"
    REPLACED = "replaced"
    OPEN_END = "open_end"
    UNPROVEN = "unproven"

    @property
    def is_damage(self) -> bool:
        """Whether it says that the log was changed; if not, it is something to know."""
        return self not in _NOTICES


_NOTICES: Final = frozenset(
    {Kind.LOSS, Kind.UNSYNCED, Kind.RECOVERED, Kind.REPLACED, Kind.OPEN_END, Kind.UNPROVEN}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verification found.

    Attributes:
        kind: what it is about.
        path: file.
        line: number of the line in the file, from 1; 0: the file as a whole.
        seq: number of the line in its chain; 0: none.
        message: a sentence.
    """

    kind: Kind
    path: str
    line: int
    seq: int
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.kind}: {self.message}"


@dataclass(slots=True)
class Findings:
    """What was found of one chain: the first 200 findings that are damage and the first 200 that are not.

    Attributes:
        kept: the findings.
        more: how many there are beyond that, of each kind.
        damaged: whether any of them all is damage.
    """

    kept: list[Finding] = field(default_factory=list)
    more: Counter[Kind] = field(default_factory=Counter)
    damaged: bool = False
    _counts: Counter[bool] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        damage = finding.kind.is_damage
        self.damaged |= damage
        self._counts[damage] += 1
        if self._counts[damage] > _LIMIT:
            self.more[finding.kind] += 1
        else:
            self.kept.append(finding)
