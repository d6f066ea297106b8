"""Going on where a verification ended: what it knew is not read again, and nothing of it may be missing since."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.audit.chain import HEAD, Link
from authz.audit.checkpoint import SigningKey, checkpoint
from authz.audit.finding import Kind
from authz.audit.position import Position
from authz.audit.settings import LogSettings
from authz.audit.verify import VerifyReport, verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from authz.review.compact import compact
from tests.audit.logs import record

SETTINGS = LogSettings(sync_seconds=60, reserve_bytes=0, rotate_bytes=6000)


def kinds(report: VerifyReport) -> set[Kind]:
    return {finding.kind for finding in report.damage}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    """A log of several files, still open, that ends in the middle of one."""
    (tmp_path / "log").mkdir()
    with AuditLog(tmp_path / "log" / "audit.jsonl", SETTINGS) as log:
        write(log, 30)
        yield log


def write(log: AuditLog, count: int) -> None:
    for _ in range(count):
        log.write(record())
        log.tend()


def segments(log: AuditLog) -> list[Path]:
    """Its closed files, oldest first."""
    return sorted(log.path.parent.glob("audit-*.jsonl"))


def test_what_was_rotated_and_compacted_since_is_not_read_again(log: AuditLog) -> None:
    folder = log.path.parent
    first = verify([folder])
    write(log, 30)
    compact([folder], delete=True)
    assert not segments(log)
    second = verify([folder], state=first.state)
    assert second.sound, second.damage
    assert second.chains[0].lines == second.chains[0].last - first.chains[0].last
    third = verify([folder], state=second.state)
    assert (third.sound, third.chains[0].lines) == (True, 0)


def test_a_state_may_end_in_a_compacted_file(log: AuditLog) -> None:
    compact([log.path.parent], delete=True)
    packed = sorted(log.path.parent.glob("*.parquet"))
    first = verify(packed)
    second = verify([log.path.parent], state=first.state)
    assert second.sound, second.damage
    assert second.chains[0].lines == len(log.path.read_bytes().splitlines())
    # the file has another content now
    packed[0].replace(packed[-1])
    assert not verify([log.path.parent], state=first.state).sound


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_lost_lines_since_is_found(log: AuditLog, packed: bool) -> None:
    path = segments(log)[-1]
    first = verify(segments(log))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    if packed:
        compact([path], delete=True)
    report = verify([path.parent], state=first.state)
    assert Kind.MISSING in kinds(report)
    assert "is shorter than it was when it was verified last" in str(report.damage[0])


def test_a_file_that_is_gone_since_is_found(log: AuditLog) -> None:
    first = verify([log.path.parent])
    assert len(segments(log)) > 3
    for path, kind in ((segments(log)[1], Kind.MISSING), (segments(log)[0], Kind.BEGINNING)):
        path.unlink()
        assert kind in kinds(verify([log.path.parent], state=first.state))
    for path in segments(log):
        path.unlink()
    assert kinds(verify([log.path.parent], state=first.state)) == {Kind.BEGINNING}


def test_a_file_that_came_in_between_since_is_found(log: AuditLog) -> None:
    first = verify([log.path.parent])
    lines = segments(log)[1].read_bytes().splitlines(keepends=True)
    (log.path.parent / "more.jsonl").write_bytes(b"".join(lines[2:]))
    assert kinds(verify([log.path.parent], state=first.state)) == {Kind.REPEATED}


def test_what_was_retired_since_is_not_missed(log: AuditLog) -> None:
    first = verify([log.path.parent])
    oldest = segments(log)[0]
    log.close()
    with AuditLog(log.path, replace(SETTINGS, keep_seconds=0)) as later:
        later.tend()
    assert not oldest.exists()
    second = verify([log.path.parent], state=first.state)
    assert second.sound, second.damage
    third = verify([log.path.parent], state=second.state)
    assert (third.sound, third.chains[0].lines) == (True, 0), third.damage


def test_more_than_was_known_is_asked_of_the_whole_log(tmp_path: Path) -> None:
    key = SigningKey.generate(tmp_path / "audit.key")
    path = tmp_path / "audit.jsonl"
    AuditLog(path, LogSettings(key=SigningKey.generate(tmp_path / "other.key"))).close()
    first = verify([path])
    again = verify([path], state=first.state)
    assert [finding.kind for finding in first.findings] == [finding.kind for finding in again.findings]
    assert kinds(verify([path], [key.public], state=first.state)) == {Kind.CHECKPOINT}


def forged(lines: list[bytes], key: SigningKey) -> list[bytes]:
    """The log as who has its key makes it anew."""
    link, made = Link(HEAD.match(lines[0])[1].decode()), []  # type: ignore[index]
    for line in lines:
        body = b"{" + line[HEAD.match(line).end() : -1].replace(b'"allow"', b'"deny"')  # type: ignore[union-attr]
        if b'"event":"checkpoint"' in line:
            body = checkpoint(link, key, {"final": True})
        line = link.seal(body, link.seq + 1)
        made.append(line)
        link = link.after(line, link.seq + 1)
    return made


def test_an_anchor_that_came_after_the_verification_is_looked_at(tmp_path: Path) -> None:
    key, path, anchors = SigningKey.generate(tmp_path / "audit.key"), tmp_path / "audit.jsonl", tmp_path / "anchors"
    kept: list[bytes] = []
    with AuditLog(path, LogSettings(key=key, anchors=(kept.append,), sync_seconds=60)) as log:
        log.write(record())
    honest = path.read_bytes()
    path.write_bytes(b"".join(forged(honest.splitlines(keepends=True), key)))
    # anchors that were not named at first, and one that was still under way
    anchors.write_bytes(b"".join(kept))
    without = verify([path], [key.public])
    assert without.sound
    assert kinds(verify([path], [key.public], [anchors], state=without.state)) == {Kind.ANCHOR}
    path.write_bytes(honest)
    anchors.write_bytes(kept[0])
    some = verify([path], [key.public], [anchors])
    lines = honest.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *forged(lines, key)[2:]]))
    anchors.write_bytes(b"".join(kept))
    report = verify([path], [key.public], [anchors], state=some.state)
    assert Kind.ANCHOR in kinds(report)
    path.write_bytes(honest)
    whole = verify([path], [key.public], [anchors], state=some.state)
    assert whole.sound
    again = verify([path], [key.public], [anchors], state=whole.state)
    assert (again.sound, again.chains[0].lines, again.chains[0].anchored) == (True, 0, len(lines))


def test_a_line_that_is_being_written_is_read_when_it_is(log: AuditLog) -> None:
    log.close()
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-10])
    first = verify([log.path.parent])
    assert first.sound
    assert "the last line is torn" in " ".join(map(str, first.findings))
    log.path.write_bytes(whole)
    second = verify([log.path.parent], state=first.state)
    assert (second.sound, second.chains[0].lines) == (True, 1)


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


SPOILT: list[Callable[[dict[str, Any]], Any]] = [
    lambda _: 5,
    lambda _: None,
    lambda _: [],
    lambda state: {**state, "more": 1},
    lambda state: {**state, "seq": "1"},
    lambda state: {**state, "offset": -1},
    lambda state: {**state, "line": 2**63},
    lambda state: {**state, "segments": []},
    lambda state: {**state, "segments": ["1"]},
    lambda state: {**state, "closed": 1},
    *[_without(name) for name in Position.__slots__],
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_no_verification_left_is_refused(log: AuditLog, spoil: Callable[[dict[str, Any]], Any]) -> None:
    state = verify([log.path.parent]).state
    with pytest.raises(AuditError, match=f"what it says of the chain {log.writer} was not written by a verification"):
        verify([log.path.parent], state={log.writer: spoil(copy.deepcopy(state[log.writer]))})
