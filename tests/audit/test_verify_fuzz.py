"""Whatever is in a line: a verification ends with an answer, or says in a sentence what cannot be read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.audit.chain import HEAD, Link
from authz.audit.checkpoint import SigningKey, checkpoint
from authz.audit.event import Event, EventName
from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.cli import Exit, main
from authz.cli.audit import NOTICES
from authz.errors import AuditError
from authz.review.compact import compact
from authz.review.report import verification
from tests.audit.logs import record

EXAMPLES = 400
Spoil = tuple[int, int, str, bytes]
"""Which line, which of its fields, how, and the value."""
MORE: list[tuple[EventName, dict[str, object]]] = [
    (EventName.LOG_RECOVERED, {"cause": "the last line is torn", "torn_bytes": 7, "moved_to": "audit.torn-1"}),
    (EventName.LOG_REPLACED, {"cause": "the file was cut short", "last": 3}),
    (EventName.LOG_RETIRED, {"segment": "audit-000000000001.jsonl", "last": 3, "hash": "ab" * 32}),
    (EventName.LOSS, {"from": 3, "to": 4, "count": 2, "cause": "no space", "since": 7, "let_through": True}),
    (EventName.UNSYNCED, {"after": 3, "cause": "no space"}),
    (EventName.BREAK_GLASS, {"state": "in force", "setting": "unsafe_allow_unrecorded"}),
]
"""What an honest writer seldom has to say."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SigningKey, list[bytes]]:
    """A folder, a key, and the bodies of a log's lines: each kind that a verifier looks at."""
    folder = tmp_path_factory.mktemp("fuzz")
    key = SigningKey.generate(folder / "audit.key")
    with AuditLog(folder / "audit.jsonl", LogSettings(key=key)) as log:
        log.write(record())
        log.write(record(allow=False))
        for name, details in MORE:
            log.write(Event(name, details))
    lines = (folder / "audit.jsonl").read_bytes().splitlines()
    return folder, key, [b"{" + line[HEAD.match(line).end() :] for line in lines]  # type: ignore[union-attr]


def deep(depth: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])


PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates().map(str), st.datetimes().map(str)
)
VALUES: st.SearchStrategy[bytes] = st.one_of(
    st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        lambda value: json.dumps(value).encode("utf-8", "surrogatepass")
    ),
    st.one_of(deep(10), deep(900), deep(1020), deep(20_000)),
    st.sampled_from(
        [b"1e999", b"-0", b"9" * 400, b"18446744073709551615", b"-9223372036854775809", b"1.7e308", b"true"]
    ),
    st.sampled_from([b"", b"\xff", b'"\xff\xfe"', b'"\\ud800"', b'"' + b"x" * 100_000 + b'"', b'"\\u0000"', b"NaN"]),
    st.sampled_from([b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"', b'"2026-01-01"', b'"checkpoint"']),
    st.sampled_from([b'"%s"' % name.encode() for name in EventName]),
    st.binary(max_size=20).filter(lambda data: b"\n" not in data),
)
WAYS = st.sampled_from(["replaced", "twice", "left out"])
SPOILS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), WAYS, VALUES), min_size=1, max_size=3)


def spoilt(bodies: list[bytes], spoils: list[Spoil]) -> list[bytes]:
    """The bodies with other values in some fields, or some of them a second time, or not at all."""
    made = [[(name, orjson.dumps(value)) for name, value in orjson.loads(body).items()] for body in bodies]
    for at, field, way, value in spoils:
        members = made[at % len(made)]
        field %= len(members)
        name, before = members[field]
        others = {"replaced": [(name, value)], "twice": [(name, before), (name, value)], "left out": []}
        members[field : field + 1] = others[way]
    return [b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in body) + b"}" for body in made]


def chained(bodies: list[bytes]) -> list[bytes]:
    """The lines of a chain with these bodies: numbers and hashes are right, whatever else is not."""
    link, lines = Link("5f2d1c3b4a59"), []
    for body in bodies:
        line = link.seal(body, link.seq + 1)
        link = link.after(line, link.seq + 1)
        lines.append(line)
    return lines


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(spoils=SPOILS, keyed=st.booleans(), anchored=st.booleans())
def test_no_line_ends_a_verification_without_an_answer(
    kit: tuple[Path, SigningKey, list[bytes]], spoils: list[Spoil], keyed: bool, anchored: bool
) -> None:
    folder, key, bodies = kit
    path, anchors = folder / "spoilt" / "audit.jsonl", folder / "anchors"
    path.parent.mkdir(exist_ok=True)
    lines = chained(spoilt(bodies, spoils))
    path.write_bytes(b"".join(lines))
    anchors.write_bytes(b"".join(lines) + checkpoint_of(key))
    report = verify([path], [key.public] if keyed else [], [anchors] if anchored else [])
    assert len(report.chains) == 1
    assert all(len(str(finding)) < 2000 and str(finding).isprintable() for finding in report.findings)
    assert verification(report)
    again = verify([path], [key.public] if keyed else [], [anchors] if anchored else [], state=report.state)
    assert again.sound == report.sound
    assert json.dumps(report.state)


def checkpoint_of(key: SigningKey) -> bytes:
    link = Link("5f2d1c3b4a59")
    return link.seal(checkpoint(link, key, {}), 1)


@settings(max_examples=EXAMPLES // 8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(spoils=SPOILS)
def test_the_command_has_an_answer_too(
    kit: tuple[Path, SigningKey, list[bytes]],
    spoils: list[Spoil],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _, bodies = kit
    path = folder / "spoilt" / "audit.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(chained(spoilt(bodies, spoils))))
    for words in ([], ["--json"], ["--key", str(folder / "audit.pub")]):
        assert main(["audit", "verify", str(path), *words]) in (Exit.FINDING, NOTICES)
    capsys.readouterr()


@pytest.mark.parametrize(
    "columns", ["1 AS line", "'{}' AS line", "NULL::BLOB AS line", "[1] AS line", "1 AS more", "'x'::BLOB AS line"]
)
def test_a_parquet_file_that_is_no_log_is_told(tmp_path: Path, columns: str) -> None:
    duckdb.execute(f"COPY (SELECT {columns}) TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    if "BLOB" in columns and "NULL" not in columns:
        assert [str(finding.kind) for finding in verify([tmp_path]).damage] == ["unreadable"]
        return
    with pytest.raises(AuditError, match=r"x\.parquet (cannot be read: |is no compacted log: )"):
        verify([tmp_path])


def test_a_parquet_file_that_was_changed_has_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "audit-000000000001.jsonl"
    with AuditLog(path) as log:
        for _ in range(5):
            log.write(record())
    compact([path], delete=True)
    packed, rng = path.with_suffix(".parquet"), random.Random(1)
    whole = packed.read_bytes()
    found = 0
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.sample(range(len(data)), rng.choice([1, 8])):
            data[at] ^= 1 << rng.randrange(8)
        packed.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            found += not verify([packed]).sound
        except AuditError:
            found += 1
    assert found
