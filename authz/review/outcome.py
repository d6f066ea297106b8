"""Outcome: whether a call was let in. Where an adapter enforces nothing, that is not what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LET_IN: Final = "(decision IS NOT DISTINCT FROM 'allow' OR enforced IS NOT DISTINCT FROM false)"
"""The condition in SQL, of a decision; :func:`was_let_in` is the same for a single record."""


def was_let_in(record: Mapping[str, Any]) -> bool:
    """Whether the caller of a recorded decision was let in."""
    return record.get("decision") == "allow" or record.get("enforced") is False


def told(record: Mapping[str, Any]) -> str | None:
    """What was decided, for a person: with a word more where it did not count."""
    decision: str | None = record.get("decision")
    return f"{decision} (let in)" if decision != "allow" and was_let_in(record) else decision
