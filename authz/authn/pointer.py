"""Pointer: where in a claims set a value is: the name of a member, or a JSON Pointer (RFC 6901) to a nested one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
_BAD_ESCAPE = re.compile(r"~(?![01])")


class _Absent:
    """The value that is not there; JSON's null is a value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class Pointer:
    """A place in a claims set.

    Args:
        text: begins with ``/``: a JSON Pointer, e.g. ``/realm_access/roles``; else the name of a member at the top, as
            it is, e.g. ``groups`` or ``https://corp.example/claims/roles``.

    Raises:
        ValueError: ``text`` is empty, or has a ``~`` that is not ``~0`` or ``~1``.
    """

    __slots__ = ("_steps", "text")

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("is empty")
        self.text = text
        if not text.startswith("/"):
            self._steps: tuple[str, ...] = (text,)
            return
        if _BAD_ESCAPE.search(text):
            raise ValueError("has a `~` that is neither `~0` (for `~`) nor `~1` (for `/`)")
        self._steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))

    def __repr__(self) -> str:
        return f"Pointer({self.text!r})"

    def find(self, document: Mapping[str, object]) -> object:
        """The value there, or :data:`ABSENT`."""
        value: object = document
        for step in self._steps:
            if isinstance(value, Mapping):
                value = value.get(step, ABSENT)
            elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
                value = value[int(step)]
            else:
                return ABSENT
        return value
