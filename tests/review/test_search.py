"""The search language: both of its readers, SQL and the one for single records, find the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.review.logs import Logs
from authz.review.search import _FIELDS, Search, SearchError

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
SEARCHES = [
    ("", 256),
    ("decision:deny", 66),
    ("decision:no_opinion", 54),
    ("decision:allow,deny", 222),
    ("-decision:allow event:decision", 66),
    ("sub:staff:otto method:*Purge*", 3),
    ("sub:user:staff:otto method:*Purge* decision:allow", 1),
    ("ns:glob* sub:staff:walt", 43),
    ("ns:@cluster", 0),
    ("reason:token_expired ip:10.9.9.9", 12),
    ("agent:grpc-go*", 40),
    ("since:2026-11-20T14:00:00Z until:2026-11-20T14:10:00Z event:decision", 1),
    ("since:1h event:decision", 65),
    ("seq:1,2", 2),
    ("seq:<=3", 3),
    ("us:>5 key:rsa-2", 40),
    ("role:reader@acme decision:deny", 12),
    ("PurgeNamespace", 3),
    ("purgenamespace", 0),
    ("event:policy.loaded", 3),
    ("code:AZ3002 -policy:f04*", 2),
    ("rule:'p, role:reader, *, *, admin, allow'", 1),
    ("method:[a-z]*", 0),
]


@pytest.mark.parametrize(("words", "count"), SEARCHES)
def test_a_search_finds_the_same_in_both_readers(incident: Path, words: str, count: int) -> None:
    search = Search.parse(words, NOW)
    with Logs([incident / "audit"]) as logs:
        rows = logs.find(search, 10_000)
    lines = [json.loads(line) for line in (incident / "audit" / "audit.jsonl").read_bytes().splitlines()]
    found = [line["seq"] for line in lines if search.matches(line)]
    assert sorted(row["seq"] for row in rows) == found
    if words:
        assert len(found) == count


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("subject:x", "`subject:` is no field to search; did you mean"),
        ("sub:", "`sub:` has no value"),
        ("since:yesterday", "`since:yesterday` is no time; write `since:24h`"),
        ("us:many", "`us:many` compares no number"),
        ("ns:,", "`ns:,` has no value; write `ns:<value>`"),
        ("-rule:", "`rule:` has no value"),
        ("since:999999w", "`since:999999w` is not in the years 1 to 9999; write `since:24h`"),
        ("until:0001-01-01T00:00:00+14:00", "is not in the years 1 to 9999"),
        ("since:9999-12-31T23:00:00-14:00", "is not in the years 1 to 9999"),
        ("let:maybe", "`let:maybe` says neither; write `let:in` or `let:out`"),
        ("enforced:true,no", "says neither; write `enforced:true` or `enforced:false`"),
        ("sub:\udcff", r"the search 'sub:\\udcff' is no text"),
        ("'open", "opens a quote and does not close it"),
    ],
)
def test_what_cannot_be_understood_is_told(words: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Search.parse(words)


ODD = [
    "",
    "a",
    "*",
    "?",
    "é",
    "😀",
    "[",
    "]",
    "[a]",
    "[!a]",
    "\\",
    "\\\\",
    "^",
    "$",
    ".",
    "-",
    "'",
    '"',
    ",",
    ":",
    " ",
    "%",
    "A",
    "user:",
]
PIECES = st.lists(st.sampled_from(ODD), max_size=4).map("".join)
VALUES = st.sampled_from(
    ["deny", "@cluster", "in", "out", "true", "false", ">0", "<=2", "1", "24h", "999999w", "0999-01-01", "2026-11-20"]
)
LINES: list[dict[str, Any]] = [
    {"event": "decision", "id": "0", "decision": "allow", "sub": "user:a\\a", "namespace": "é",
     "namespaces": ["é", None]},
    {"event": "decision", "id": "1", "decision": "deny", "sub": "user:[a]*", "namespace": None, "namespaces": [None],
     "enforced": False, "roles": ["a@é", "a?"], "rule": "p, a, [a]"},
    {"event": "decision", "id": "2", "decision": "no_opinion", "sub": "user:😀", "namespaces": [], "method": "a\\[é",
     "shadow_decision": "deny", "reason": "^a.$", "seq": 1, "eval_us": 2, "time": "2026-11-20T14:00:00.000000Z"},
    {"event": "decision", "id": "3", "decision": None, "sub": None, "namespaces": None, "method": "é?a 'a'", "seq": 2,
     "enforced": True, "roles": [], "eval_us": 0, "time": "0999-01-01T00:00:00.000000Z"},
    {"event": "a", "id": "4", "reason": "%a", "seq": 0, "time": "2026-11-20T14:59:59.999999Z", "sub": "user:\\"},
    {"event": "b\\", "id": "5", "method": "a", "decision": "deny", "namespaces": ["a", "\\", "[!a]"], "sub": "A"},
]  # fmt: skip


@pytest.fixture(scope="module")
def odd_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    path = tmp_path_factory.mktemp("odd") / "audit.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    with Logs([path], load=True) as logs:
        assert logs.left_out() == 0
        yield logs


@st.composite
def searches(draw: st.DrawFn) -> str:
    """Words that may mean something, quoted or not."""
    words = []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["", *_FIELDS]))
        word = draw(st.sampled_from(["", "-"])) + (f"{name}:" if name else "") + draw(PIECES | VALUES)
        words.append(shlex.quote(word) if draw(st.booleans()) else word)
    return " ".join(words)


@settings(max_examples=400, deadline=None)
@given(searches() | st.text(st.characters(), max_size=40))
def test_whatever_is_asked_both_readers_agree_or_say_what_to_write(odd_log: Logs, words: str) -> None:
    try:
        search = Search.parse(words, NOW)
    except SearchError:
        return
    found = sorted(row["id"] for row in odd_log.find(search))
    assert found == [line["id"] for line in LINES if search.matches(line)]
    assert Search.parse(" ".join(map(str, search.terms)), NOW) == search


@pytest.mark.parametrize("words", ["sub:CORP\\rita", "'sub:CORP\\rita'", "sub:CORP\\*", "CORP\\rita", "sub:CORP?rit?"])
def test_a_backslash_is_one(tmp_path: Path, words: str) -> None:
    fields = {"event": "decision", "sub": "user:CORP\\rita"}
    (tmp_path / "audit.jsonl").write_text(json.dumps(fields) + "\n")
    with Logs([tmp_path]) as logs:
        assert len(logs.find(Search.parse(words))) == 1
    assert Search.parse(words).matches(fields)


@pytest.mark.parametrize("value", ["'; DROP TABLE lines; --", "\\", "%", "\x00", "ns:*", "{}", "?" * 50])
def test_what_a_search_says_is_data(incident: Path, value: str) -> None:
    with Logs([incident / "audit"]) as logs:
        quoted = "'" + value.replace("'", "'\"'\"'") + "'"
        logs.find(Search.parse(f"sub:x method:{quoted}"))
        assert logs.find(Search.parse("seq:1"))
