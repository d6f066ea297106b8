"""The place of a log: who may take it, and what cannot be one."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from authz.audit.writer import AuditLog
from authz.errors import AuditError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_two_writers_of_one_file_are_refused(path: Path) -> None:
    with AuditLog(path), pytest.raises(AuditError, match="another process writes to it"):
        AuditLog(path)
    AuditLog(path).close()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"absent/a cannot be opened: No such file"):
        AuditLog(tmp_path / "absent" / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AuditError, match="folder cannot be"):
        AuditLog(tmp_path / "folder")


def test_a_file_that_cannot_be_locked_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(AuditError, match="cannot be opened: no locks available"):
        AuditLog(path)


@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_only_a_regular_file_can_be_a_log(tmp_path: Path, what: str) -> None:
    path = Path("/dev/null") if what == "device" else tmp_path / what
    if what == "pipe":
        os.mkfifo(path)
    if what == "folder":
        path.mkdir()
    with pytest.raises(AuditError, match="no regular file"):
        AuditLog(path)
