"""Lane: the place of one chain: a file that one process writes to at a time, and a lock that says so.

A log for one process is a file. A log for several is a folder with a lane for each process that writes at once: a
process takes the first lane that is free, and with it the chain of whoever had it before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from authz.audit.chain import HEAD, Link
from authz.errors import AuditError

ACTIVE: Final = "audit.jsonl"
"""The name of the file that is written to, in a lane of a shared log."""
_LANES_LIMIT: Final = 4096
_CLOSED: Final = (b'"event":"checkpoint"', b'"final":true')
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tail:
    """How a log ends.

    Attributes:
        link: the end of its chain, in the active file or else in the last closed segment; None: there is none.
        closed: whether it was closed as it should be, or never begun.
        size: length of the active file up to its last whole line.
        torn: the bytes after that.
        unreadable: whether the active file holds something, but no line of a chain.
    """

    link: Link | None
    closed: bool
    size: int
    torn: bytes = b""
    unreadable: bool = False


class Lane:
    """A locked place for a chain.

    Attributes:
        path: the file that is written to. Its closed segments are beside it, named by their first number.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def at(cls, path: Path) -> Lane:
        """The lane of the file ``path``.

        Raises:
            AuditError: another process has it, or it cannot be made.
        """
        try:
            return cls(path, _locked(path))
        except OSError as exc:
            raise AuditError(f"the audit log {path} cannot be opened: {exc.strerror}") from None

    @classmethod
    def free(cls, folder: Path) -> Lane:
        """The first lane in ``folder`` that no process has, made if need be.

        Raises:
            AuditError: none can be made.
        """
        for number in range(1, _LANES_LIMIT + 1):
            lane = folder / f"{_host()}-{number}"
            try:
                lane.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as exc:
                raise AuditError(f"the audit log {lane} cannot be made: {exc.strerror}") from None
            try:
                return cls.at(lane / ACTIVE)
            except AuditError as exc:
                if "another process" not in str(exc):
                    raise
        raise AuditError(f"the audit log {folder} has no free lane among {_LANES_LIMIT}")

    @classmethod
    def orphans(cls, folder: Path) -> list[Lane]:
        """The lanes of this host that no process has, and that were not closed."""
        found = []
        for path in sorted(folder.glob(f"{_host()}-*/{ACTIVE}")):
            with contextlib.suppress(AuditError, OSError):
                lane = cls.at(path)
                if lane.tail().closed:
                    lane.release()
                else:
                    found.append(lane)
        return found

    def renew(self) -> None:
        """Make the place again, if its folder or its lock was taken away.

        Raises:
            OSError: it cannot be made, or another process has it.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(_lock_path(self.path).stat(), os.fstat(self._lock)):
                _check_regular(self.path)
                return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _locked(self.path)
        os.close(self._lock)
        self._lock = lock

    def segments(self) -> list[Path]:
        """The closed segments, oldest first."""
        pattern = re.compile(re.escape(self.path.stem) + r"-[0-9]{12}\.jsonl")
        return sorted(file for file in self.path.parent.iterdir() if pattern.fullmatch(file.name))

    def segment_name(self, first: int) -> Path:
        """What the active file is called when it is closed; ``first`` is the number of its first line."""
        return self.path.with_name(f"{self.path.stem}-{first:012d}.jsonl")

    def tail(self) -> Tail:
        """How the log ends now."""
        tail = read_tail(self.path)
        segments = self.segments() if tail.link is None else ()
        if not segments:
            return tail
        last = read_tail(segments[-1])
        return replace(tail, link=last.link, closed=tail.closed and last.closed)

    def first(self) -> int:
        """The number of the first line of the active file; 0 if there is none."""
        with self.path.open("rb") as file:
            head = HEAD.match(file.read(256))
        return int(head[2]) if head else 0

    def sync_folder(self) -> None:
        """Make what was created and renamed here last."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        except OSError as exc:
            if exc.errno != errno.EINVAL:  # a filesystem that cannot
                raise
        finally:
            os.close(folder)

    def release(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)


def read_tail(path: Path) -> Tail:
    """How the one file ``path`` ends, and what of its end is torn."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start, data = size, b""
            while start > 0:
                step = min(_BLOCK, start)
                start -= step
                file.seek(start)
                data = file.read(step) + data
                found = _last_line(data, whole=start == 0)
                if found is not None:
                    link, line, end = found
                    torn = data[end:]
                    return Tail(link, all(mark in line for mark in _CLOSED) and not torn, size - len(torn), torn)
            return Tail(None, not data, 0, data if b"\n" not in data else b"", b"\n" in data)
    except FileNotFoundError:
        return Tail(None, True, 0)
    except OSError as exc:
        raise AuditError(f"the audit log {path} cannot be read: {exc.strerror}") from None


def _last_line(data: bytes, *, whole: bool) -> tuple[Link, bytes, int] | None:
    """The last whole line of a chain in ``data``, and where it ends."""
    end = data.rfind(b"\n") + 1
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if start == 0 and not whole:
            return None
        link = Link.of(data[start:end]) if data.endswith(b"}\n", start, end) else None
        if link is not None:
            return link, data[start:end], end
        end = start
    return None


def _lock_path(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        # a write to a pipe could wait for ever for a reader in this very process
        raise OSError(errno.EINVAL, "it is no regular file")


def _locked(path: Path) -> int:
    """The lock of ``path``, taken."""
    _check_regular(path)
    lock = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OSError(errno.EAGAIN, "another process writes to it") from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64] or "host"
