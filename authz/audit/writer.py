"""AuditLog: an append-only file of JSON lines, chained, sealed by checkpoints, and honest about what it lost."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import orjson

from authz.audit.base import Entry
from authz.audit.chain_file import ChainFile
from authz.audit.encoder import Encoder
from authz.audit.event import Event, EventName
from authz.audit.lane import Lane
from authz.audit.loss import Loss
from authz.audit.printable import utc
from authz.audit.record import Record
from authz.audit.selection import Detail, shorten
from authz.audit.settings import Durability, LogSettings, Mirror
from authz.audit.shelf import shelve
from authz.errors import AuditError
from authz.forked import renew_in_child

_log = logging.getLogger("authz")


class AuditLog(ChainFile):
    """Appends entries to a file; on return each is in the kernel, or, if the settings say so, on the disk.

    One process writes to a file at a time. A record is written whole or not at all. Each attempt uses up a number: a
    record that is lost leaves a gap, and the next good write is preceded by an event that says from where to where,
    and why.

    Args:
        path: the file; made with mode 0600 if it does not exist. With ``shared``, a folder in which each process that
            writes at the same time has a file of its own.
        settings: how the log is kept.
        shared: whether several processes write, also after a fork.

    Raises:
        AuditError: the file cannot be opened, or another process writes to it.
    """

    def __init__(self, path: Path, settings: LogSettings | None = None, *, shared: bool = False) -> None:
        super().__init__(settings or LogSettings())
        self._root = path
        self._shared = shared
        self._forked = False
        self._encoder = Encoder(self._settings.masking)
        # asked for with each record
        self._encode = self._encoder.encode
        self._selection = self._settings.selection
        self._checkpoint_records = self._settings.checkpoint_records
        self._waits = self._settings.durability is Durability.SYNCED
        self._lock = threading.Lock()
        self._open()
        if shared:
            self._adopt()
        renew_in_child(self)

    # -- opening and closing

    def _open(self) -> None:
        self._bundles: deque[tuple[Path, str]] = deque()
        self._closed = False
        self._take(Lane.free(self._root) if self._shared else Lane.at(self._root))
        try:
            self._begin(self._lane.tail())
        except OSError as exc:
            self._abandon()
            raise AuditError(f"the audit log {self.path} cannot be opened: {exc.strerror}") from None
        except BaseException:
            self._abandon()
            raise
        arguments = (weakref.ref(self), self._wake, self._settings.sync_seconds)
        self._tender = threading.Thread(target=_tend, args=arguments, name="authz-audit", daemon=True)
        self._tender.start()

    def _abandon(self) -> None:
        self._let_go()
        self._closed = True

    def _let_go(self) -> None:
        descriptors = [*self._retired, self._fd]
        self._retired, self._fd = [], -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        self._lane.release()

    def _adopt(self) -> None:
        """End the logs of processes that died: recover what is torn, and close them."""
        for lane in Lane.orphans(self._root):
            path = lane.path
            lane.release()
            # another process may be quicker: then it has done it
            with contextlib.suppress(AuditError):
                AuditLog(path, self._settings_of_orphan()).close()

    def _settings_of_orphan(self) -> LogSettings:
        """Sealed, anchored and mirrored like this log; what was counted is counted here."""
        mirrors = tuple(_Lent(mirror) for mirror in self._settings.mirrors)
        return replace(
            self._settings,
            mirrors=mirrors, reserve_bytes=0, keep_seconds=None, selection=None, unsafe_allow_unrecorded=False,
        )  # fmt: skip

    @property
    def closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._closed

    def close(self) -> None:
        """Write the closing record, seal and sync the log. Writing to a closed log is an AuditError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._forked:
                return  # all of it is the parent's
            self._wake.set()
            with contextlib.suppress(AuditError, OSError):
                self._watch()
                # what can be told of a failure is told before the end
                self._sync()
                self._settle()
                if self._loss is not None or self._untold:
                    self._seal()
                self._put([orjson.dumps(Event(EventName.LOG_CLOSE, {"last": self._seq + 1}).fields())])
                self._seal(final=True)
            self._sync()
        self._tender.join(5)
        self._commit.close()
        self._deliver_anchors()
        self._shelve()
        for mirror in self._settings.mirrors:
            mirror.close()
        self._reserve.remove()
        with self._disk:
            self._let_go()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing

    def write(self, record: Entry) -> None:
        """Append an entry. See :class:`authz.audit.base.AuditSink`."""
        try:
            ticket = self._append(record)
            if self._waits:
                self._commit.wait(ticket)
        except AuditError:
            if not self._settings.unsafe_allow_unrecorded:
                raise

    @property
    def waits(self) -> bool:
        """Whether a writer waits for the disk; see :class:`authz.audit.base.AuditSink`."""
        return self._settings.durability is Durability.SYNCED

    async def write_async(self, record: Entry) -> None:
        """As :meth:`write`; while it waits for the disk, the event loop goes on."""
        try:
            ticket = self._append(record)
            if self._waits:
                await self._commit.wait_async(ticket)
        except AuditError:
            if not self._settings.unsafe_allow_unrecorded:
                raise

    def checkpoint(self) -> None:
        """Seal what is written so far, now: before a copy is made, or the machine goes away.

        Raises:
            AuditError: the log is closed, or the checkpoint cannot be written.
        """
        with self._lock:
            if self._closed or self._forked:
                raise AuditError(f"the audit log {self.path} is closed")
            if self._unsealed:
                try:
                    self._settle()
                    self._seal()
                except OSError as exc:
                    raise AuditError(f"the audit log {self.path} cannot be sealed: {exc.strerror}") from None

    def lose(self, count: int, cause: str) -> None:
        """Account for ``count`` records that will never be written: their numbers are used up."""
        with self._lock:
            if self._forked:
                with contextlib.suppress(AuditError):
                    self._after_fork()
            self._lose(count, cause)

    def _append(self, entry: Entry) -> int:
        """Append an entry; the number of the append, 0 if the entry is only counted."""
        try:
            plain = self._selection is None and isinstance(entry, Record)
            members = self._encode(entry) if plain else self._members(entry)  # type: ignore[arg-type]
        except Exception as exc:
            self._complain(f"an entry is written in its shortest form: {type(exc).__name__}")
            members = _members(_minimal(entry))
        with self._lock:
            if self._forked:
                self._after_fork()
            if self._closed:
                raise AuditError(f"the audit log {self.path} is closed")
            try:
                if self._doubtful:
                    self._settle()
                if members is None:
                    # it is not written now, but has to be with the next checkpoint
                    self._tell()
                    self._omitted += 1
                    return 0
                if self._loss is None:
                    seq = self._seq + 1
                    line = f'{self._head}{seq},"prev":"{self._hash}",{members}}}\n'.encode()
                    self._write_lines(line, seq, sha256(line).hexdigest())
                else:
                    self._put([f"{{{members}}}".encode()])
            except OSError as exc:
                # the number is used up by the attempt, so that a record that was lost leaves a gap
                self._lose(1, exc.strerror or "unknown")
                self._complain(f"the audit log {self.path} cannot be written: {exc.strerror}")
                raise AuditError(f"the audit log {self.path} cannot be written: {exc.strerror}") from None
            if self._unsealed >= self._checkpoint_records:
                with contextlib.suppress(OSError):
                    self._seal()
            return self._ticket

    def _members(self, entry: Entry) -> str | None:
        """The members of the entry's JSON object, without its braces; None: it is counted, and not written."""
        if not isinstance(entry, Record):
            if entry.bundle is not None:
                self._bundles.append((entry.bundle, str(entry.details.get("policy_version"))))
            return _members(entry.fields())
        detail = Detail.FULL if self._selection is None else self._selection.detail(entry)
        if detail is Detail.COUNTED:
            return None
        if detail is Detail.FULL:
            return self._encode(entry)
        fields = self._encoder.fields(entry)
        shorten(fields)
        return _members(fields)

    def _lose(self, count: int, cause: str) -> None:
        loss = self._loss or Loss(self._seq + 1, self._seq, cause, self._settings.unsafe_allow_unrecorded)
        self._loss = loss.with_more(count, cause)
        self._wake.set()

    # -- beside the calls

    def _shelve(self) -> None:
        """Keep a copy of each policy that came into force."""
        while self._bundles:
            bundle, revision = self._bundles.popleft()
            try:
                shelve(bundle, revision, self._root if self._shared else self._root.parent)
            except AuditError as exc:
                self._complain(str(exc))

    def tend(self) -> float:
        """Sync, seal, rotate and look after the file, as far as it is due; seconds until there may be more to do."""
        settings = self._settings
        self._sync()
        now = time.monotonic()
        with self._lock:
            if self._closed:
                return 0.0
            try:
                self._watch()
                due = self._unsealed and now - self._unsealed_since >= settings.checkpoint_seconds
                if due or self._loss or self._untold:
                    self._settle()
                    self._seal()
                self._reserve.restore()
                if settings.keep_seconds is not None and not self._held():
                    self._retire(settings.keep_seconds)
                if self._size >= settings.rotate_bytes or now - self._began >= settings.rotate_seconds:
                    self._rotate()
            except (OSError, AuditError) as exc:
                self._complain(f"the audit log {self.path} cannot be looked after: {exc}")
        with self._disk:
            retired, self._retired = self._retired, []
            for descriptor in retired:
                os.close(descriptor)
        self._deliver_anchors()
        self._shelve()
        if self._ticket > self._synced or self._loss or self._unsealed:
            return settings.sync_seconds
        return 1.0

    def _held(self) -> bool:
        """Whether somebody put a file ``HOLD`` beside the log, into its folder, or into that of one process."""
        return any((place / "HOLD").exists() for place in (self._root.parent, self._root, self.path.parent))

    def _deliver_anchors(self) -> None:
        if self._anchored:
            # first what it vouches for: a power cut would leave an honest log with another checkpoint of that number
            self._sync()
        while self._anchored:
            line = self._anchored[0]
            for anchor in self._settings.anchors:
                try:
                    anchor(line)
                except Exception as exc:
                    self._complain(f"a checkpoint could not be sent to its anchor: {type(exc).__name__}: {exc}")
            self._anchored.popleft()

    # -- after a fork

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. The parent goes on with its file: what the child has of it is let go."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._let_go()
        self._forked = self._forked or not self._closed

    def _after_fork(self) -> None:
        if not self._shared:
            raise AuditError(
                f"the audit log {self.path} belongs to the process that opened it; after a fork, open another, "
                "or write `directory:` instead of `file:` in the configuration"
            )
        self._open()
        self._forked = False


class _Lent:
    """A mirror that goes on when a log that was lent it is closed."""

    def __init__(self, mirror: Mirror) -> None:
        self.offer = mirror.offer

    def close(self) -> None:
        """Nothing: whoever lent it closes it."""


def _tend(reference: weakref.ref[AuditLog], wake: threading.Event, interval: float) -> None:
    pause = 0.0
    while True:
        wake.wait(pause or 1.0)
        wake.clear()
        log = reference()
        if log is None or log.closed:
            return
        try:
            pause = log.tend()
        except Exception:
            _log.exception("the audit log %s could not be looked after", log.path)
            pause = 1.0
        del log
        # what comes within one interval is done at once
        time.sleep(min(interval, 0.1))


def _members(fields: dict[str, object]) -> str:
    return orjson.dumps(fields)[1:-1].decode()


def _minimal(entry: Entry) -> dict[str, object]:
    """What is left of an entry that cannot be written whole: enough to know that it was, and how it came out."""
    if isinstance(entry, Record):
        decision = entry.decision
        fields: dict[str, object] = {
            "event": "decision",
            "id": decision.audit_id,
            "time": utc(entry.time_ns),
            "decision": decision.effect.value,
            "reason": decision.reason.value,
            "policy_version": decision.revision or None,
            "grpc_code": decision.reason.status,
        }
    else:
        fields = Event(entry.name).fields()
    return {**fields, "redacted": ["*"], "truncated": True}
