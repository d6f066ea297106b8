"""Subject: the text that may name a caller in a policy, a log and a table."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LENGTH_LIMIT: Final = 255
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@|+=~!$%&;-]{1,255}")
# Each of these means something to a policy matcher or to a CSV reader; a caller's name must mean only itself. Whom no
# line of a policy can name, none can deny.
_MEANINGFUL = frozenset('*?[]{}\\,"#')
# Cc control, Cf format (bidirectional and zero-width), Cs surrogates, Co private use, Cn unassigned, Zl and Zp breaks.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_visible(text: str) -> bool:
    """Whether ``text`` can be shown: no control, bidirectional, zero-width or private character, nor half of a pair."""
    return (text.isascii() and text.isprintable()) or not any(unicodedata.category(c) in _INVISIBLE for c in text)


def subject_problem(text: object, limit: int = LENGTH_LIMIT) -> str:
    """Why ``text`` cannot name a caller, as the end of a sentence; empty if it can.

    A subject is text of 1 to 255 visible characters, with no blank at either end, no blank but the space, none of
    ``* ? [ ] { } \\ , " #``, and no round bracket without its other half.
    """
    if not isinstance(text, str):
        return "is not text"
    if _PLAIN.fullmatch(text):
        return ""
    if not text.strip():
        return "is empty"
    if len(text) > limit:
        return f"is longer than {limit} characters"
    if text != text.strip():
        return "begins or ends with a blank"
    if not is_visible(text):
        return "has a character that cannot be seen"
    if any(c != " " and c.isspace() for c in text):
        return "has a blank that is not a space"
    if not _MEANINGFUL.isdisjoint(text):
        return 'has one of the characters * ? [ ] { } \\ , " #'
    if not _is_balanced(text):
        return "has a round bracket without its other half"
    return ""


def _is_balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return not depth
