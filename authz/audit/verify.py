"""Verify: is this log what its writers wrote? Every chain, number, checkpoint and anchor, and what they do not show."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import orjson

from authz.audit.anchor import read_anchors
from authz.audit.chain import HEAD, Link
from authz.audit.checkpoint import VerifyingKey, signed_members
from authz.audit.finding import Finding, Findings, Kind
from authz.audit.record import GENESIS
from authz.audit.segment import Segment, find_segments, no_log

_SLACK_LINES: Final = 16
_SLACK_SECONDS: Final = 60.0
_PROGRESS_LINES: Final = 50_000


@dataclass(slots=True)
class ChainReport:
    """What is known of one chain.

    Attributes:
        writer: its id.
        files: how many files it is in.
        first, last: numbers of its first and last line.
        lines: how many there are.
        checkpoints: how many of them are checkpoints.
        sealed: number of the last line that a checkpoint vouches for; 0: none. With a key, only genuine ones count.
        anchored: number of the last line that an anchor vouches for; 0: none.
        lost: how many records the log says were lost.
        omitted: how many allows were counted instead of recorded.
        closed: whether it was closed as it should be. With a key, only a genuine checkpoint says so.
    """

    writer: str
    files: int = 0
    first: int = 0
    last: int = 0
    lines: int = 0
    checkpoints: int = 0
    sealed: int = 0
    anchored: int = 0
    lost: int = 0
    omitted: int = 0
    closed: bool = False


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
        state: ``state`` of an earlier report: what that verified is not read again.
        progress: called now and then with the bytes done and the bytes in all.

    Raises:
        AuditError: a path cannot be read at all, or there is no log in any, and nobody says that there was one.
    """
    paths = list(paths)
    segments = find_segments(paths)
    anchors = list(anchors)
    held = read_anchors(anchors)
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
        walk = _Walk(writer, by_key, held.get(writer, {}), cadence, seconds, (state or {}).get(writer))
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


class _Walk:
    """One chain, from its first line to its last."""

    def __init__(
        self,
        writer: str,
        keys: Mapping[str, VerifyingKey],
        anchors: Mapping[int, Sequence[bytes]],
        cadence: int,
        seconds: float,
        state: Mapping[str, Any] | None,
    ) -> None:
        self.report = ChainReport(writer)
        self.found = Findings()
        self._writer = writer
        self._head = b'{"v":1,"writer":"%s","seq":' % writer.encode()
        self._keys = keys
        self._anchors = dict(anchors)
        self._cadence = cadence
        self._seconds = seconds
        self._seq = 0
        self._hash = GENESIS
        self._begin: tuple[int, str, Segment] | None = None
        self._retired: set[tuple[int, str]] = set()
        self._unsealed = 0
        self._unsealed_line = b""
        self._signed = self._unsigned = 0
        self._final_v1 = False
        self._torn: tuple[Segment, int, int] | None = None
        self._firsts: dict[int, Path] = {}
        self._resume = dict(state) if state else {}
        self._position: dict[str, Any] = {}
        if self._resume:
            self._seq, self._hash = int(self._resume["seq"]), str(self._resume["hash"])
            self._unsealed = int(self._resume["unsealed"])
            self._anchors = {seq: line for seq, line in anchors.items() if seq > self._seq}
            self.report.first = int(self._resume["first"])
            self.report.sealed = int(self._resume["sealed"])
            self.report.closed = bool(self._resume["closed"])

    def _find(self, kind: Kind, segment: Segment, number: int, seq: int, message: str) -> None:
        self.found.add(Finding(kind, str(segment.path), number, seq, message))

    def segment(self, segment: Segment, tell: Callable[[int], None]) -> None:
        """Walk through one file."""
        if self._torn is not None:
            self._find(Kind.NO_LINE, self._torn[0], self._torn[1], 0, "the last line of the file is torn")
            self._torn = None
        self.report.files += 1
        offset = self._offset(segment)
        if offset < 0:
            return
        if segment.first in self._firsts:
            other = self._firsts[segment.first]
            self._find(Kind.REPEATED, segment, 0, segment.first, f"begins with the same line as {other}")
        self._firsts[segment.first] = segment.path
        size, number = offset, int(self._resume.get("line", 0)) if offset else 0
        sha256, head, marks = hashlib.sha256, self._head, b'"event":"decision"'
        expected = b'%s%d,"prev":"%s",' % (head, self._seq + 1, self._hash.encode())
        count = 0
        line = b""
        for line in segment.lines(offset):
            number += 1
            size += len(line)
            # what follows is a comparison of bytes; whatever is out of the ordinary is looked at below
            if line.startswith(expected) and line.startswith(marks, len(expected)) and line.endswith(b"}\n"):
                self._hash = sha256(line).hexdigest()
                self._seq += 1
                self._unsealed += 1
                if self._unsealed == 1:
                    self._unsealed_line = line
                    self.report.closed = self._final_v1 = False
            else:
                self._look(line, segment, number)
            count += 1
            if self._unsealed > self._cadence:
                self._overdue(segment, number)
            if not count % _PROGRESS_LINES:
                tell(size - offset)
            expected = b'%s%d,"prev":"%s",' % (head, self._seq + 1, self._hash.encode())
        self.report.lines += count
        self._position = {"path": str(segment.path), "offset": size, "line": number}
        if not line.endswith(b"\n") and line:
            self._position = {}

    def _offset(self, segment: Segment) -> int:
        """Where in the file to begin; -1: it was verified before."""
        if not self._resume or self._position:
            return 0
        if str(segment.path) == self._resume["path"]:
            offset = int(self._resume["offset"])
            if segment.size < offset:
                self._find(
                    Kind.MISSING, segment, 0, self._seq, "is shorter than it was when it was verified last"
                )  # fmt: skip
                return -1
            return offset
        # a file that was rotated since has another name, and the same first line
        if segment.first == self._resume["segment_first"]:
            return int(self._resume["offset"]) if segment.size >= int(self._resume["offset"]) else 0
        return -1 if segment.first <= self._seq else 0

    def _overdue(self, segment: Segment, number: int) -> None:
        if self._unsealed == self._cadence + _SLACK_LINES:
            text = f"more than {self._cadence} lines without a checkpoint"
            self._find(Kind.CADENCE, segment, number, self._seq, text)

    def _look(self, line: bytes, segment: Segment, number: int) -> None:
        """A line that is not simply the next decision."""
        head = HEAD.match(line)
        if head is None or head[1] != self._writer.encode() or not line.endswith(b"}\n"):
            if (not line.endswith(b"\n") and head is None) or (head and not line.endswith(b"}\n")):
                self._find(Kind.NO_LINE, segment, number, 0, "the line is torn, or its end was changed")
            elif head is not None:
                self._find(Kind.NO_LINE, segment, number, 0, f"belongs to the chain {head[1].decode()}")
            else:
                self._find(Kind.NO_LINE, segment, number, 0, "is no line of a chain")
            return
        seq, prev = int(head[2]), head[3].decode()
        try:
            fields = orjson.loads(line)
        except ValueError:
            self._find(Kind.NO_LINE, segment, number, seq, "is not JSON")
            fields = {}
        if self._begin is None and not self._seq:
            self._begin = (seq, prev, segment)
            self._seq, self._hash = seq - 1, prev
            self.report.first = seq
        if seq <= self._seq:
            self._find(Kind.REPEATED, segment, number, seq, f"line {seq} comes after line {self._seq}")
        elif seq > self._seq + 1:
            self._gap(fields, seq, segment, number)
        if seq > self._seq and prev != self._hash:
            text = f"line {self._seq} is not what it was when line {seq} was written, or line {seq} was changed"
            self._find(Kind.CHANGED, segment, number, seq, text)
        if seq > self._seq or fields.get("event") == "decision":
            self._seq, self._hash = seq, hashlib.sha256(line).hexdigest()
        self._unsealed += 1
        if self._unsealed == 1:
            self._unsealed_line = line
        self._event(fields, Link(self._writer, seq - 1, prev), line, segment, number)

    def _gap(self, fields: Mapping[str, Any], seq: int, segment: Segment, number: int) -> None:
        told = fields.get("event") == "audit.loss" and (fields.get("from"), fields.get("to")) == (
            self._seq + 1,
            seq - 1,
        )
        if not told:
            text = f"lines {self._seq + 1} to {seq - 1} are missing, and the log does not say why"
            self._find(Kind.MISSING, segment, number, seq, text)

    def _event(self, fields: Mapping[str, Any], before: Link, line: bytes, segment: Segment, number: int) -> None:
        event, seq = fields.get("event"), before.seq + 1
        self.report.closed = self._final_v1 = False
        if event == "checkpoint":
            self._checkpoint(fields, before, line, segment, number)
        elif event == "audit.loss":
            count = fields.get("count")
            self.report.lost += count if isinstance(count, int) else 0
            text = f"{count} records were lost, {fields.get('from')} to {fields.get('to')}: {fields.get('cause')}"
            if fields.get("let_through"):
                text += " (allows among them were let through)"
            self._find(Kind.LOSS, segment, number, seq, text)
        elif event == "log.recovered":
            text = f"the writer did not close the log: {fields.get('cause')}"
            if fields.get("torn_bytes"):
                text += f", {fields['torn_bytes']} bytes"
            self._find(Kind.RECOVERED, segment, number, seq, text)
            self._unsealed_line = b""
        elif event == "log.replaced":
            self._find(Kind.REPLACED, segment, number, seq, f"the writer noticed: {fields.get('cause')}")
        elif event == "audit.unsynced":
            text = f"the disk may not hold all lines after the writer's number {fields.get('after')}"
            self._find(Kind.UNSYNCED, segment, number, seq, text)
        elif event == "log.retired":
            self._retired.add((int(fields.get("last", 0)), str(fields.get("hash"))))

    def _checkpoint(self, fields: Mapping[str, Any], before: Link, line: bytes, segment: Segment, number: int) -> None:
        self.report.checkpoints += 1
        omitted = fields.get("omitted")
        self.report.omitted += omitted if isinstance(omitted, int) else 0
        seq, key_id, signature = before.seq + 1, fields.get("key"), fields.get("sig")
        genuine = True
        final = fields.get("final") is True
        if signature is None:
            self._unsigned += 1
            if self._keys:
                self._find(Kind.CHECKPOINT, segment, number, seq, "the checkpoint is not signed")
                genuine = False
        elif self._keys:
            key = self._keys.get(str(key_id))
            if key is None:
                text = f"the checkpoint is signed with the key {key_id}, which is not among those given"
                self._find(Kind.CHECKPOINT, segment, number, seq, text)
                genuine = False
            elif not key.verifies(before, signed_members(line, str(signature)), str(signature)):
                genuine = key.verifies_v1(before, str(fields.get("time")), str(signature))
                # nothing that the checkpoint says itself is signed: anybody may have made it the last one
                self._final_v1, final = final and genuine, False
                if not genuine:
                    self._find(Kind.CHECKPOINT, segment, number, seq, "the signature of the checkpoint is wrong")
        self.report.closed = final and genuine
        self._signed += signature is not None
        anchored = self._anchors.pop(seq, None)
        if anchored is not None:
            # whoever can only append to what is kept cannot put another in front
            if anchored[0] == line:
                self.report.anchored = seq
            else:
                text = "the checkpoint is not the one that was kept elsewhere: the log was made anew up to here"
                self._find(Kind.ANCHOR, segment, number, seq, text)
        if genuine:
            self._late(fields, segment, number, seq)
            self.report.sealed = seq
            self._unsealed, self._unsealed_line = 0, b""

    def _late(self, fields: Mapping[str, Any], segment: Segment, number: int, seq: int) -> None:
        if not self._unsealed_line:
            return
        try:
            first = datetime.fromisoformat(orjson.loads(self._unsealed_line)["time"])
            waited = (datetime.fromisoformat(str(fields["time"])) - first).total_seconds()
        except (ValueError, KeyError, TypeError):
            return
        if waited > self._seconds + _SLACK_SECONDS:
            text = f"the lines before this checkpoint waited {waited:.0f} s for it"
            self._find(Kind.CADENCE, segment, number, seq, text)

    def finish(self, segment: Segment) -> None:
        """What only shows at the end."""
        report = self.report
        report.last = self._seq
        if self._begin is not None and (self._begin[0] > 1 or self._begin[1] != GENESIS):
            first, prev, where = self._begin
            if (first - 1, prev) not in self._retired:
                text = f"the chain begins with line {first}, and does not say that what came before was retired"
                self._find(Kind.BEGINNING, where, 1, first, text)
        begin = self.report.first
        left = {seq: line for seq, line in self._anchors.items() if seq >= begin}
        if left:
            text = f"{len(left)} checkpoints that were kept elsewhere, up to line {max(left)}, are not in the log"
            self._find(Kind.ANCHOR, segment, 0, max(left), text)
        if self._torn is not None:
            where, number, size = self._torn
            report.closed = False
            self._find(Kind.OPEN_END, where, number, 0, f"the last line is torn, after {size} bytes")
        if self._final_v1:
            text = "says that it was closed, in a checkpoint of an older form: the signature is not about that"
            self._find(Kind.OPEN_END, segment, 0, self._seq, text)
        elif not report.closed:
            self._find(Kind.OPEN_END, segment, 0, self._seq, "is being written, or its writer was stopped hard")
        if self._unsealed:
            self._find(Kind.UNPROVEN, segment, 0, self._seq, f"no checkpoint covers the last {self._unsealed} lines")
        if self._signed and not self._keys:
            self._find(Kind.UNPROVEN, segment, 0, 0, "the signatures were not looked at: name the public key")
        if self._unsigned and not self._keys:
            text = "the checkpoints are not signed: without anchors, whoever can write the log can write another"
            self._find(Kind.UNPROVEN, segment, 0, 0, text)

    def state(self) -> dict[str, Any]:
        """Where a later verification may go on."""
        if self.found.damaged:
            return {}
        position = self._position or self._resume
        if not position:
            return {}
        return {
            "seq": self._seq, "hash": self._hash, "unsealed": self._unsealed, "first": self.report.first,
            "sealed": self.report.sealed, "closed": self.report.closed,
            "segment_first": max(self._firsts, default=0), **position,
        }  # fmt: skip
