"""Trace context: which trace and which span a call belongs to, by the W3C header ``traceparent``.

What a caller writes there is not to be believed, only to be recorded: it finds the caller's trace, and proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_VERSION_0: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_LATER: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-[\x21-\x7e]{0,200})?")
_NONE: Final = ("", "")


def read_traceparent(values: Sequence[str | bytes]) -> tuple[str, str]:
    """The trace id and the id of the caller's span, in 32 and 16 hex digits.

    Args:
        values: every value of ``traceparent`` that came with the call.

    Returns:
        two empty texts, if there is not exactly one value, or if it is not one by the W3C's Trace Context
        (https://www.w3.org/TR/trace-context/): also for the version ``ff`` and for an id that is all zeros. Of a
        version that is not known, what it has in common with version 00 counts.
    """
    if len(values) != 1 or not isinstance(values[0], str):
        return _NONE
    value = values[0]
    found = (_VERSION_0 if value.startswith("00") else _LATER).fullmatch(value)
    if found is None or value.startswith("ff"):
        return _NONE
    trace, span = found.groups()
    if not trace.strip("0") or not span.strip("0"):
        return _NONE
    return trace, span
