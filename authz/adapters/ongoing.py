"""Ongoing: the calls under way behind one interceptor, looked at again and again, so that an idle one ends in time."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from authz.adapters.admission import Admission
from authz.decision.base import Decision

_log = logging.getLogger("authz")
_SLICE: Final = 256
"""Namespaces in which calls are decided again in one go on an event loop, which has other things to do."""

End: TypeAlias = Callable[[Decision], object]
"""Ends a call with the answer to a denial. Must not raise."""


class Stay:
    """One call among those under way. Either it leaves by itself, or it is ended from elsewhere: never both.

    A server must not be given two statuses for one call: before its handler gives one, the call has to leave.
    """

    __slots__ = ("_admission", "_calls", "_own")

    def __init__(self, calls: dict[Admission, End], admission: Admission) -> None:
        self._calls = calls
        self._admission = admission
        self._own: bool | None = None

    def leave(self) -> bool:
        """Leave; whether the call was its own to end, and was not ended from elsewhere. May be asked again."""
        if self._own is None:
            self._own = self._calls.pop(self._admission, None) is not None
        return self._own


class Ongoing:
    """The calls under way. Thread-safe.

    Args:
        interval: seconds between looks.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._calls: dict[Admission, End] = {}

    def enter(self, admission: Admission, end: End) -> Stay:
        """Look at the call of ``admission`` until it leaves; ``end`` is called, once, if it is refused before."""
        self._calls[admission] = end
        return Stay(self._calls, admission)

    def _snapshot(self) -> list[tuple[Admission, End]]:
        return list(self._calls.items())

    def _look_at(self, admission: Admission, end: End) -> None:
        try:
            refused = admission.recheck()
            # whoever takes it out of the dictionary is the one who ends it
            if refused is not None and self._calls.pop(admission, None) is not None:
                end(refused)
        except Exception:
            _log.exception("a call under way could not be looked at again")


class NeverEnded(Stay):
    """A call that is looked at with its messages alone, so that it is always its own to end."""

    def __init__(self) -> None:
        super().__init__({}, None)  # type: ignore[arg-type]
        self._own = True


class OngoingInThread(Ongoing):
    """For `grpc.server`: a daemon thread looks, from the first call until the interceptor is gone."""

    def __init__(self, interval: float) -> None:
        super().__init__(interval)
        self._lock = threading.Lock()
        self._started = False

    def enter(self, admission: Admission, end: End) -> Stay:
        """See :class:`Ongoing`."""
        stay = super().enter(admission, end)
        if not self._started:
            self._start()
        return stay

    def _look(self) -> None:
        for admission, end in self._snapshot():
            self._look_at(admission, end)

    def _start(self) -> None:
        with self._lock:
            if not self._started:
                self._started = True
                target = weakref.ref(self)
                threading.Thread(target=_keep_looking, args=(target,), name="authz-recheck", daemon=True).start()


def _keep_looking(target: weakref.ref[OngoingInThread]) -> None:
    pause = threading.Event()
    while (ongoing := target()) is not None:
        ongoing._look()  # noqa: SLF001 - a method of the class, but for the reference it must not hold
        interval = ongoing.interval
        del ongoing
        pause.wait(interval)


class OngoingOnLoop(Ongoing):
    """For `grpc.aio.server`: a timer of the event loop looks, for as long as there are calls, some at a time."""

    def __init__(self, interval: float) -> None:
        super().__init__(interval)
        self._armed = False

    def enter(self, admission: Admission, end: End) -> Stay:
        """See :class:`Ongoing`. To be called on the event loop."""
        stay = super().enter(admission, end)
        if not self._armed:
            self._arm(asyncio.get_running_loop())
        return stay

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = bool(self._calls)
        if self._armed:
            loop.call_later(self.interval, self._look, loop, None)

    def _look(self, loop: asyncio.AbstractEventLoop, left: Iterator[tuple[Admission, End]] | None) -> None:
        calls = iter(self._snapshot()) if left is None else left
        decided = 0
        for admission, end in calls:
            self._look_at(admission, end)
            decided += max(1, len(admission.admitted))
            if decided >= _SLICE:
                loop.call_soon(self._look, loop, calls)
                return
        self._arm(loop)
