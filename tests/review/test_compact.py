"""Compacting: what becomes Parquet is as private as the log, and is on the disk before the log forgets its lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from authz.review.compact import compact
from tests.audit.logs import record


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The closed segment of a log."""
    settings = LogSettings(sync_seconds=60, reserve_bytes=0, rotate_bytes=1000)
    with AuditLog(tmp_path / "audit.jsonl", settings) as log:
        log.write(record())
        log.tend()
    return next(tmp_path.glob("audit-*.jsonl"))


def test_nobody_else_may_read_it_also_while_it_is_made(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        modes.append(path.stat().st_mode & 0o777)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    before = os.umask(0)
    try:
        made = compact([source])
    finally:
        os.umask(before)
    assert [*modes, made[0].path.stat().st_mode & 0o777] == [0o600, 0o600]
    assert source.stat().st_mode & 0o777 == 0o600


def test_the_disk_has_the_one_before_the_other_is_deleted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []
    fsync, unlink = os.fsync, Path.unlink

    def synced(descriptor: int) -> None:
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        done.append(("unlink", path.name))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    made = compact([source], delete=True)
    assert done[-3:] == [("sync", made[0].path.name), ("sync", source.parent.name), ("unlink", source.name)]


def test_what_cannot_be_synced_is_not_deleted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(AuditError, match="cannot be compacted: Input/output error"):
        compact([source], delete=True)
    assert source.exists()


def test_what_was_compacted_before_is_deleted_later(source: Path) -> None:
    made = compact([source])[0]
    stamp = made.path.stat().st_mtime_ns
    again = compact([source], delete=True)[0]
    assert (again.lines, again.deleted, source.exists()) == (made.lines, True, False)
    assert made.path.stat().st_mtime_ns == stamp
    assert verify([source.parent]).sound


def test_a_compacted_file_with_other_lines_is_not_overwritten(source: Path) -> None:
    packed = compact([source])[0].path
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join(lines[:-2]))
    kept = packed.read_bytes()
    with pytest.raises(AuditError, match="has other lines than"):
        compact([source], delete=True)
    assert (packed.read_bytes(), source.exists()) == (kept, True)


def test_what_a_crash_left_is_in_nobodys_way(source: Path) -> None:
    left = source.with_name(f".making-{source.stem}.parquet")
    left.write_bytes(b"half of it")
    assert verify([source.parent]).sound
    assert compact([source], delete=True)
    assert not left.exists()


def test_what_does_not_come_back_as_it_was_is_not_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.review.compact.COLUMNS", {})
    with pytest.raises(AuditError, match="cannot be compacted"):
        compact([source], delete=True)
    assert [path.name for path in source.parent.iterdir() if path.suffix == ".parquet"] == []
    monkeypatch.undo()
    # a last line without its end is no damage, and gets one in Parquet
    source.write_bytes(source.read_bytes().rstrip(b"\n"))
    with pytest.raises(AuditError, match="did not come back from Parquet as it was"):
        compact([source], delete=True)
    assert source.exists()
    assert [path.name for path in source.parent.iterdir() if path.suffix == ".parquet"] == []
