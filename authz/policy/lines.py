"""PolicyLines: the lines of a bundle's policy files, kept as the text they were read from.

A line is Casbin's CSV: fields separated by commas, blanks around them ignored, ``#`` at the start of a line for a
comment. What the Casbin of one language reads otherwise than another's, or none reads as meant, is refused here.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, overload

from authz.errors import Place, Problem

# Whatever is a blank to Python but the plain one, and whatever nobody can see.
_UNSEEN: Final = r"\x0b\x0c\x0e-\x1f\x7f-\xa0\u1680\u180e\ufeff\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
_ODD: Final = re.compile(rf"[\"()\[\];\x00-\x09{_UNSEEN}]")
_MARKER: Final = re.compile(r"(?:<{7}|={7}|>{7}|\|{7})(?: .*)?")
_PART: Final = 2048
_LETTERS: Final = 4096
_BLANK: Final = re.compile(rf"[\x00-\x0a\x0d{_UNSEEN}]")
# What some editors show as the end of a line, though none ends there: a rule behind it would be part of a comment.
_BREAK: Final = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One line of a Casbin policy: its type (``p``, ``g``, ``g2``, ...), its fields, and where it is written."""

    ptype: str
    fields: tuple[str, ...]
    place: Place

    @property
    def text(self) -> str:
        """The line in Casbin's CSV form."""
        return ", ".join((self.ptype, *self.fields))


class PolicyLines(Sequence[PolicyLine]):
    """Every line of some policy files, in order: a sequence of :class:`PolicyLine` made when asked for.

    A hundred thousand lines cost little more than their text.
    """

    __slots__ = ("_files", "_firsts", "_numbers", "_rows", "_same", "_starts")

    def __init__(self) -> None:
        self._files: list[tuple[str, str]] = []
        self._firsts: list[int] = []
        self._numbers = array("I")
        self._rows: list[list[str]] | None = []
        self._same: dict[str, str] = {}
        self._starts = array("I")

    def add(self, text: str, path: str, problems: list[Problem]) -> None:
        """Add the lines of the file ``path``; what is no policy line at all goes to ``problems``."""
        self._files.append((path, text))
        self._firsts.append(len(self._numbers))
        # No single step is long: while it lasts, no other thread decides anything.
        returns = "\r" in text
        odd = any(_ODD.search(text, at, at + _LETTERS) for at in range(0, len(text), _LETTERS))
        rows = None if self._rows is None else self._rows.append
        one = self._same.setdefault
        note_number, note_start = self._numbers.append, self._starts.append
        start = 0
        for number, raw in enumerate(_raw_lines(text), 1):
            line = raw.strip()
            if line and line[0] != "#":
                # Few lines need a second look; the others cost no more than this one.
                look = "#" in line or "," not in line or (odd and _ODD.search(raw)) or (returns and "\r" in raw[:-1])
                if look and (problem := _problem(raw, Place(path, number, 1))):
                    problems.append(problem)
                else:
                    note_number(number)
                    note_start(start)
                    if rows is not None:
                        rows([one(part, part) for part in _split(line)])
            elif line and (odd or returns) and (found := _BREAK.search(raw.removesuffix("\r"))):
                message = f"the character U+{ord(found[0]):04X} ends no line: what follows it is part of the comment"
                problems.append(
                    Problem(Place(path, number, found.start() + 1), message, "write a line end, or remove it")
                )
            start += len(raw) + 1

    def rows(self) -> list[list[str]]:
        """Every line as a list: its type, then its fields. Equal texts are one object.

        The lists are kept for whoever asks next, until :meth:`take_rows`.
        """
        rows = self._rows
        if rows is None:
            one = self._same.setdefault
            rows = [[one(part, part) for part in _split(self._raw(index)[1].strip())] for index in range(len(self))]
            self._rows = rows
        return rows

    def take_rows(self) -> Iterator[list[str]]:
        """The same, one after the other, each let go of as the next ones are taken."""
        rows = self.rows()
        self._rows, self._same = None, {}
        while rows:
            part = rows[:_PART]
            del rows[:_PART]
            yield from part

    def _raw(self, index: int) -> tuple[str, str]:
        path, text = self._files[bisect_right(self._firsts, index) - 1]
        start = self._starts[index]
        stop = text.find("\n", start)
        return path, text[start : stop if stop >= 0 else len(text)]

    def written(self, index: int) -> tuple[str, Place]:
        """The text of line ``index``, as :attr:`PolicyLine.text`, and where it is written: without the way round."""
        path, raw = self._raw(index)
        line = raw.strip()
        plain = line.replace(", ", ",")
        text = ", ".join(_split(line)) if " " in plain else plain.replace(",", ", ")
        return text, Place(path, self._numbers[index], len(raw) - len(raw.lstrip()) + 1)

    def at(self, index: int) -> tuple[str, int]:
        """The file and the number of line ``index``."""
        return self._files[bisect_right(self._firsts, index) - 1][0], self._numbers[index]

    def place(self, index: int, field: int = 0) -> Place:
        """Where line ``index`` is written, or its ``field`` (0: the type, 1: the first field, ...)."""
        path, raw = self._raw(index)
        parts = raw.split(",")[: field + 1]
        column = sum(map(len, parts)) + len(parts) - len(parts[-1].lstrip())
        return Place(path, self._numbers[index], column)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> PolicyLine: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PolicyLine, ...]: ...
    def __getitem__(self, index: int | slice) -> PolicyLine | tuple[PolicyLine, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        path, raw = self._raw(index)
        ptype, *fields = _split(raw.strip())
        column = len(raw) - len(raw.lstrip()) + 1
        return PolicyLine(ptype, tuple(fields), Place(path, self._numbers[index], column))

    def __iter__(self) -> Iterator[PolicyLine]:
        for index, (ptype, *fields) in enumerate(self.rows()):
            yield PolicyLine(ptype, tuple(fields), self.place(index))


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """``rows`` in parts so small that other threads get their turn between them."""
    return (rows[start : start + _PART] for start in range(0, len(rows), _PART))


def let_go(rows: list[T]) -> None:
    """Empty ``rows``, likewise: with many, even that takes its time."""
    while rows:
        del rows[-_PART:]


def _raw_lines(text: str) -> Iterator[str]:
    """``text.split("\\n")``, likewise."""
    start = 0
    while (end := text.find("\n", start + _LETTERS)) >= 0:
        yield from text[start:end].split("\n")
        start = end + 1
    yield from text[start:].split("\n")


def _split(line: str) -> list[str]:
    """The fields of ``line``, which has no blanks around it, and none but plain ones in it."""
    plain = line.replace(", ", ",")
    parts = plain.split(",")
    return [part.strip() for part in parts] if " " in plain else parts


def _problem(raw: str, place: Place) -> Problem | None:
    """What is wrong with the line ``raw`` as CSV, if anything."""
    line = raw.removesuffix("\r").strip(" ")
    column = len(raw) - len(raw.lstrip(" ")) + 1

    def at(position: int, message: str, remedy: str) -> Problem:
        return Problem(Place(place.path, place.line, column + position), message, remedy)

    if _MARKER.fullmatch(line):
        return at(0, "is the mark of a merge conflict", "resolve the conflict and remove the three marks")
    for separator, name in (("\t", "a tab"), (";", "a semicolon")):
        if separator in line and "," not in line:
            return at(line.index(separator), f"{name} does not separate fields", "write a comma between fields")
    if found := _BLANK.search(line):
        name = f"the character U+{ord(found[0]):04X}"
        return at(found.start(), f"{name} cannot stand in a policy line", "write a plain blank, or remove it")
    if '"' in line:
        return at(
            line.index('"'), "a quote would be part of the value in one Casbin and not in another", "leave it out"
        )
    if found := re.search(r"[^,]#|,\s*#", line):
        position = found.start() + found[0].index("#")
        return at(position, "a comment here would be part of the value", "put the comment on a line of its own")
    depth = 0
    for character in line:
        depth += (character in "([") - (character in ")]")
        if depth < 0 or (depth and character == ","):
            break
    if depth:
        return at(0, "a bracket opens or closes alone, or a comma stands between brackets", "remove the bracket")
    return None
