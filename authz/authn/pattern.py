"""Pattern: regular expressions for claims, which match whole texts, in ASCII, in time that grows with the text alone.

Python's matcher tries again and again: a careless expression and a hostile text can keep it busy for years. So only
expressions are taken for which each repetition ends where the text says, and nowhere else:

- a repetition repeats one character or class, not a group: ``[a-z]+``, not ``(ab)+``;
- what follows a repetition cannot begin with a character that the repetition could have taken, except after the last
  repetition: ``[^:]+:.+``, not ``.+:.+``;
- no lookaround, back reference, lazy or possessive repetition, flag or anchor: the whole text is matched anyway.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn

_BEYOND: Final = 128  # stands for every character that is not ASCII
_ANY: Final = frozenset(range(_BEYOND + 1))
_DIGIT: Final = frozenset(map(ord, "0123456789"))
_WORD: Final = _DIGIT | frozenset(map(ord, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"))
_SPACE: Final = frozenset(map(ord, " \t\n\r\f\v"))
_CLASSES: Final = {
    "d": _DIGIT,
    "D": _ANY - _DIGIT,
    "w": _WORD,
    "W": _ANY - _WORD,
    "s": _SPACE,
    "S": _ANY - _SPACE,
}
_SPECIAL: Final = frozenset(r"\^$.|?*+()[]{}")
_LENGTH_LIMIT: Final = 1000
_PATHS_LIMIT: Final = 64
_GROUP: Final = re.compile(r"\((?:\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>|(?!\?))")
_SET_OPERATION: Final = re.compile(r"--|&&|\|\||~~")
_COUNT: Final = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}")


class _Step(NamedTuple):
    """A class of characters, and how often one of it comes."""

    characters: frozenset[int]
    least: int
    most: float

    @property
    def varies(self) -> bool:
        return self.least != self.most


_Path = tuple[_Step, ...]


def read_pattern(text: str) -> re.Pattern[str]:
    """The pattern that ``text`` writes, for :meth:`re.Pattern.fullmatch`.

    Raises:
        ValueError: it is no regular expression, or none of those above.
    """
    if len(text) > _LENGTH_LIMIT:
        raise ValueError(f"is longer than {_LENGTH_LIMIT} characters")
    if not text.isascii():
        raise ValueError("is not ASCII")
    reader = _Reader(text)
    for path in reader.alternatives():
        _check(path)
    reader.end()
    try:
        return re.compile(text, re.ASCII | re.DOTALL)
    except (re.error, OverflowError) as exc:
        raise ValueError(f"is not a regular expression: {exc}") from None


def _check(path: _Path) -> None:
    last = max((i for i, step in enumerate(path) if step.varies), default=0)
    for i, (step, following) in enumerate(pairwise(path)):
        if not step.varies or i == last:
            continue
        if following.least == 0 or not step.characters.isdisjoint(following.characters):
            raise ValueError(
                "has a repetition that could end in more than one place: let it be followed by a character that it "
                "cannot take, e.g. [^:]+: instead of .+:"
            )


class _Reader:
    """Reads an expression into all the paths through it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _fail(self, what: str) -> NoReturn:
        raise ValueError(f"{what}, at character {self._at + 1}")

    def end(self) -> None:
        if self._at < len(self._text):
            self._fail("has a `)` too many")

    def alternatives(self) -> list[_Path]:
        paths = self._sequence()
        while self._peek() == "|":
            self._at += 1
            paths = self._bounded([*paths, *self._sequence()])
        return paths

    def _bounded(self, paths: list[_Path]) -> list[_Path]:
        if len(paths) > _PATHS_LIMIT:
            self._fail(f"has more than {_PATHS_LIMIT} ways through its alternatives")
        return paths

    def _sequence(self) -> list[_Path]:
        paths: list[_Path] = [()]
        while self._peek() not in ("", "|", ")"):
            pieces = self._piece()
            paths = self._bounded([(*path, *piece) for path in paths for piece in pieces])
        return paths

    def _piece(self) -> list[_Path]:
        group = _GROUP.match(self._text, self._at)
        if group is not None:
            self._at = group.end()
            paths = self.alternatives()
            if self._peek() != ")":
                self._fail("has a `(` that is not closed")
            self._at += 1
            least, most = self._repetition()
            if (least, most) == (1, 1):
                return paths
            if (least, most) == (0, 1):
                return [(), *paths]
            self._fail("repeats a group; repeat one character or class, e.g. [a-z]+")
        characters = self._characters()
        return [(_Step(characters, *self._repetition()),)]

    def _repetition(self) -> tuple[int, float]:
        sign, least, most = self._peek(), 1, 1.0
        if sign in ("*", "+", "?") and sign:
            self._at += 1
            least, most = (1 if sign == "+" else 0), (1.0 if sign == "?" else float("inf"))
        elif sign == "{":
            count = _COUNT.match(self._text, self._at)
            if count is None:
                self._fail("has a `{` that is no repetition; write \\{ for the character")
            self._at = count.end()
            least = int(count[1])
            most = float(least) if count[2] is None else float(count[3]) if count[3] else float("inf")
            if most < least:
                self._fail("has a repetition that ends before it begins")
        else:
            return 1, 1.0
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            self._fail("has a repetition of a repetition, or a lazy or possessive one")
        return least, most

    def _characters(self) -> frozenset[int]:
        character = self._peek()
        self._at += 1
        if character == ".":
            return _ANY
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in ("^", "$"):
            self._fail(f"has a `{character}`; leave it out, the whole text is matched anyway")
        if character in _SPECIAL:
            self._fail(f"has a `{character}` where none can be; write \\{character} for the character")
        return frozenset({ord(character)})

    def _escape(self) -> frozenset[int]:
        character = self._peek()
        self._at += 1
        if character in _CLASSES and character:
            return _CLASSES[character]
        if not character or character.isalnum():
            self._fail(f"has `\\{character}`; of such, only \\d \\w \\s \\D \\W \\S are taken")
        return frozenset({ord(character)})

    def _class(self) -> frozenset[int]:
        opened = self._at
        negated = self._peek() == "^"
        self._at += negated
        found: frozenset[int] = frozenset()
        first = True
        while first or self._peek() != "]":
            first = False
            begin = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                end = self._member()
                if len(begin) != 1 or len(end) != 1 or min(end) < min(begin):
                    self._fail("has a range that is none")
                begin = frozenset(range(min(begin), min(end) + 1))
            found |= begin
        if _SET_OPERATION.search(self._text, opened, self._at):
            self._fail("has a doubled - & | or ~ in a class, which may come to mean something else; write it once")
        self._at += 1
        return _ANY - found if negated else found

    def _member(self) -> frozenset[int]:
        character = self._peek()
        self._at += 1
        if not character:
            self._fail("has a `[` that is not closed")
        if character == "\\":
            return self._escape()
        if character == "[":
            self._fail("has a `[` in a class; write \\[ for the character")
        return frozenset({ord(character)})
