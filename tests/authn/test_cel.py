"""CEL conditions: only what is certainly true holds."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from authz.authn.cel import CelCondition

TABLE: list[tuple[str, dict[str, Any], bool]] = [
    ("claims.level >= 3", {"level": 3}, True),
    ("claims.level >= 3", {"level": 2}, False),
    ("claims.level >= 3", {}, False),
    ("claims.level >= 3", {"level": "3"}, False),
    ("claims.level >= 3", {"level": 10**30}, False),
    ("claims.level >= 3 || claims.other", {"other": "true"}, False),
    ("'a' in claims.groups", {"groups": ["b", "a"]}, True),
    ("'a' in claims.groups", {"groups": "a"}, False),
    ("claims.groups.exists(g, g.startsWith('x'))", {"groups": ["xy"]}, True),
    ("has(claims.a) && claims.a == true", {"a": "true"}, False),
    ("has(claims.a) && claims.a == true", {"a": True}, True),
    ("!has(claims.b)", {}, True),
    ("claims.l.all(a, claims.l.all(b, claims.l.all(c, claims.l.all(d, a + b + c + d >= 0))))", {"l": [1] * 60}, False),
]


@pytest.mark.parametrize(("text", "attributes", "holds"), TABLE)
def test_conditions(text: str, attributes: dict[str, Any], holds: bool) -> None:
    condition = CelCondition(text)
    assert condition.holds(MappingProxyType(attributes)) is holds
    assert condition.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not CEL"),
        ("claims.a ==", "is not CEL"),
        ("other == 1", "undeclared reference"),
        ("claims.a", "not certainly true or false"),
        ("1", "not certainly true or false"),
        ("'true'", "not certainly true or false"),
        ("claims.a.matches('x')", "calls `matches`"),
        ("matches (claims.a, 'x')", "calls `matches`"),
        ("claims.a . matches\n('x')", "calls `matches`"),
        ("claims.a.matches // c\n ('x')", "calls `matches`"),
        ("claims.a.matches// (\n// c\n('x')", "calls `matches`"),
        ("true || " * 300 + "true", "longer than"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CelCondition(text)
