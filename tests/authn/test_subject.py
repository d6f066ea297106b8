"""Which texts may name a caller."""

from __future__ import annotations

import pytest

from authz.authn.subject import LENGTH_LIMIT, subject_problem

GOOD = [
    "rita",
    "auth0|123",
    "spiffe://prod.example/ns/a/sa/b",
    "rita+test@corp.example",
    "248289761001",
    "system:serviceaccount:shop:orders",
    "José O'Neil (Ops)",
    "((a) b)",
    "x;y",
    "a" * LENGTH_LIMIT,
]
BAD = [
    (7, "is not text"),
    ("", "is empty"),
    ("   ", "is empty"),
    ("a" * (LENGTH_LIMIT + 1), "is longer"),
    (" a", "begins or ends"),
    ("a\u202eb", "cannot be seen"),
    ("a\tb", "cannot be seen"),
    ("a\u205fb", "a blank that is not a space"),
    ("a*", "one of the characters"),
    ("a,b", "one of the characters"),
    ("guest#EXT#@corp.example", "one of the characters"),
    ("a (x", "a round bracket without its other half"),
    (") x (", "a round bracket without its other half"),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_subject(text: str) -> None:
    assert subject_problem(text) == ""


@pytest.mark.parametrize(("text", "why"), BAD)
def test_no_subject(text: object, why: str) -> None:
    assert why in subject_problem(text)
