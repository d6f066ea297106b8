"""Background: what runs beside the calls. WatchedFile and FileWatcher: files that are read again when they change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from authz.errors import KeyFileError
from authz.forked import renew_in_child

_log = logging.getLogger("authz.authn")
_RETRY: Final = 10.0
T = TypeVar("T")


class Background(Protocol):
    """Something that runs beside the calls, in a thread of its own."""

    def start(self) -> None:
        """Begin; return at once."""
        ...

    def ready(self, timeout: float) -> bool:
        """Wait for what is needed to answer calls, for ``timeout`` seconds at most; whether it is there."""
        ...

    def close(self) -> None:
        """End. What is at hand remains in use."""
        ...


class WatchedFile(Generic[T]):
    """The content of a file as it was when it was last good.

    Args:
        path: the file.
        read: reads it, and raises :class:`KeyFileError` if it cannot be used. It is called now, and on each change.

    Attributes:
        value: what was read.
        failures: how many changes in a row could not be used.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self.path = path
        self.failures = 0
        self._read = read
        self._refused: tuple[int, ...] | None = ()
        self._retry_at = 0.0
        self._seen = self._last = self._signature()
        self.value = read(path)

    def look(self) -> bool:
        """Read the file if it is another than before; whether ``value`` is new. A file that is refused changes nothing.

        Called by a :class:`FileWatcher`, or by whoever wants a change to take effect at once; by one thread at a time.
        """
        signature = self._signature()
        if signature == self._seen or (signature == self._refused and time.monotonic() < self._retry_at):
            return False
        try:
            value = self._read(self.path)
        except KeyFileError as exc:
            if signature != self._refused:
                self.failures += 1
                _log.warning("keeping what %s said before: %s", self.path, exc)
            # what it is refused for may be mended elsewhere, e.g. in the file of the authority that signed it
            self._refused, self._retry_at = signature, time.monotonic() + _RETRY
            return False
        self.value = value
        self._seen, self._refused = signature, ()
        self.failures = 0
        _log.info("took the new content of %s", self.path)
        return True

    def settled(self) -> bool:
        """Whether the file is as it was when this was asked last: whoever writes it begins with an empty one."""
        last, self._last = self._last, self._signature()
        return self._last == last

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - follows the links that mounted secrets are made of
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatcher:
    """Looks at files, one after the other, in one thread.

    Args:
        files: the files.
        interval: seconds between two looks. A change is taken when two of them saw the same.
    """

    def __init__(self, files: Sequence[WatchedFile[Any]], interval: float = 0.5) -> None:
        self._files = files
        self._interval = interval
        self.renew_locks()
        renew_in_child(self)
        self._thread = threading.Thread(target=self._run, name="authz-files", daemon=True)
        self.told: Callable[[str], None] = nobody
        """Told the name of each file whose new content was taken."""

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. The thread is the parent's."""
        self._end = threading.Event()

    def start(self) -> None:
        """See :class:`Background`."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:  # noqa: ARG002 - the files have been read already
        """See :class:`Background`."""
        return True

    def close(self) -> None:
        """See :class:`Background`."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            for file in self._files:
                if file.settled() and file.look():
                    self.told(str(file.path))


def nobody(_: str) -> None:
    """Who is told, until somebody wants to know."""
