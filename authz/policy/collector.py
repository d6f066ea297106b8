"""Collector: Python's garbage collector, put off while a policy is read or compiled.

Reading a policy makes many objects and no garbage. The collector would walk all of them again and again, and while it
walks, no other thread decides anything.

What was made meanwhile must not be called old by `gc.freeze` and `gc.unfreeze`, though it would save one walk: that
begins the count to the next full collection anew, and a server that reloads often would never have one. What calls
leave behind in cycles (an error, its traceback, the frame) would stay for ever.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_enabled = False


@contextmanager
def collector_put_off() -> Iterator[None]:
    """Put the collector off, in the whole process; when the last of these blocks ends, it is as it was before."""
    global _depth, _was_enabled
    with _lock:
        if _depth == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth = max(0, _depth - 1)
            if _depth == 0 and _was_enabled:
                gc.enable()


def _in_child() -> None:
    """Who had put it off is not here to end that."""
    global _lock, _depth
    _lock = threading.Lock()
    if _depth and _was_enabled:
        gc.enable()
    _depth = 0


os.register_at_fork(after_in_child=_in_child)
