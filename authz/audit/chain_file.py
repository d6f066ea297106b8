"""ChainFile: the file that a chain is written to: lines whole or not at all, checkpoints, segments, other hands."""

from __future__ import annotations

import errno
import logging
import os
import platform
import socket
import threading
import time
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from authz.audit.appender import Appender
from authz.audit.chain import Link, new_writer
from authz.audit.checkpoint import checkpoint
from authz.audit.commit import GroupCommit
from authz.audit.event import Event, EventName
from authz.audit.lane import Lane, Tail, read_tail
from authz.audit.loss import Loss
from authz.audit.record import VERSION
from authz.audit.reserve import Reserve
from authz.audit.settings import LogSettings
from authz.errors import AuditError

_log = logging.getLogger("authz")
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUIET_SECONDS: Final = 60.0
_ANCHORS_LIMIT: Final = 1000


class ChainFile:
    """What :class:`authz.audit.writer.AuditLog` is built on. Not thread-safe: its methods are called under a lock.

    But for syncing, which is done beside the writing: it has a lock of its own, which is taken last.

    Args:
        settings: how the log is kept.

    Attributes:
        path: the file.
        writer: id of the chain.
    """

    path: Path
    writer: str

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._mirrors = settings.mirrors

    def _take(self, lane: Lane) -> None:
        """Have nothing yet of the chain in ``lane``."""
        self._lane = lane
        self.path = lane.path
        self._wake = threading.Event()
        self._anchored: deque[bytes] = deque(maxlen=_ANCHORS_LIMIT)
        self._retired: list[int] = []
        self._fd = -1
        self._appender = Appender()
        self._doubtful = False
        self._astray = ""
        self._loss: Loss | None = None
        self._untold: deque[tuple[EventName, dict[str, object]]] = deque()
        self._unsynced_told = -1
        self._ticket = self._synced = self._synced_seq = 0
        self._disk = threading.Lock()
        self._commit = GroupCommit(self._sync)
        self._unsealed = self._omitted = 0
        self._unsealed_since = 0.0
        self._complained = -_QUIET_SECONDS

    def _begin(self, tail: Tail) -> None:
        """Continue the chain, after taking away what a crash left of its last line."""
        self._reserve = Reserve(self.path, self._settings.reserve_bytes)
        found: list[tuple[EventName, dict[str, object]]] = []
        repaired = self._put_aside(tail)
        if not repaired and not tail.closed:
            repaired = {"cause": "the log was not closed", "torn_bytes": 0}
        self._open_file()
        self._began = time.monotonic()
        self._take_up(tail.link or Link(new_writer()))
        self._synced_seq = self._seq
        if repaired:
            found.append((EventName.LOG_RECOVERED, repaired))
        key = self._settings.key
        opened: dict[str, object] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "durability": self._settings.durability.value,
            "key": key.id if key else None,
            "checkpoint_records": self._settings.checkpoint_records,
            "checkpoint_seconds": self._settings.checkpoint_seconds,
        }
        found.append((EventName.LOG_OPEN, opened))
        if self._settings.unsafe_allow_unrecorded:
            found.append((EventName.BREAK_GLASS, {"state": "in force", "setting": "unsafe_allow_unrecorded"}))
        self._put([orjson.dumps(Event(name, details).fields()) for name, details in found])
        self._seal()

    def _put_aside(self, tail: Tail) -> dict[str, object]:
        """Keep what is no line of ours under another name, for whoever has to find out what happened; what it was."""
        if tail.unreadable:
            aside = self.path.with_name(f"{self.path.stem}.unreadable-{time.time_ns()}.jsonl")
            self.path.rename(aside)
            return {"cause": "the file held no line of a chain", "moved_to": aside.name}
        if not tail.torn:
            return {}
        aside = self.path.with_name(f"{self.path.stem}.torn-{time.time_ns()}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(tail.torn)
        os.truncate(self.path, tail.size)
        return {
            "cause": "the last line is torn",
            "torn_bytes": len(tail.torn),
            "torn_sha256": sha256(tail.torn).hexdigest(),
            "moved_to": aside.name,
        }

    def _open_file(self) -> None:
        fresh = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lane.sync_folder()
        except OSError:
            os.close(fresh)
            raise
        self._fd, self._size = fresh, os.fstat(fresh).st_size

    def _take_up(self, link: Link) -> None:
        self.writer = link.writer
        self._head = f'{{"v":{VERSION},"writer":"{link.writer}","seq":'
        self._seq = link.seq
        self._hash = link.hash

    def _put(self, bodies: list[bytes]) -> None:
        """Append lines with one system call, all or none of them; a pending loss is told first."""
        seq, link = self._seq, self._hash
        if self._loss is not None:
            seq, bodies = self._loss.last, [self._loss.body(), *bodies]
        lines: list[bytes] = []
        for body in bodies:
            seq += 1
            line = self._line(seq, link, body)
            link = sha256(line).hexdigest()
            lines.append(line)
        self._write_lines(b"".join(lines), seq, link, len(lines))

    def _line(self, seq: int, link: str, body: bytes) -> bytes:
        return f'{self._head}{seq},"prev":"{link}",{body[1:].decode()}\n'.encode()

    def _write_lines(self, data: bytes, seq: int, link: str, count: int = 1) -> None:
        # should an interrupt come between, the file says what is true
        self._doubtful = True
        try:
            written, failure = self._appender.append(self._fd, data), None
        except OSError as exc:
            written, failure = 0, exc
        if written != len(data):
            self._take_back(failure)
            self._write_with_reserve(data)
        self._seq, self._hash, self._loss = seq, link, None
        self._size += len(data)
        if not self._unsealed:
            self._unsealed_since = time.monotonic()
        self._unsealed += count
        self._ticket += 1
        self._doubtful = False
        if self._ticket == self._synced + 1:
            self._wake.set()
        if self._mirrors:
            lines = data.splitlines(keepends=True)
            for mirror in self._mirrors:
                for line in lines:
                    mirror.offer(line)

    def _take_back(self, failure: OSError | None) -> None:
        """After a write that failed or was cut short: the file is as it was. Raises unless the reserve may help."""
        os.ftruncate(self._fd, self._size)
        self._doubtful = False
        failure = failure or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if failure.errno not in _NO_SPACE or not self._reserve.release():
            raise failure

    def _write_with_reserve(self, data: bytes) -> None:
        self._doubtful = True
        written = self._appender.append(self._fd, data)
        if written != len(data):
            self._take_back(None)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _settle(self) -> None:
        """After a doubt: what the file says is so."""
        if not self._doubtful:
            return
        if self._astray:
            raise OSError(errno.ENOENT, self._astray)
        tail = read_tail(self.path)
        if tail.link is None or tail.link.writer != self.writer or tail.link.seq < self._seq:
            raise OSError(errno.EIO, "the file was changed by another hand")
        os.ftruncate(self._fd, tail.size)
        self._size = tail.size
        self._take_up(tail.link)
        if self._loss is not None:
            self._loss = self._loss.after(self._seq)
        self._doubtful = False

    def _tell(self) -> None:
        """Write what the log has to tell of itself: losses, and what happened to its file."""
        untold = list(self._untold)
        if untold or self._loss is not None:
            self._put([orjson.dumps(Event(name, details).fields()) for name, details in untold])
            for _ in untold:
                self._untold.popleft()

    def _seal(self, *, final: bool = False) -> None:
        """Write a checkpoint, after what there is to tell."""
        self._tell()
        details: dict[str, object] = {"lines": self._unsealed}
        if self._settings.selection is not None:
            details["omitted"] = self._omitted
        if final:
            details["final"] = True
        link = Link(self.writer, self._seq, self._hash)
        body = checkpoint(link, self._settings.key, details)
        self._put([body])
        self._unsealed = self._omitted = 0
        if self._settings.anchors:
            self._anchored.append(self._line(link.seq + 1, link.hash, body))
            self._wake.set()

    def _sync(self) -> int:
        """Make what was appended by now last; how many appends are settled then: on the disk, or given up."""
        with self._disk:
            # the numbers first: what is appended while the disk works is not counted as done
            ticket, seq = self._ticket, self._seq
            if self._synced < ticket:
                try:
                    if self._fd < 0:
                        raise OSError(errno.EBADF, "it is closed")
                    os.fdatasync(self._fd)
                    self._synced_seq = seq
                except OSError as exc:
                    # what was appended by now is given up: a later sync says nothing of it
                    ticket = self._ticket
                    self._give_up(ticket, exc)
                self._synced = ticket
            return self._synced

    def _give_up(self, ticket: int, failure: OSError) -> None:
        self._commit.give_up(self._synced, ticket)
        self._complain(f"the audit log {self.path} cannot be synced: {failure.strerror}")
        # once for all that comes after a line, until a sync succeeds: the telling is itself not on the disk
        if self._unsynced_told != self._synced_seq:
            self._unsynced_told = self._synced_seq
            self._untold.append((EventName.UNSYNCED, {"after": self._synced_seq, "cause": failure.strerror}))
            self._wake.set()

    def _watch(self) -> None:
        """A file that was deleted or moved away still takes lines, and one that was cut has lost some: say so.

        Raises:
            OSError: there is no file to go on with; nothing is written until there is.
            AuditError: likewise.
        """
        try:
            self._lane.renew()
            here = os.fstat(self._fd)
            same = self.path.exists() and os.path.samestat(here, self.path.stat())
            if not same or here.st_size < self._size:
                self._replace("the file was cut short" if same else "the file was deleted or moved away")
        except (OSError, AuditError) as exc:
            self._doubtful = True
            self._astray = f"its file is gone, and there can be no other: {getattr(exc, 'strerror', exc)}"
            self._complain(f"the audit log {self.path}: {self._astray}")
            raise
        self._astray = ""

    def _replace(self, cause: str) -> None:
        """Go on in a file that another hand has cut, or made, or that is made now."""
        self._complain(f"the audit log {self.path}: {cause}")
        before = self._fd
        self._sync()
        aside = self._put_aside(read_tail(self.path))
        self._open_file()
        self._retired.append(before)
        self._doubtful = False
        self._untold.append((EventName.LOG_REPLACED, {**aside, "cause": cause, "last": self._seq}))

    def _rotate(self) -> None:
        """Close the segment and begin the next, whose first line continues the chain."""
        if not self._size:
            return
        first = self._lane.first()
        name = self._lane.segment_name(first)
        if not first or name.exists():
            why = f"{name.name} exists" if first else "its first line is no line of a chain"
            self._complain(f"the audit log {self.path} cannot be rotated: {why}")
            return
        fresh_path = self.path.with_name(f".{self.path.name}.next")
        fresh_path.unlink(missing_ok=True)
        fresh = os.open(fresh_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._settle()
            # a rotation that fails is tried again
            if self._unsealed or self._loss or self._untold:
                self._seal()
            self._sync()
            self.path.rename(name)
            fresh_path.rename(self.path)
            self._lane.sync_folder()
        except OSError:
            os.close(fresh)
            raise
        self._retired.append(self._fd)
        self._fd, self._size, self._began = fresh, 0, time.monotonic()
        self._put([orjson.dumps(Event(EventName.LOG_ROTATED, {"segment": name.name, "last": self._seq}).fields())])
        self._seal()

    def _retire(self, keep_seconds: float) -> None:
        """Delete the oldest closed segments that are too old."""
        for segment in self._lane.segments():
            if time.time() - segment.stat().st_mtime < keep_seconds:
                return
            tail = read_tail(segment)
            if tail.link is None or tail.torn or not _is_sealed(segment):
                return  # not as it was left: a person has to look at it
            details = {"segment": segment.name, "last": tail.link.seq, "hash": tail.link.hash}
            self._put([orjson.dumps(Event(EventName.LOG_RETIRED, details).fields())])
            self._seal()
            self._sync()
            if self._synced_seq < self._seq:
                return
            segment.unlink()

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if now - self._complained >= _QUIET_SECONDS:
            self._complained = now
            _log.error("%s (said at most once a minute)", message)


def _is_sealed(segment: Path) -> bool:
    with segment.open("rb") as file:
        file.seek(max(0, segment.stat().st_size - 4096))
        return b'"event":"checkpoint"' in file.read().splitlines()[-1]
