"""Classes: the names that no pattern of a policy tells apart, with one concrete name for each class.

There are more namespaces than anyone can list, and a policy knows a few names and a few beginnings. Each name is a
class of its own; each beginning is one, of all names that begin so and are in no class that says more. One name of a
class stands for all: whatever holds for it holds for the others.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_LETTERS: Final = string.ascii_lowercase + string.digits + "_" + string.ascii_uppercase + "-."
_TAILS: Final[tuple[str, ...]] = ("", *_LETTERS)
_ENDINGS: Final = ("example", "other", "any")


@dataclass(frozen=True, slots=True)
class NameClass:
    """Some names that a policy does not tell apart.

    Attributes:
        label: as a policy writes it: a name, or a beginning and a star.
        example: one name of the class.
    """

    label: str
    example: str

    @property
    def is_pattern(self) -> bool:
        """Whether the class has more than one name."""
        return self.label.endswith("*")


def name_classes(names: Iterable[str], beginnings: Iterable[str], valid: Callable[[str], bool]) -> Iterator[NameClass]:
    """Every class, names first, then beginnings from the longest to the shortest.

    Args:
        names: names that stand in the policy.
        beginnings: what its patterns begin with; the empty text for "every name".
        valid: whether a text can be a name at all; the others are left out.
    """
    known = set(names)
    starts = set(beginnings)
    lengths = sorted({len(start) for start in starts}, reverse=True)

    def longest(name: str) -> str | None:
        return next((name[:n] for n in lengths if n <= len(name) and name[:n] in starts), None)

    def fits(name: str, start: str) -> bool:
        return valid(name) and name not in known and longest(name) == start

    for name in sorted(known):
        if valid(name):
            yield NameClass(name, name)
    for start in sorted(starts, key=lambda each: (-len(each), each)):
        example = _fresh(start, fits)
        if example is not None:
            yield NameClass(start + "*", example)


def _fresh(start: str, fits: Callable[[str, str], bool]) -> str | None:
    """A name that begins with ``start`` and ``fits``; None: there is none."""
    for ending in _ENDINGS:
        if fits(start + ending, start):
            return start + ending
    waiting: list[str] = [start]
    for text in waiting:
        for letter in _TAILS:
            if fits(text + letter, start):
                return text + letter
        if len(waiting) < 4096 and len(text) < 255:
            waiting += [text + letter for letter in _LETTERS]
    return None
