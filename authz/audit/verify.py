"""Verify: is this log what its writers wrote? Every chain, number, checkpoint and anchor, and what they do not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from authz.audit.anchor import read_anchors
from authz.audit.checkpoint import VerifyingKey
from authz.audit.finding import Finding, Findings, Kind
from authz.audit.position import Position
from authz.audit.segment import Segment, find_segments, no_log
from authz.audit.walk import ChainReport, Walk


@dataclass(slots=True)
class VerifyReport:
    """What verification says.

    Attributes:
        findings: what was found, in the order of the chains: at most 200 that are damage and 200 that are not, of each.
        chains: one for each chain.
        more: how many findings there are beyond that, of each kind.
        damaged: whether any finding is damage, also one beyond that.
        state: where a later verification may go on, by chain.
    """

    findings: list[Finding] = field(default_factory=list)
    chains: list[ChainReport] = field(default_factory=list)
    more: Counter[Kind] = field(default_factory=Counter)
    damaged: bool = False
    state: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def damage(self) -> list[Finding]:
        """The kept findings that say that the log is not what was written."""
        return [finding for finding in self.findings if finding.kind.is_damage]

    @property
    def sound(self) -> bool:
        """Whether there is no damage."""
        return not self.damaged

    @property
    def not_shown(self) -> str:
        """How many findings are not among those kept, and of which kinds; empty: none."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.more.most_common())
        return f"{self.more.total()} more: {kinds}" if kinds else ""

    def add(self, found: Findings) -> None:
        """Take in what was found of one more chain."""
        self.findings += found.kept
        self.more += found.more
        self.damaged |= found.damaged


def verify(
    paths: Iterable[Path],
    keys: Sequence[VerifyingKey] = (),
    anchors: Iterable[Path] = (),
    *,
    cadence: int = 1000,
    seconds: float = 10.0,
    state: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Verify every chain in some files and folders.

    Args:
        paths: logs, or folders of logs, of any number of writers and hosts.
        keys: what the checkpoints must be signed with; empty: signatures are not looked at.
        anchors: files with checkpoints that were kept elsewhere: each of them must be in the log, byte for byte. What
            an anchor wrote, or the file exporter of an OpenTelemetry collector (OTLP as JSON lines).
        cadence: the most lines between two checkpoints. A recomputed chain without checkpoints fails by this.
        seconds: the longest that a line may wait for its checkpoint.
        state: ``state`` of an earlier report: what that verified is not read again, unless there are other keys now, or
            anchors that it did not know.
        progress: called now and then with the bytes done and the bytes in all.

    Raises:
        AuditError: a path cannot be read at all, or there is no log in any, and nobody says that there was one.
    """
    paths = list(paths)
    anchors = list(anchors)
    held = read_anchors(anchors)
    # what is kept elsewhere may lie in the same folder, and is no second log
    elsewhere = {path.resolve() for path in anchors}
    segments = [segment for segment in find_segments(paths) if segment.path.resolve() not in elsewhere]
    kept_in = ", ".join(map(str, anchors))
    report = VerifyReport()
    total = sum(segment.size for segment in segments)
    by_key = {key.id: key for key in keys}
    done = 0

    def tell(size: int) -> None:
        if progress is not None:
            progress(min(done + size, total), total)

    seen: set[str] = set()
    outside = Findings()
    for writer, group in groupby(segments, key=lambda segment: segment.writer):
        chain = list(group)
        if not writer:
            for segment in chain:
                if segment.size:
                    text = "no line of it belongs to a chain"
                    outside.add(Finding(Kind.UNREADABLE, str(segment.path), 0, 0, text))
            continue
        seen.add(writer)
        resume = _resume(writer, (state or {}).get(writer, {}), chain[0], by_key, held.get(writer, ()))
        walk = Walk(writer, by_key, held.get(writer, {}), cadence, seconds, resume)
        for segment in chain:
            walk.segment(segment, tell)
            done += segment.size
        walk.finish(chain[-1])
        report.chains.append(walk.report)
        report.add(walk.found)
        report.state[writer] = walk.state()
    for writer, lines in held.items():
        if writer not in seen:
            text = f"{len(lines)} anchored checkpoints are of the chain {writer}, of which there is nothing"
            outside.add(Finding(Kind.ANCHOR, kept_in, 0, max(lines), text))
        for seq in [seq for seq, kept in lines.items() if len(kept) > 1]:
            # the writer makes one: somebody else has the key, or writes to what is kept elsewhere
            text = f"two different checkpoints were kept of line {seq} of the chain {writer}"
            outside.add(Finding(Kind.ANCHOR, kept_in, 0, seq, text))
    for writer in (state or {}).keys() - seen:
        text = f"nothing is left of the chain {writer}, which was there when it was verified last"
        outside.add(Finding(Kind.MISSING, ", ".join(map(str, paths)), 0, 0, text))
    report.add(outside)
    if not report.chains and not report.findings:
        raise no_log(paths)
    tell(total)
    return report


def _resume(
    writer: str, state: object, begin: Segment, keys: Mapping[str, VerifyingKey], anchors: Iterable[int]
) -> Position | None:
    """Where an earlier verification ended; None: that knew less than is asked, and the chain is read from ``begin``."""
    position = Position.of(writer, state)
    if position is None or position.keys != tuple(sorted(keys)):
        return None
    if not position.first <= begin.first <= position.seq + 1:
        return None
    return None if any(position.anchored < seq <= position.seq for seq in anchors) else position
