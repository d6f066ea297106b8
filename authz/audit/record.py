"""Record: one decision, as the auditor reads it."""

from __future__ import annotations


class Record:
    """One audit record."""
