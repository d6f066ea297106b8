"""Tampering: whatever is done to a log before its newest anchored checkpoint is found, and its place named."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest

from authz.audit.appender import Appender
from authz.audit.chain import HEAD, Link
from authz.audit.checkpoint import SigningKey, VerifyingKey, checkpoint
from authz.audit.finding import Kind
from authz.audit.settings import LogSettings
from authz.audit.verify import VerifyReport, verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import record

MUTATIONS = 1000
V1 = Path(__file__).parent / "v1"
"""A log whose checkpoints are signed as they were at first."""
CADENCE = 20
Lines = list[bytes]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, SigningKey, Path]:
    """A closed log of 100 records with its key and the anchor file that has its checkpoints."""
    folder = tmp_path_factory.mktemp("sealed")
    key = SigningKey.generate(folder / "audit.key")
    kept: list[bytes] = []
    with AuditLog(
        folder / "audit.jsonl", LogSettings(key=key, checkpoint_records=CADENCE, anchors=(kept.append,))
    ) as log:
        for _ in range(100):
            log.write(record())
    (folder / "anchors").write_bytes(b"".join(kept))
    return (folder / "audit.jsonl").read_bytes().splitlines(keepends=True), key, folder / "anchors"


def chained(lines: Lines, start: int = 0, key: SigningKey | None = None) -> Lines:
    """The lines with numbers and hashes made again from ``start`` on, as a forger would; signed if there is a key."""
    made = lines[:start]
    for line in lines[start:]:
        before = Link.of(made[-1]) if made else Link(HEAD.match(line)[1].decode())  # type: ignore[index]
        assert before is not None
        body = line[HEAD.match(line).end() :].rstrip(b"\n")  # type: ignore[union-attr]
        if key is not None and b'"event":"checkpoint"' in body:
            sealed = checkpoint(before, key, {"lines": 1})
            body = sealed[1:]
        made.append(before.seal(b"{" + body, before.seq + 1))
    return made


def flip(lines: Lines, rng: random.Random) -> Lines:
    at = rng.randrange(len(lines))
    line = bytearray(lines[at])
    line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
    return [*lines[:at], bytes(line), *lines[at + 1 :]]


def delete(lines: Lines, rng: random.Random) -> Lines:
    at = rng.randrange(len(lines))
    return lines[:at] + lines[at + 1 + rng.randrange(3) :]


def swap(lines: Lines, rng: random.Random) -> Lines:
    one, two = rng.sample(range(len(lines)), 2)
    changed = list(lines)
    changed[one], changed[two] = changed[two], changed[one]
    return changed


def repeat(lines: Lines, rng: random.Random) -> Lines:
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    return [*lines[:to], lines[at], *lines[to:]]


def cut(lines: Lines, rng: random.Random) -> Lines:
    data = b"".join(lines)
    return data[: rng.randrange(1, len(data))].splitlines(keepends=True)


def rewrite(lines: Lines, rng: random.Random) -> Lines:
    """Another answer in one record, and the whole chain after it computed again; the checkpoints stay."""
    at = rng.choice([i for i, line in enumerate(lines) if b'"event":"decision"' in line])
    changed = [*lines[:at], lines[at].replace(b'"decision":"allow"', b'"decision":"deny"'), *lines[at + 1 :]]
    return chained(changed, at)


def strip(lines: Lines, rng: random.Random) -> Lines:
    """As rewrite, without the checkpoints that would show it."""
    at = rng.randrange(1, len(lines) // 2)
    return chained([*lines[:at], *(line for line in lines[at:] if b'"event":"checkpoint"' not in line)], at)


def forge(lines: Lines, rng: random.Random) -> Lines:
    """As rewrite, signed with the forger's own key."""
    return chained(rewrite(lines, rng), 1, FORGER)


def insert(lines: Lines, rng: random.Random) -> Lines:
    at = rng.randrange(len(lines))
    return [
        *lines[:at],
        rng.choice([b"\n", b"{}\n", b"\xff\x00\n", b"[" * 5000 + b"\n", lines[at][:50] + b"\n"]),
        *lines[at:],
    ]


FORGER = SigningKey.__new__(SigningKey)
WAYS: list[Callable[[Lines, random.Random], Lines]] = [flip, delete, swap, repeat, cut, rewrite, strip, forge, insert]


@pytest.fixture(scope="module", autouse=True)
def forger(tmp_path_factory: pytest.TempPathFactory) -> None:
    FORGER.__dict__.update(SigningKey.generate(tmp_path_factory.mktemp("forger") / "key").__dict__)


def judge(folder: Path, lines: Lines, key: SigningKey, anchors: Path | None) -> VerifyReport:
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(lines))
    return verify([path], [key.public], [anchors] if anchors else [], cadence=CADENCE)


def test_what_was_not_touched_has_no_finding(sealed: tuple[Lines, SigningKey, Path], tmp_path: Path) -> None:
    lines, key, anchors = sealed
    report = judge(tmp_path, lines, key, anchors)
    assert not report.findings
    assert report.chains[0].sealed == report.chains[0].anchored == len(lines)


@pytest.mark.parametrize("way", WAYS)
def test_every_mutation_is_found(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path, way: Callable[[Lines, random.Random], Lines]
) -> None:
    lines, key, anchors = sealed
    rng = random.Random(way.__name__)
    for number in range(MUTATIONS // len(WAYS) + 1):
        changed = way(lines, rng)
        if changed == lines:
            continue
        report = judge(tmp_path, changed, key, anchors)
        assert report.damage, f"{way.__name__} {number}"
        assert all(str(finding) for finding in report.damage)


def test_a_chain_that_its_owner_made_anew_passes_only_without_the_anchors(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, anchors = sealed
    forged = chained(rewrite(lines, random.Random(1)), 1, key)
    assert Kind.ANCHOR in {finding.kind for finding in judge(tmp_path, forged, key, anchors).damage}
    assert not judge(tmp_path, forged, key, None).damage


def test_checkpoints_that_are_kept_after_the_genuine_ones_replace_none_of_them(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, anchors = sealed
    forged = chained(rewrite(lines, random.Random(1)), 1, key)
    others = b"".join(line for line in forged if b'"event":"checkpoint"' in line)
    (tmp_path / "anchors").write_bytes(anchors.read_bytes() + others)
    report = judge(tmp_path, forged, key, tmp_path / "anchors")
    told = [finding.message for finding in report.damage if finding.kind is Kind.ANCHOR]
    assert any("not the one that was kept elsewhere" in message for message in told)
    assert any("two different checkpoints were kept of line" in message for message in told)
    (tmp_path / "after").write_bytes(others)
    assert not verify([tmp_path / "audit.jsonl"], [key.public], [anchors, tmp_path / "after"], cadence=CADENCE).sound
    # the genuine log matches the first of them, and somebody has to know that there are others
    report = judge(tmp_path, lines, key, tmp_path / "anchors")
    assert {finding.kind for finding in report.damage} == {Kind.ANCHOR}
    assert report.chains[0].anchored == len(lines)


def test_what_is_kept_twice_or_is_no_checkpoint_contradicts_nothing(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, anchors = sealed
    (tmp_path / "copy").write_bytes(b"".join(lines))
    report = verify([anchors.with_name("audit.jsonl")], [key.public], [anchors, tmp_path / "copy"], cadence=CADENCE)
    assert not report.findings


OTHERWISE = [
    (b'"lines":', b'"final":true,"lines":'),
    (b'"lines":', b'"omitted":7,"lines":'),
    (b'"lines":20', b'"lines":2'),
    (b'"time":"2', b'"time":"3'),
    (b'"code":', b'"final":true,"code":'),
    (b'"}\n', b'","final":true}\n'),
    (b'"sig":', b'"final":true,"sig":'),
]


@pytest.mark.parametrize(("one", "other"), OTHERWISE)
def test_what_a_checkpoint_says_itself_is_signed(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path, one: bytes, other: bytes
) -> None:
    lines, key, _ = sealed
    at = [number for number, line in enumerate(lines) if b'"event":"checkpoint"' in line][1]
    assert judge(tmp_path, lines[: at + 1], key, None).sound, "nobody knows that more was written"
    assert one in lines[at]
    report = judge(tmp_path, [*lines[:at], lines[at].replace(one, other)], key, None)
    assert [finding.kind for finding in report.damage] == [Kind.CHECKPOINT]
    assert not report.chains[0].closed


def test_a_log_of_before_verifies_and_is_not_proven_to_be_closed(tmp_path: Path) -> None:
    key = VerifyingKey.read(V1 / "audit.pub")
    report = verify([V1 / "audit.jsonl"], [key])
    assert (report.sound, report.chains[0].sealed, report.chains[0].closed) == (True, 7, False)
    assert [str(finding.kind) for finding in report.findings] == ["open_end"]
    assert "in a checkpoint of an older form" in report.findings[0].message
    cut = (V1 / "audit.jsonl").read_bytes().splitlines(keepends=True)[:4]
    cut[3] = cut[3].replace(b'"lines":', b'"final":true,"lines":')
    (tmp_path / "audit.jsonl").write_bytes(b"".join(cut))
    report = verify([tmp_path], [key])
    assert [finding.kind for finding in report.findings] == [Kind.OPEN_END]
    assert not report.chains[0].closed
    # a later writer goes on with the chain, and closes it
    (tmp_path / "audit.jsonl").write_bytes((V1 / "audit.jsonl").read_bytes())
    new = SigningKey.generate(tmp_path / "audit.key")
    AuditLog(tmp_path / "audit.jsonl", LogSettings(key=new)).close()
    report = verify([tmp_path], [key, new.public], seconds=float("inf"))
    assert not report.findings
    assert report.chains[0].closed


def test_anchors_in_the_folder_of_the_log_are_no_part_of_it(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, anchors = sealed
    (tmp_path / "anchors.jsonl").write_bytes(anchors.read_bytes())
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines))
    assert not verify([tmp_path], [key.public], [tmp_path / "anchors.jsonl"], cadence=CADENCE).findings
    (tmp_path / "audit.jsonl").unlink()
    report = verify([tmp_path], [key.public], [tmp_path / "anchors.jsonl"], cadence=CADENCE)
    assert [finding.kind for finding in report.damage] == [Kind.ANCHOR]


def test_a_log_that_is_gone_is_found_by_its_anchors(sealed: tuple[Lines, SigningKey, Path], tmp_path: Path) -> None:
    report = verify([tmp_path], [], [sealed[2]])
    assert [finding.kind for finding in report.damage] == [Kind.ANCHOR]


def often_killed(lines: Lines, key: SigningKey, times: int) -> Lines:
    """The log of a writer that was stopped hard so many times before it wrote the rest, as that writer signed it."""
    seal = next(line for line in lines if b'"event":"checkpoint"' in line)
    told = HEAD.match(seal)[0] + b'"event":"log.recovered","cause":"the log was not closed"}\n'  # type: ignore[index]
    return chained([lines[0], *([told] * 10 + [seal]) * (times // 10), *lines[1:]], 1, key)


@pytest.mark.parametrize("way", [flip, delete, rewrite])
def test_no_number_of_notices_hides_what_was_changed(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path, way: Callable[[Lines, random.Random], Lines]
) -> None:
    honest = often_killed(sealed[0], sealed[1], 250)
    report = judge(tmp_path, honest, sealed[1], None)
    assert report.sound
    assert (len(report.findings), report.more[Kind.RECOVERED]) == (200, 50)
    end = honest.index(next(line for line in honest if b'"event":"decision"' in line))
    changed = [*honest[:end], *way(honest[end:-30], random.Random(way.__name__)), *honest[-30:]]
    report = judge(tmp_path, changed, sealed[1], None)
    assert not report.sound
    assert report.damage
    assert report.state[report.chains[0].writer] == {}


def test_of_more_damage_than_is_kept_the_rest_is_counted(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines = [*sealed[0], *[b"{}\n"] * 300]
    report = judge(tmp_path, lines, sealed[1], None)
    assert (len(report.damage), report.more) == (200, {Kind.NO_LINE: 100})
    assert report.not_shown == "100 more: 100 no_line"


def test_the_finding_names_file_line_and_number(sealed: tuple[Lines, SigningKey, Path], tmp_path: Path) -> None:
    lines, key, _ = sealed
    changed = [*lines[:10], lines[10].replace(b'"decision":"allow"', b'"decision":"deny"'), *lines[11:]]
    finding = judge(tmp_path, changed, key, None).damage[0]
    assert (finding.kind, finding.line, finding.seq) == (Kind.CHANGED, 12, 12)
    assert "line 11 is not what it was when line 12 was written" in str(finding)


def test_verification_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    settings = LogSettings(checkpoint_records=CADENCE, rotate_bytes=10**9)
    with AuditLog(path, settings) as log:
        for _ in range(50):
            log.write(record())
    first = verify([path], cadence=CADENCE)
    with AuditLog(path, settings) as log:
        for _ in range(50):
            log.write(record())
    second = verify([path], cadence=CADENCE, state=first.state)
    assert second.sound, second.damage
    assert second.chains[0].lines < 70
    assert second.chains[0].last == verify([path], cadence=CADENCE).chains[0].last
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-5], *lines[-4:]]))
    assert not verify([path], cadence=CADENCE, state=first.state).sound
    path.write_bytes(b"".join(lines[:5]))
    assert not verify([path], cadence=CADENCE, state=first.state).sound


def test_where_there_is_no_log_nothing_is_proven(sealed: tuple[Lines, SigningKey, Path], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "deeper"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(
            AuditError, match=r"there is no log in .*; a log is a \.jsonl or a compacted \.parquet file"
        ):
            verify([tmp_path], [sealed[1].public])
        (folder / "audit.log").write_bytes(b"".join(sealed[0]))
        (tmp_path / "empty.jsonl").touch()


def test_a_chain_that_was_verified_before_is_missed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        AuditLog(tmp_path / f"{name}.jsonl").close()
    first = verify([tmp_path])
    gone = first.chains[0].writer
    next(path for path in tmp_path.glob("*.jsonl") if gone.encode() in path.read_bytes()).unlink()
    report = verify([tmp_path], state=first.state)
    assert [(finding.kind, gone in finding.message) for finding in report.damage] == [(Kind.MISSING, True)]
    next(tmp_path.glob("*.jsonl")).unlink()
    assert {finding.kind for finding in verify([tmp_path], state=first.state).damage} == {Kind.MISSING}


def test_logs_of_several_hosts_in_one_folder(tmp_path: Path) -> None:
    for host in ("one", "two"):
        (tmp_path / host).mkdir()
        with AuditLog(tmp_path / host / "audit.jsonl") as log:
            log.write(record())
    (tmp_path / "notes.jsonl").write_text('{"not": "a log"}\n')
    (tmp_path / "empty.jsonl").touch()
    report = verify([tmp_path])
    assert len(report.chains) == 2
    assert [(finding.kind, Path(finding.path).name) for finding in report.damage] == [(Kind.UNREADABLE, "notes.jsonl")]


def test_what_no_checkpoint_vouches_for_explains_no_missing_beginning(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, _ = sealed
    body = b'{"event":"log.retired","last":10,"hash":"%s"}' % hashlib.sha256(lines[9]).hexdigest().encode()
    last = Link.of(lines[-1])
    assert last is not None
    told = last.seal(body, last.seq + 1)
    assert [f.kind for f in judge(tmp_path, [*lines[10:], told], key, None).damage] == [Kind.BEGINNING]
    link = last.after(told, last.seq + 1)
    sealed_too = link.seal(checkpoint(link, key, {"lines": 1}), link.seq + 1)
    assert judge(tmp_path, [*lines[10:], told, sealed_too], key, None).sound


def test_a_line_that_is_cut_short_is_the_end_of_a_chain_or_damage(
    sealed: tuple[Lines, SigningKey, Path], tmp_path: Path
) -> None:
    lines, key, _ = sealed
    report = judge(tmp_path, [*lines[:30], lines[30][:50]], key, None)
    assert report.sound
    assert "31: open_end: the last line is torn, after 50 bytes" in str(report.findings[0])
    (tmp_path / "later.jsonl").write_bytes(b"".join(lines[30:]))
    report = verify([tmp_path], [key.public], cadence=CADENCE)
    assert [(finding.kind, finding.line) for finding in report.damage] == [(Kind.NO_LINE, 31)]


@pytest.mark.parametrize("seconds", [10.0, 300.0])
def test_what_could_not_be_written_could_not_be_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now)
    path = tmp_path / "audit.jsonl"
    with AuditLog(path, LogSettings(sync_seconds=60, reserve_bytes=0, checkpoint_seconds=3600)) as log:
        log.write(record())
        now += 5 * 10**9
        with monkeypatch.context() as full:
            full.setattr(Appender, "append", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
            with pytest.raises(AuditError):
                log.write(record())
        now += 120 * 10**9
        log.write(record())
        now += 100 * 10**9
    report = verify([path], seconds=seconds)
    assert Kind.LOSS in {finding.kind for finding in report.findings}
    # what was written after the loss waited as well, and for that there is no excuse
    late = [finding.message for finding in report.damage]
    assert late == ([] if seconds == 300.0 else ["the lines before this checkpoint waited 100 s for it"])


def test_a_copy_of_a_segment_is_found(sealed: tuple[Lines, SigningKey, Path], tmp_path: Path) -> None:
    lines, key, _ = sealed
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(b"".join(lines))
    assert Kind.REPEATED in {finding.kind for finding in verify([tmp_path], [key.public], cadence=CADENCE).damage}


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="there is no such file"):
        verify([tmp_path / "absent"])
    (tmp_path / "anchors").write_text("x\n")
    with pytest.raises(AuditError, match="holds no checkpoint"):
        verify([tmp_path], [], [tmp_path / "anchors"])
    with pytest.raises(AuditError, match="cannot be read"):
        verify([tmp_path], [], [tmp_path / "absent"])


def test_anyone_can_check_the_chain_with_sha256sum(sealed: tuple[Lines, SigningKey, Path]) -> None:
    lines = sealed[0]
    for before, line in pairwise(lines):
        assert json.loads(line)["prev"] == hashlib.sha256(before).hexdigest()
