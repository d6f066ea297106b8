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
