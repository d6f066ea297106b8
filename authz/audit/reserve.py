"""Reserve: some space that is kept back, so that a disk that just became full still takes a few records."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

_log = logging.getLogger("authz")
_RETRY_SECONDS: Final = 10.0


class Reserve:
    """A file of zeros beside a log, given up when the disk is full, and made again when there is space.

    Args:
        path: of the log.
        size: bytes to keep back; 0: none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path.with_name(f".{path.name}.reserve")
        self._size = size
        self._held = False
        self._tried = -_RETRY_SECONDS
        self.restore()

    def release(self) -> bool:
        """Give the space up; whether there was any."""
        if not self._held:
            return False
        self._held = False
        self._tried = time.monotonic()
        with contextlib.suppress(OSError):
            self._path.unlink()
        _log.critical("the disk of the audit log is full: its reserve of %d bytes is being used", self._size)
        return True

    def restore(self) -> None:
        """Take the space again, if there is enough."""
        now = time.monotonic()
        if not self._size or now - self._tried < _RETRY_SECONDS or (self._held and self._path.exists()):
            return
        self._tried, self._held = now, False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
                self._held = True
            finally:
                os.close(descriptor)
        except OSError:
            # some of it may have been taken: the log needs it more
            with contextlib.suppress(OSError):
                self._path.unlink()

    def remove(self) -> None:
        """Give the space back, at the end."""
        self._held = False
        with contextlib.suppress(OSError):
            self._path.unlink()
