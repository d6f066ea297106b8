"""Loss: records that are not in the log, told by the log itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import orjson

from authz.audit.event import Event, EventName


@dataclass(frozen=True, slots=True)
class Loss:
    """Numbers that were used up by records which could not be written.

    Attributes:
        first, last: the numbers.
        cause: of the latest loss.
        let_through: whether allows among them were let through (break-glass).
        since_ns: time of the first loss, in nanoseconds since the epoch.
    """

    first: int
    last: int
    cause: str
    let_through: bool = False
    since_ns: int = field(default_factory=time.time_ns)

    def with_more(self, count: int, cause: str) -> Loss:
        """This loss, and ``count`` more."""
        return replace(self, last=self.last + count, cause=cause)

    def after(self, seq: int) -> Loss | None:
        """What is still to be told, when the file turns out to go up to ``seq``.

        If it goes beyond this loss, it was told. If not, what was counted since has numbers that come after.
        """
        if seq > self.last:
            return None
        return self if seq < self.first else replace(self, first=seq + 1, last=seq + 1 + self.last - self.first)

    def body(self) -> bytes:
        """The event that says so."""
        details: dict[str, object] = {
            "from": self.first,
            "to": self.last,
            "count": self.last - self.first + 1,
            "cause": self.cause,
            "since": self.since_ns // 1000,
            "let_through": self.let_through,
        }
        return orjson.dumps(Event(EventName.LOSS, details).fields())
