"""Ending: rules that end by themselves, in plain Casbin terms: a field of the rule, and a function of the matcher.

    p = sub, dom, obj, act, eft, until
    m = ... && validUntil(p.until)

``until`` is a moment in UTC, ``2026-12-31T18:00:00Z``, or ``never``. The rule counts before that moment and not from it
on. A stock Casbin is told what the function means:

    enforcer.add_function("validUntil", lambda until: until == "never" or now() < until)

with ``now()`` as text of the same form: times of this form sort as they follow each other.
"""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from typing import Final

FUNCTION: Final = "validUntil"
NEVER: Final = "never"
END_RULE: Final = "`never`, or a moment in UTC like 2026-12-31T18:00:00Z"
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def read_end(text: str) -> float:
    """The end that ``text`` says, in seconds since the epoch; infinity for ``never``.

    Raises:
        ValueError: it says none: :data:`END_RULE`.
    """
    if text == NEVER:
        return float("inf")
    if _MOMENT.fullmatch(text) is None:
        raise ValueError(text)
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def end_field(tree: ast.expr) -> str:
    """The field of the rule that says when it ends (``until``); empty: the matcher ``tree`` asks of none."""
    found = [name for part in _parts(tree) if (name := _asks(part))]
    return found[0] if len(found) == 1 else ""


def without_end(tree: ast.expr) -> ast.expr:
    """``tree`` without the condition that the rule has not ended; ``tree`` itself if there is none."""
    field = end_field(tree)
    kept = [part for part in _parts(tree) if _asks(part) != field] if field else []
    return ast.BoolOp(ast.And(), kept) if len(kept) > 1 else kept[0] if kept else tree


def _parts(tree: ast.expr) -> list[ast.expr]:
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [each for part in tree.values for each in _parts(part)]
    return [tree]


def _asks(part: ast.expr) -> str:
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == FUNCTION:
        arguments = [each.id for each in part.args if isinstance(each, ast.Name)]
        if len(arguments) == len(part.args) == 1 and arguments[0].startswith("p_"):
            return arguments[0][2:]
    return ""
