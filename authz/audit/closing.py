"""Closing: a log is closed when the process ends, also when a signal ends it, so that its end is no riddle."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from types import FrameType
from typing import Final, Protocol

_PATIENCE_SECONDS: Final = 2.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Closable(Protocol):
    """Something with an end."""

    def close(self) -> None:
        """End it; a second time does nothing."""
        ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_at_the_end(log: Closable) -> None:
    """Close ``log`` at the end of the process, however it ends, short of SIGKILL.

    A signal that the application handles itself is left to it. Where it is not, the process still ends by the signal.
    """
    _open.add(log)
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)


def _close_all() -> None:
    for log in list(_open):
        log.close()


def _on_signal(number: int, _: FrameType | None) -> None:
    # on a thread: the one that was interrupted may be in the middle of a write, and hold the lock that closing needs
    closing = threading.Thread(target=_close_all, daemon=True)
    closing.start()
    closing.join(_PATIENCE_SECONDS)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


atexit.register(_close_all)
