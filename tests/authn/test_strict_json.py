"""Strict JSON: one reading, or none, whichever way it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.authn import base64url
from authz.authn.pointer import ABSENT, Pointer
from authz.authn.strict_json import DEPTH_LIMIT, read_json

# no deadline: the machine may be busy
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def slowly(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the reader says without its short cut."""
    with monkeypatch.context() as patch:
        patch.setattr("authz.authn.strict_json.orjson.dumps", lambda _: b"")
        return outcome(data)


def outcome(data: bytes) -> Any:
    try:
        return read_json(data)
    except ValueError as exc:
        return str(exc)


@QUIET
@given(VALUES, st.booleans(), st.booleans())
def test_what_is_written_is_read(value: Any, compact: bool, ascii_only: bool) -> None:
    text = json.dumps(value, separators=(",", ":") if compact else None, ensure_ascii=ascii_only)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    found = outcome(data)
    assert found == value or isinstance(found, str)


@QUIET
@given(st.one_of(st.binary(max_size=40), st.text('{}[]":,\\u0d8ae1.-+tfn ', max_size=40).map(str.encode)))
def test_the_short_cut_says_the_same(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        slow = slowly(data, monkeypatch)
    fast = outcome(data)
    assert type(fast) is type(slow)
    assert fast == slow


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":1}}',
        '[{"a":1,"\\u0061":1}]',
        "NaN",
        "[1e999]",
        '"\\ud800"',
        '{"\\udfff":1}',
        "[" * (DEPTH_LIMIT + 2) + "]" * (DEPTH_LIMIT + 2),
        "9" * 21,
        "\ufeff{}",
        "",
        "{}{}",
    ],
)
def test_both_ways_refuse(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(outcome(text.encode()), str)
    assert isinstance(slowly(text.encode(), monkeypatch), str)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_breadth_is_not_depth(separators: tuple[str, str]) -> None:
    value = {"groups": [{"name": [str(i)]} for i in range(50)]}
    assert outcome(json.dumps(value, separators=separators).encode()) == value


@QUIET
@given(st.binary())
def test_bytes_have_one_spelling(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


@QUIET
@given(st.binary(max_size=12), st.text("AB-_+/= \n.", max_size=16))
def test_no_other_spelling_is_taken(data: bytes, text: str) -> None:
    try:
        decoded = base64url.decode(text.encode())
    except ValueError:
        return
    assert base64url.encode(decoded) == text.encode()


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("a", {"b": [1, {"c": None}]}),
        ("/a/b/0", 1),
        ("/a/b/1/c", None),
        ("/a/b/2", ABSENT),
        ("/a/b/-", ABSENT),
        ("/a/b/00", ABSENT),
        ("/a/b/0/x", ABSENT),
        ("/a~1b", 2),
        ("/m~0n", 3),
        ("a/b", 2),
        ("https://x/y", 4),
        ("/", 5),
        ("x", ABSENT),
    ],
)
def test_a_pointer(pointer: str, expected: object) -> None:
    document = {"a": {"b": [1, {"c": None}]}, "a/b": 2, "m~n": 3, "https://x/y": 4, "": 5}
    assert Pointer(pointer).find(document) == expected
    assert pointer in repr(Pointer(pointer))
    assert repr(ABSENT) == "ABSENT"


@pytest.mark.parametrize("pointer", ["", "/a~", "/a~2"])
def test_what_is_no_pointer(pointer: str) -> None:
    with pytest.raises(ValueError):
        Pointer(pointer)
