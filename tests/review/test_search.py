"""The search language: both of its readers, SQL and the one for single records, find the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.review.logs import Logs
from authz.review.search import Search, SearchError

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
        ("'open", "opens a quote and does not close it"),
    ],
)
def test_what_cannot_be_understood_is_told(words: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Search.parse(words)


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_no_text_crashes_a_search(text: str) -> None:
    try:
        search = Search.parse(text)
    except (SearchError, OverflowError):
        return
    search.sql()
    search.matches({"sub": text, "namespaces": [text, None], "seq": 1, "time": ""})


@pytest.mark.parametrize("value", ["'; DROP TABLE lines; --", "\\", "%", "\x00", "ns:*", "{}", "?" * 50])
def test_what_a_search_says_is_data(incident: Path, value: str) -> None:
    with Logs([incident / "audit"]) as logs:
        quoted = "'" + value.replace("'", "'\"'\"'") + "'"
        logs.find(Search.parse(f"sub:x method:{quoted}"))
        assert logs.find(Search.parse("seq:1"))
