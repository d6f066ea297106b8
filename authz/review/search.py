"""Search: the words in which an auditor asks: ``sub:corp:alice ns:billing* decision:deny method:*Cancel* since:24h``.

A word is ``<field>:<value>``; all of them must hold. ``*`` and ``?`` stand for any characters, a comma separates values
of which one must hold, ``-`` in front turns a word round, quotes keep blanks together. A word without a field is looked
for in the subject, the method, the namespaces and the reason. ``decision:deny`` is whatever was not allowed, ``let:in``
whoever was let in all the same.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from authz.document import did_you_mean
from authz.errors import AuthzError
from authz.policy.revision import NOWHERE
from authz.review.outcome import LET_IN, was_let_in

_FIELDS: Final = {
    "sub": "sub", "ns": "namespaces", "decision": "decision", "method": "method", "service": "service",
    "reason": "reason", "rule": "rule", "iss": "iss", "authn": "authn", "key": "key_id", "cert": "cert_fp",
    "role": "roles", "id": "id", "event": "event", "code": "code", "policy": "policy_version", "ip": "peer_ip",
    "agent": "user_agent", "trace": "trace_id", "status": "grpc_code", "writer": "writer", "seq": "seq",
    "us": "eval_us", "since": "time", "until": "time", "let": "let_in", "enforced": "enforced",
    "shadow": "shadow_decision",
}  # fmt: skip
_LISTS: Final = ("namespaces", "roles")
_NUMBERS: Final = ("seq", "eval_us")
_EFFECTS: Final = ("decision", "shadow_decision")
_QUOTED: Final = frozenset(" \t\r\n'\"")
_FLAGS: Final = {"let_in": ("in", "out"), "enforced": ("true", "false")}
_ANYWHERE: Final = ("sub", "method", "namespaces", "reason")
_AGO: Final = re.compile(r"([0-9]{1,6})(s|m|h|d|w)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NUMBER: Final = re.compile(r"(>=|<=|>|<|)([0-9]{1,18})")


class SearchError(AuthzError):
    """A search cannot be understood: the word, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a search.

    Attributes:
        name: the field as it was written; empty: anywhere.
        values: of which one must hold.
        negative: whether none of them may hold.
    """

    name: str
    values: tuple[str, ...]
    negative: bool = False

    def __str__(self) -> str:
        """The word, as it can be written."""
        value = ",".join(self.values)
        word = f"{self.name}:{value}" if self.name else value[1:-1]
        word = f"-{word}" if self.negative else word
        return word if word and not _QUOTED & set(word) else shlex.quote(word)

    @property
    def column(self) -> str:
        """The field of the record; empty: anywhere."""
        return _FIELDS[self.name] if self.name else ""


@dataclass(frozen=True, slots=True)
class Search:
    """A search, as SQL for DuckDB and as a predicate for single records; both give the same answers.

    Attributes:
        terms: all of which must hold.
    """

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str, now: datetime | None = None) -> Search:
        """Read a search.

        Args:
            text: its words.
            now: what ``since:24h`` counts from; by default the time by the clock.

        Raises:
            SearchError: a word cannot be understood.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise SearchError(f"the search {text!a} is no text; write it in UTF-8") from None
        reader = shlex.shlex(text, posix=True)
        # a backslash is one: subjects of Windows hold them
        reader.whitespace_split, reader.commenters, reader.escape = True, "", ""
        try:
            words = list(reader)
        except ValueError:
            raise SearchError(f"the search `{text}` opens a quote and does not close it") from None
        return cls(tuple(_term(word, now or datetime.now(UTC)) for word in words))

    def sql(self) -> tuple[str, list[Any]]:
        """A condition over the columns of a record, and its parameters."""
        parts, parameters = ["true"], []
        for term in self.terms:
            part, values = _sql(term)
            parts.append(f"NOT coalesce(({part}), false)" if term.negative else f"({part})")
            parameters += values
        return " AND ".join(parts), parameters

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record with these fields is found."""
        return all(_matches(term, fields) != term.negative for term in self.terms)


def _term(word: str, now: datetime) -> Term:
    negative = word.startswith("-") and len(word) > 1
    word = word[negative:]
    name, colon, value = word.partition(":")
    if not colon or not re.fullmatch(r"[a-z]+", name):
        return Term("", (f"*{word}*",), negative)
    if name not in _FIELDS:
        raise SearchError(f"`{name}:` is no field to search; {did_you_mean(name, _FIELDS)}")
    # a rule has commas of its own
    values = (value,) if value and name == "rule" else tuple(each for each in value.split(",") if each)
    if not values:
        raise SearchError(f"`{name}:{value}` has no value; write `{name}:<value>`")
    if name in ("since", "until"):
        return Term(name, (_moment(name, value, now),), negative)
    if _FIELDS[name] in _NUMBERS and not all(_NUMBER.fullmatch(each) for each in values):
        raise SearchError(f"`{word}` compares no number; write `{name}:12` or `{name}:>12`")
    if (flags := _FLAGS.get(_FIELDS[name])) and not set(values) <= set(flags):
        raise SearchError(f"`{word}` says neither; write `{name}:{flags[0]}` or `{name}:{flags[1]}`")
    if name == "sub":
        values = tuple(each if each.startswith(("user:", "*")) else f"user:{each}" for each in values)
    return Term(name, values, negative)


def _moment(name: str, value: str, now: datetime) -> str:
    ago = _AGO.fullmatch(value)
    remedy = f"write `{name}:24h`, `{name}:2026-11-22` or `{name}:2026-11-22T20:54:45Z`"
    try:
        when = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(value)
        when = when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except ValueError:
        raise SearchError(f"`{name}:{value}` is no time; {remedy}") from None
    except OverflowError:
        raise SearchError(f"`{name}:{value}` is not in the years 1 to 9999; {remedy}") from None
    return when.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _like(value: str, text: str) -> tuple[str, str]:
    """The condition in SQL that ``text`` is like ``value``, and its parameter. Only ``*`` and ``?`` are patterns."""
    if "?" in value:
        # GLOB takes it for one byte, and a letter may have four
        parts = ({"*": ".*", "?": "."}.get(each) or re.escape(each) for each in value)
        return f"regexp_full_match({text}, ?, 's')", "".join(parts)
    return f"{text} GLOB ?", value.replace("\\", "\\\\").replace("[", "[[]")


def _sql(term: Term) -> tuple[str, list[Any]]:
    column = term.column
    if term.name in ("since", "until"):
        return f"time {'>=' if term.name == 'since' else '<'} CAST(? AS TIMESTAMP)", [term.values[0].rstrip("Z")]
    parts: list[str] = []
    parameters: list[Any] = []
    for value in term.values:
        for each in (column,) if column else _ANYWHERE:
            if each in _NUMBERS:
                sign, number = _NUMBER.fullmatch(value).groups()  # type: ignore[union-attr]
                parts.append(f"{each} {sign or '='} ?")
                parameters.append(int(number))
            elif each in _FLAGS:
                holds = LET_IN if each == "let_in" else "coalesce(enforced, true)"
                parts.append(f"(event = 'decision' AND {holds} = ?)")
                parameters.append(value == _FLAGS[each][0])
            elif each in _EFFECTS and value == "deny":
                parts.append(f"{each} IN ('deny', 'no_opinion')")
            elif each == "namespaces" and value == NOWHERE:
                parts.append("(event = 'decision' AND namespace IS NULL)")
            elif each in _LISTS:
                like, parameter = _like(value, "x")
                parts.append(f"len(list_filter({each}, lambda x: {like})) > 0")
                parameters.append(parameter)
            else:
                like, parameter = _like(value, each)
                parts.append(like)
                parameters.append(parameter)
    return " OR ".join(parts), parameters


def _matches(term: Term, fields: Mapping[str, Any]) -> bool:
    if term.name in ("since", "until"):
        time = fields.get("time")
        return isinstance(time, str) and (time >= term.values[0]) is (term.name == "since")
    return any(
        _one(column, value, fields)
        for value in term.values
        for column in ((term.column,) if term.column else _ANYWHERE)
    )


def _one(column: str, value: str, fields: Mapping[str, Any]) -> bool:
    found = fields.get(column)
    if column in _NUMBERS:
        sign, number = _NUMBER.fullmatch(value).groups()  # type: ignore[union-attr]
        if not isinstance(found, int):
            return False
        limit = int(number)
        return {"": found == limit, ">": found > limit, "<": found < limit, ">=": found >= limit, "<=": found <= limit}[
            sign
        ]
    if column in _FLAGS:
        holds = was_let_in(fields) if column == "let_in" else found is not False
        return fields.get("event") == "decision" and holds == (value == _FLAGS[column][0])
    if column in _EFFECTS and value == "deny":
        return found in ("deny", "no_opinion")
    if column == "namespaces" and value == NOWHERE:
        return fields.get("event") == "decision" and fields.get("namespace") is None
    items = found if isinstance(found, list) else [found]
    return any(isinstance(item, str) and fnmatchcase(item, value.replace("[", "[[]")) for item in items)
