"""Event: what happened to the system itself, as a line of the same log: a policy was loaded, records were lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import orjson

from authz.audit.printable import LIST_LIMIT, clean, utc
from authz.audit.record import GENESIS, VERSION, new_id


class EventName(StrEnum):
    """What an event is called, and the ``code`` by which a search of many years' logs finds it. Never renamed."""

    code: str

    def __new__(cls, value: str, code: str) -> EventName:
        """A member from its name and its code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.code = code
        return member

    # the log itself
    LOG_OPEN = "log.open", "AZ2001"
    LOG_CLOSE = "log.close", "AZ2002"
    LOG_RECOVERED = "log.recovered", "AZ2003"
    LOG_ROTATED = "log.rotated", "AZ2004"
    LOG_RETIRED = "log.retired", "AZ2005"
    LOG_REPLACED = "log.replaced", "AZ2006"
    LOG_QUERIED = "log.queried", "AZ2007"
    CHECKPOINT = "checkpoint", "AZ2008"
    LOSS = "audit.loss", "AZ2009"
    UNSYNCED = "audit.unsynced", "AZ2010"

    # what is in force
    CONFIG = "config", "AZ3001"
    POLICY_LOADED = "policy.loaded", "AZ3002"
    POLICY_REJECTED = "policy.rejected", "AZ3003"
    KEYS_CHANGED = "keys.changed", "AZ3004"
    BREAK_GLASS = "break_glass", "AZ3005"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        name: what happened.
        details: more about it: text, numbers, booleans or lists of text; text is cut to a length and made printable.
        time_ns: when, in nanoseconds since the epoch; 0: now, when it is written.
        bundle: for ``policy.loaded``, the folder that was read, so that a log can keep a copy for its reviewers.
    """

    name: EventName
    details: Mapping[str, object] = field(default_factory=dict)
    time_ns: int = 0
    bundle: Path | None = None

    def fields(self) -> dict[str, object]:
        """The event's fields, without its place in a log."""
        return {
            "event": self.name.value,
            "id": new_id(),
            "time": utc(self.time_ns or time.time_ns()),
            "code": self.name.code,
            **{clean(key): _plain(value) for key, value in self.details.items()},
        }

    def to_json(self, seq: int, writer: str, prev: str = GENESIS) -> bytes:
        """The event as one line of JSON, with its line feed. See :meth:`authz.audit.record.Record.to_json`."""
        place: dict[str, object] = {"v": VERSION, "writer": writer, "seq": seq, "prev": prev}
        return orjson.dumps(place | self.fields()) + b"\n"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, list | tuple):
        return [clean(str(item), 512) for item in value[:LIST_LIMIT]]
    return clean(str(value), 512)
