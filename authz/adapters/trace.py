"""Trace: the id of the trace that a call belongs to."""

from __future__ import annotations

from typing import Final

_HEX: Final = frozenset("0123456789abcdef")


def trace_id(traceparent: str) -> str:
    """The trace id (32 hex digits) in a W3C ``traceparent``; empty if there is none."""
    parts = traceparent.split("-")
    well_formed = len(parts) >= 4 and len(parts[1]) == 32 and _HEX.issuperset(parts[1])
    return parts[1] if well_formed else ""
