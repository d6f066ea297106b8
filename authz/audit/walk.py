"""Walk: one chain from its first line to its last: numbers, hashes, checkpoints, and what the log says of itself."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import orjson

from authz.audit.chain import HEAD, Link, digest
from authz.audit.checkpoint import VerifyingKey, signed_members
from authz.audit.finding import Finding, Findings, Kind
from authz.audit.position import Position
from authz.audit.printable import clean
from authz.audit.record import GENESIS
from authz.audit.segment import Segment

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


class Walk:
    """One chain, file by file.

    Args:
        writer: its id.
        keys: what its checkpoints must be signed with, by id; empty: signatures are not looked at.
        anchors: the checkpoints that were kept elsewhere, by number.
        cadence: the most lines between two checkpoints.
        seconds: the longest that a line may wait for its checkpoint.
        resume: where an earlier verification ended; what comes before is not read.

    Attributes:
        report: what is known of the chain.
        found: the findings.
    """

    def __init__(
        self,
        writer: str,
        keys: Mapping[str, VerifyingKey],
        anchors: Mapping[int, Sequence[bytes]],
        cadence: int,
        seconds: float,
        resume: Position | None,
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
        self._retired: dict[tuple[int, str], int] = {}
        self._unsealed = 0
        self._unsealed_line = b""
        self._signed = self._unsigned = 0
        self._final_v1 = False
        self._torn: tuple[Segment, int, int] | None = None
        self._firsts: dict[int, Segment] = {}
        self._walked: list[int] = []
        self._place = (0, 0)
        self._resume = self._goes_on = resume
        self._anchored_at = self._end = resume
        self._has_anchors = bool(anchors)
        if resume is not None:
            self._seq, self._hash, self._unsealed = resume.seq, resume.hash, resume.unsealed
            self._signed, self._unsigned = resume.signed, resume.unsigned
            self._anchors = {seq: lines for seq, lines in anchors.items() if seq > resume.seq}
            self._walked = list(resume.segments)
            self.report.first, self.report.closed = resume.first, resume.closed
            self.report.sealed, self.report.anchored = resume.sealed, resume.anchored

    def _find(self, kind: Kind, segment: Segment, number: int, seq: int, message: str) -> None:
        self.found.add(Finding(kind, str(segment.path), number, seq, message))

    def segment(self, segment: Segment, tell: Callable[[int], None]) -> None:
        """Walk through one file."""
        if self._torn is not None:
            self._find(Kind.NO_LINE, self._torn[0], self._torn[1], 0, "the last line of the file is torn")
            self._torn = None
        self.report.files += 1
        if segment.first in self._firsts:
            other = self._firsts[segment.first].path
            self._find(Kind.REPEATED, segment, 0, segment.first, f"begins with the same line as {other}")
        self._firsts.setdefault(segment.first, segment)
        if not self._is_new(segment):
            return
        start, lines = self._lines(segment)
        size, number = start
        if self._walked[-1:] != [segment.first]:
            self._walked.append(segment.first)
        sha256, head, marks = hashlib.sha256, self._head, b'"event":"decision"'
        expected = b'%s%d,"prev":"%s",' % (head, self._seq + 1, self._hash.encode())
        for line in lines:
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
            elif segment.is_torn(line):
                self._torn = (segment, number, len(line))
                size, number = size - len(line), number - 1
                break
            else:
                self._place = (size, number)
                self._look(line, segment, number)
            if self._unsealed > self._cadence:
                self._overdue(segment, number)
            if not number % _PROGRESS_LINES:
                tell(size - start[0])
            expected = b'%s%d,"prev":"%s",' % (head, self._seq + 1, self._hash.encode())
        self.report.lines += number - start[1]
        self._place = (size, number)
        self._end = self._here()

    def _is_new(self, segment: Segment) -> bool:
        """Whether anything of the file was not verified before."""
        resume = self._goes_on
        if resume is None or segment.first > resume.seq or segment.first == resume.segments[-1]:
            return True
        if segment.first not in resume.segments:
            text = f"begins with line {segment.first}, which was in another file when it was verified"
            self._find(Kind.REPEATED, segment, 0, segment.first, text)
        return False

    def _lines(self, segment: Segment) -> tuple[tuple[int, int], Iterator[bytes]]:
        """How many bytes and lines of the file were verified before, and the lines after them."""
        resume, self._goes_on = self._goes_on, None
        if resume is None or segment.first != resume.segments[-1]:
            return (0, 0), segment.lines()
        start = (resume.offset, resume.line)
        if segment.is_packed:
            # the bytes of its lines are not those of the file
            lines = segment.lines()
            last = deque(islice(lines, resume.line), maxlen=1)
            if not resume.line or (last and digest(last[0]) == resume.hash):
                return start, lines
        elif segment.size >= resume.offset:
            return start, segment.lines(resume.offset)
        self._find(Kind.MISSING, segment, 0, resume.seq, "is shorter than it was when it was verified last")
        return start, iter(())

    def _here(self) -> Position:
        """The place after the line that was walked over last."""
        offset, line = self._place
        return Position(
            segments=tuple(self._walked), offset=offset, line=line, first=self.report.first, seq=self._seq,
            hash=self._hash, unsealed=self._unsealed, sealed=self.report.sealed, anchored=self.report.anchored,
            signed=self._signed, unsigned=self._unsigned, retired=self._retired_to(),
            closed=self.report.closed, keys=tuple(sorted(self._keys)),
        )  # fmt: skip

    def _retired_to(self) -> int:
        """Number of the last line that the log says was retired, as far as a checkpoint vouches for that; 0: none."""
        told = [last for (last, _), seq in self._retired.items() if seq <= self.report.sealed]
        return max([*told, self._resume.retired if self._resume else 0])

    def _overdue(self, segment: Segment, number: int) -> None:
        if self._unsealed == self._cadence + _SLACK_LINES:
            text = f"more than {self._cadence} lines without a checkpoint"
            self._find(Kind.CADENCE, segment, number, self._seq, text)

    def _look(self, line: bytes, segment: Segment, number: int) -> None:
        """A line that is not simply the next decision."""
        head = HEAD.match(line)
        if head is None or head[1] != self._writer.encode() or not line.endswith(b"}\n"):
            if not line.endswith(b"\n" if head is None else b"}\n"):
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
            self._seq, self._hash = seq, digest(line)
        self._unsealed += 1
        if self._unsealed == 1:
            self._unsealed_line = line
        self._event(fields, Link(self._writer, seq - 1, prev), line, segment, number)

    def _gap(self, fields: Mapping[str, Any], seq: int, segment: Segment, number: int) -> None:
        numbers = (fields.get("from"), fields.get("to"))
        if fields.get("event") != "audit.loss" or numbers != (self._seq + 1, seq - 1):
            text = f"lines {self._seq + 1} to {seq - 1} are missing, and the log does not say why"
            self._find(Kind.MISSING, segment, number, seq, text)

    def _event(self, fields: Mapping[str, Any], before: Link, line: bytes, segment: Segment, number: int) -> None:
        event, seq = fields.get("event"), before.seq + 1
        self.report.closed = self._final_v1 = False
        if event == "checkpoint":
            self._checkpoint(fields, before, line, segment, number)
        elif event == "audit.loss":
            self.report.lost += _count(fields.get("count"))
            count, first, last, cause = (_text(fields.get(name)) for name in ("count", "from", "to", "cause"))
            text = f"{count} records were lost, {first} to {last}: {cause}"
            if fields.get("let_through"):
                text += " (allows among them were let through)"
            self._find(Kind.LOSS, segment, number, seq, text)
            self._unsealed_line = line  # what could not be written could not be sealed either
        elif event == "log.recovered":
            text = f"the writer did not close the log: {_text(fields.get('cause'))}"
            if fields.get("torn_bytes"):
                text += f", {_text(fields['torn_bytes'])} bytes"
            self._find(Kind.RECOVERED, segment, number, seq, text)
            self._unsealed_line = line  # nobody was there to seal
        elif event == "log.replaced":
            self._find(Kind.REPLACED, segment, number, seq, f"the writer noticed: {_text(fields.get('cause'))}")
        elif event == "audit.unsynced":
            text = f"the disk may not hold all lines after the writer's number {_text(fields.get('after'))}"
            self._find(Kind.UNSYNCED, segment, number, seq, text)
        elif event == "log.retired":
            self._retired.setdefault((_count(fields.get("last")), _text(fields.get("hash"))), seq)

    def _checkpoint(self, fields: Mapping[str, Any], before: Link, line: bytes, segment: Segment, number: int) -> None:
        self.report.checkpoints += 1
        self.report.omitted += _count(fields.get("omitted"))
        seq, signature = before.seq + 1, fields.get("sig")
        genuine = True
        final = fields.get("final") is True
        if signature is None:
            self._unsigned += 1
            if self._keys:
                self._find(Kind.CHECKPOINT, segment, number, seq, "the checkpoint is not signed")
                genuine = False
        elif self._keys:
            key_id, signature = _text(fields.get("key")), _text(signature)
            key = self._keys.get(key_id)
            if key is None:
                text = f"the checkpoint is signed with the key {key_id}, which is not among those given"
                self._find(Kind.CHECKPOINT, segment, number, seq, text)
                genuine = False
            elif not key.verifies(before, signed_members(line, signature), signature):
                genuine = key.verifies_v1(before, _text(fields.get("time")), signature)
                # nothing that the checkpoint says itself is signed: anybody may have made it the last one
                self._final_v1, final = final and genuine, False
                if not genuine:
                    self._find(Kind.CHECKPOINT, segment, number, seq, "the signature of the checkpoint is wrong")
        self.report.closed = final and genuine
        self._signed += signature is not None
        anchored = self._anchors.pop(seq, None)
        if anchored is not None and anchored[0] != line:
            # the first: whoever can only append to what is kept cannot put another in front
            text = "the checkpoint is not the one that was kept elsewhere: the log was made anew up to here"
            self._find(Kind.ANCHOR, segment, number, seq, text)
            anchored = None
        if anchored is not None:
            self.report.anchored = seq
        if genuine:
            self._late(fields, segment, number, seq)
            self.report.sealed = seq
            self._unsealed, self._unsealed_line = 0, b""
        if anchored is not None:
            self._anchored_at = self._here()

    def _late(self, fields: Mapping[str, Any], segment: Segment, number: int, seq: int) -> None:
        if not self._unsealed_line:
            return
        try:
            first = datetime.fromisoformat(_text(orjson.loads(self._unsealed_line).get("time")))
            waited = (datetime.fromisoformat(_text(fields.get("time"))) - first).total_seconds()
        except (ValueError, TypeError):
            return
        if waited > self._seconds + _SLACK_SECONDS:
            text = f"the lines before this checkpoint waited {waited:.0f} s for it"
            self._find(Kind.CADENCE, segment, number, seq, text)

    def finish(self, segment: Segment) -> None:
        """What only shows at the end; ``segment`` is the last file."""
        report = self.report
        report.last = self._seq
        self._look_at_the_beginning()
        left = [seq for seq in self._anchors if seq >= report.first]
        if left:
            text = f"{len(left)} checkpoints that were kept elsewhere, up to line {max(left)}, are not in the log"
            self._find(Kind.ANCHOR, segment, 0, max(left), text)
        if self._torn is not None:
            where, number, size = self._torn
            report.closed = self._final_v1 = False
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

    def _look_at_the_beginning(self) -> None:
        """What is not there, or no longer, was retired; and the log says so where a checkpoint vouches for it."""
        resume, start = self._resume, min(self._firsts)
        if self._begin is not None:
            first, prev, _ = self._begin
            told = self._retired.get((first - 1, prev), self._seq + 1)
            whole = (first, prev) == (1, GENESIS) or (first > 1 and told <= self.report.sealed)
        else:
            whole = resume is None or start == resume.first or start - 1 <= self._retired_to()
        if not whole:
            text = f"the chain begins with line {start}, and does not say that what came before was retired"
            self._find(Kind.BEGINNING, self._firsts[start], 1, start, text)
        for first in resume.segments if resume else ():
            if first > start and first not in self._firsts:
                text = f"the file that begins with line {first} was there when it was verified, and is not any more"
                self._find(Kind.MISSING, self._firsts[start], 0, first, text)

    def state(self) -> dict[str, Any]:
        """Where a later verification may go on: where the last anchor is, so that what has none yet is held to it."""
        position = self._anchored_at if self._has_anchors else self._end
        return {} if position is None or self.found.damaged else position.state()


def _text(value: object) -> str:
    """A value of a line, which may be anything, of any length and depth, as it may stand in a sentence."""
    if isinstance(value, str):
        return clean(value)
    return str(value) if value is None or isinstance(value, int | float) else f"({type(value).__name__})"


def _count(value: object) -> int:
    """A value of a line, if it is a number of lines; else 0."""
    return value if type(value) is int and value > 0 else 0
