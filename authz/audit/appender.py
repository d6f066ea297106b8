"""Appender: the one system call that puts a line into the log, made so that it does not cost a server its threads.

``os.write`` lets other threads run while it works. To a file that takes 2 microseconds, and with 32 threads waiting for
their turn it costs ten times as much to get it back, while the lock of the log is held. So the line is written without
giving up the turn; only after a disk has kept us waiting, others may run again meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

_SLOW: Final = 0.05
"""Seconds: a write that takes longer has waited for a disk, and not only for a processor."""
_POLITE: Final = 1_000
"""How many writes let others run, after a slow one."""


class Appender:
    """Writes to a file. Not thread-safe: the log's lock is held."""

    def __init__(self) -> None:
        self._keeping_turn = _find()
        self._polite = 0

    def append(self, descriptor: int, data: bytes) -> int:
        """Write ``data``; how many bytes were written.

        Raises:
            OSError: nothing was.
        """
        if self._keeping_turn is None:
            return os.write(descriptor, data)
        if self._polite:
            self._polite -= 1
            return os.write(descriptor, data)
        began = time.monotonic()
        written = self._keeping_turn(descriptor, data, len(data))
        if time.monotonic() - began > _SLOW:
            self._polite = _POLITE
        # nothing was written, and os.write has the words for why
        return written if written >= 0 else os.write(descriptor, data)


def _find() -> Callable[[int, bytes, int], int] | None:
    """The system's ``write``, called without giving up the turn; None where there is none to be found so."""
    try:
        write = ctypes.PyDLL(None).write
    except (OSError, AttributeError, TypeError):  # pragma: no cover - not on a system with a C library like others
        return None
    # no `argtypes`: whole numbers and bytes are passed rightly as they are, and to convert them first costs more time
    write.restype = ctypes.c_ssize_t
    return write
