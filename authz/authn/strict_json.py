"""Strict JSON: the one reading of a text that leaves no room for another reading.

Two readers that disagree on a token are a hole between them, so whatever readers are known to disagree on is refused:
a repeated name, NaN and the infinities, a number that overflows, a byte order mark, any encoding but UTF-8, half of a
surrogate pair, nesting that some readers survive and others do not.
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

import orjson

DEPTH_LIMIT: Final = 16


def read_json(data: bytes) -> object:
    """The value that ``data`` holds.

    Args:
        data: JSON text in UTF-8. The caller bounds its length.

    Raises:
        ValueError: with a sentence that says what is wrong, and repeats nothing of the text.
    """
    try:
        # Writing out again what was read shows each member once. Text that comes out as it went in, byte for byte, can
        # only be read in one way; most issuers write such text, and it is read ten times as fast.
        value = orjson.loads(data)
        if orjson.dumps(value) == data:
            _refuse_depth(data, value)
            return value
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte order mark")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise ValueError("is not JSON") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {DEPTH_LIMIT}") from None
    _refuse_depth(data, value)
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return value


def read_json_object(data: bytes) -> dict[str, object]:
    """The object that ``data`` holds. See :func:`read_json`."""
    value = read_json(data)
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("names a member twice")
    return found


def _constant(_name: str) -> NoReturn:
    raise ValueError("holds NaN or an infinity")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("holds a number that is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > 20:
        raise ValueError("holds a number that is out of range")
    return int(text)


def _refuse_depth(data: bytes, value: object) -> None:
    if data.count(b"[") + data.count(b"{") <= DEPTH_LIMIT:
        return
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"is nested deeper than {DEPTH_LIMIT}")


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_int)
