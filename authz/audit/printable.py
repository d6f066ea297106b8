"""Printable: what a stranger can choose, made fit for a line that people and programs read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

TEXT_LIMIT: Final = 256
LIST_LIMIT: Final = 64
_SUBSTITUTE: Final = "\ufffd"
_BILLION: Final = 1_000_000_000
_second: tuple[int, str] = (-_BILLION, "1970-01-01T00:00:00")
"""The second before the one that was written last, in nanoseconds (what is counted from there has ten digits), and the
text of the one that was."""


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """``text`` as it may stand in a log: at most ``limit`` characters, each printable (no control, bidi, surrogate)."""
    if len(text) > limit:
        text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else _SUBSTITUTE for c in text)


def utc(time_ns: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    global _second
    begin, text = _second
    # whole numbers: a float of nanoseconds would round the microseconds
    rest = time_ns - begin
    if not _BILLION <= rest < 2 * _BILLION:
        seconds = time_ns // _BILLION
        begin, text = (seconds - 1) * _BILLION, f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
        # one reference is swapped for another, so that no thread sees half of it
        _second = (begin, text)
        rest = time_ns - begin
    return f"{text}.{str(rest)[1:7]}Z"
