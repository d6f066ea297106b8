"""The file of a chain: checkpoints, segments, and what other hands do to it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from authz.audit.appender import Appender
from authz.audit.checkpoint import SigningKey
from authz.audit.finding import Kind
from authz.audit.settings import Durability, LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import events, kinds, lines, no_space, record


def test_checkpoints_come_by_number_and_by_time(path: Path, tmp_path: Path) -> None:
    key = SigningKey.generate(tmp_path / "audit.key")
    with AuditLog(path, LogSettings(key=key, checkpoint_records=10, checkpoint_seconds=0.1)) as log:
        for _ in range(25):
            log.write(record())
        by_number = sum(line["event"] == "checkpoint" for line in lines(path))
        for _ in range(100):
            if lines(path)[-1]["event"] == "checkpoint":
                break
            time.sleep(0.05)
        assert lines(path)[-1]["event"] == "checkpoint"
    assert by_number >= 3
    report = verify([path], [key.public], cadence=10)
    assert not report.findings


@pytest.mark.parametrize("durability", [Durability.WRITTEN, Durability.SYNCED])
def test_segments_are_rotated_and_the_chain_goes_on(path: Path, durability: Durability) -> None:
    settings = LogSettings(rotate_bytes=20_000, durability=durability, sync_seconds=0.01)
    with AuditLog(path, settings) as log:
        for _ in range(100):
            log.write(record())
            if log.path.stat().st_size > 20_000:
                log.tend()
    segments = sorted(path.parent.glob("audit-*.jsonl"))
    assert len(segments) >= 2
    assert segments[0].name == "audit-000000000001.jsonl"
    report = verify([path.parent])
    assert report.sound
    assert len([line for line in lines(path) if line["event"] == "decision"]) == 100
    path.unlink()  # a crash between the closing of a segment and the beginning of the next
    AuditLog(path).close()
    assert {f.kind for f in verify([path.parent]).findings} <= {Kind.MISSING, Kind.RECOVERED, Kind.UNPROVEN}


@pytest.mark.parametrize("left", [bytes(300), b"a line that is torn", b"something else\n"])
def test_what_a_crash_left_after_a_rotation_does_not_end_the_chain(path: Path, left: bytes) -> None:
    settings = LogSettings(sync_seconds=60, rotate_bytes=3000)
    for _ in range(3):
        with AuditLog(path, settings) as log:
            for _ in range(4):
                log.write(record())
            log.tend()
        path.write_bytes(left)
    AuditLog(path, settings).close()
    assert len(list(path.parent.glob("audit-*.jsonl"))) == 3
    assert len({line["writer"] for line in lines(path)}) == 1
    assert [path.parent.joinpath(line["moved_to"]).read_bytes() for line in lines(path) if "moved_to" in line] == [
        left
    ] * 3


@pytest.mark.parametrize("obstacle", ["audit-000000000001.jsonl", ".audit.jsonl.next", "first line"])
def test_a_rotation_that_fails_is_told_and_writes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    if obstacle == "first line":
        path.write_bytes(b"something else\n")
        with AuditLog(path.with_name("b.jsonl")) as log:
            path.write_bytes(path.read_bytes() + log.path.read_bytes())
    with AuditLog(path, LogSettings(sync_seconds=60, rotate_bytes=3000, reserve_bytes=0)) as log:
        if obstacle != "first line":
            (path.parent / obstacle).mkdir()
        for _ in range(4):
            log.write(record())
        log.checkpoint()
        size = path.stat().st_size
        for _ in range(5):
            log.tend()
        assert path.stat().st_size == size
        assert "cannot be rotated" in caplog.text or "cannot be looked after" in caplog.text
        if obstacle != "first line":
            (path.parent / obstacle).rmdir()
            log.tend()
            assert "log.rotated" in events(path)


@pytest.mark.parametrize(
    ("name", "place"),
    [("audit.jsonl", "HOLD"), ("audit", "HOLD"), ("audit", "audit/HOLD"), ("audit", "audit/{lane}/HOLD")],
)
def test_old_segments_are_retired_unless_they_are_held(tmp_path: Path, name: str, place: str) -> None:
    root = tmp_path / name
    settings = LogSettings(rotate_bytes=100, keep_seconds=3600, sync_seconds=60)
    with AuditLog(root, settings, shared=name == "audit") as log:
        hold = tmp_path / place.format(lane=log.path.parent.name)
        hold.touch()
        log.tend()
        segment = log.path.with_name("audit-000000000001.jsonl")
        os.utime(segment, (1, 1))
        log.tend()
        assert segment.exists()
        hold.unlink()
        log.tend()
        assert not segment.exists()
    assert verify([tmp_path]).sound
    assert "log.retired" in events(log.path)


def test_a_segment_that_was_changed_is_not_retired(path: Path) -> None:
    with AuditLog(path, LogSettings(rotate_bytes=5_000, keep_seconds=3600, sync_seconds=0.01)) as log:
        for _ in range(20):
            log.write(record())
        while not (segments := sorted(path.parent.glob("audit-*.jsonl"))):
            time.sleep(0.01)
        log.tend()
        data = segments[0].read_bytes()
        segments[0].write_bytes(data[:-10])
        os.utime(segments[0], (1, 1))
        log.tend()
        assert segments[0].exists()


def take(path: Path, hand: str) -> None:
    """What another hand does to the log."""
    if hand == "cut":
        os.truncate(path, 100)
        return
    if hand == "delete the folder":
        shutil.rmtree(path.parent)
    elif hand == "move the folder":
        path.parent.rename(path.parent.with_name("moved"))
    else:
        path.unlink()
    if hand == "put another":
        path.write_text("something else\n")
    if hand == "put a pipe":
        os.mkfifo(path)


@pytest.mark.parametrize("hand", ["delete", "cut", "delete the folder", "move the folder", "put another"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_that_another_hand_took_is_noticed_and_told(tmp_path: Path, hand: str, shared: bool) -> None:
    place = tmp_path / "logs" / ("audit" if shared else "audit.jsonl")
    place.parent.mkdir()
    with AuditLog(place, LogSettings(sync_seconds=0.01), shared=shared) as log:
        path = log.path
        log.write(record())
        log.tend()
        with log._lock:  # so that the log's own thread is not quicker
            take(path, hand)
        log.tend()
        log.write(record())
        with pytest.raises(AuditError, match="another process writes to it"):
            AuditLog(path)
    assert "log.replaced" in events(path)
    assert events(path)[-2:] == ["decision", "log.close"]
    report = verify([path])
    assert not report.sound
    assert Kind.REPLACED in kinds(report)
    if hand == "put another":
        told = next(line for line in lines(path) if line["event"] == "log.replaced")
        assert (path.parent / told["moved_to"]).read_text() == "something else\n"


def test_a_file_that_another_hand_took_last_is_told_at_the_close(path: Path) -> None:
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        log.write(record())
        log.tend()
        path.unlink()
    assert events(path) == ["log.replaced", "log.close"]


@pytest.mark.parametrize("hand", ["delete the folder", "put a pipe"])
def test_a_log_that_can_have_no_file_takes_nothing_and_counts(tmp_path: Path, hand: str) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    path.parent.mkdir()
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        log.write(record())
        with log._lock:  # so that the log's own thread is not quicker
            take(path, hand)
            obstacle = path
            if hand == "delete the folder":
                obstacle = path.parent
                obstacle.write_text("in the way")
        log.tend()
        for _ in range(3):
            with pytest.raises(AuditError, match="its file is gone"):
                log.write(record())
        with pytest.raises(AuditError, match="its file is gone"):
            log.checkpoint()
        obstacle.unlink()
        log.tend()
        log.write(record())
    assert events(path) == ["audit.loss", "log.replaced", "decision", "log.close"]
    report = verify([path])
    assert report.chains[0].lost == 3
    assert not {Kind.REPEATED, Kind.CHANGED} & kinds(report)


def test_a_lock_that_another_hand_took_is_taken_again(path: Path) -> None:
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        path.with_name(".audit.jsonl.lock").unlink()
        log.tend()
        with pytest.raises(AuditError, match="another process writes to it"):
            AuditLog(path)
        path.with_name(".audit.jsonl.lock").unlink()
        with AuditLog(path):
            log.tend()
            with pytest.raises(AuditError, match="another process writes to it"):
                log.write(record())


def test_what_another_hand_did_is_told_when_there_is_space_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=60)) as log:
        path.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(no_space))
            log.tend()
            with pytest.raises(AuditError, match="no space"):
                log.write(record())
        log.tend()
        assert events(path) == ["audit.loss", "log.replaced"]
