"""Which files are a log: one answer, for whoever verifies, asks or follows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from authz.audit.segment import find_files, find_segments
from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from authz.review.compact import compact
from authz.review.follow import follow
from authz.review.logs import Logs
from authz.review.search import Search
from tests.audit.logs import record

ROTATED = LogSettings(sync_seconds=60, reserve_bytes=0, rotate_bytes=1000)
"""Of a log that is rotated with its first record."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a log of two files, of which the first is compacted as well."""
    folder = tmp_path / "log"
    folder.mkdir()
    with AuditLog(folder / "audit.jsonl", ROTATED) as log:
        log.write(record())
        log.tend()
    assert compact([folder])
    return folder


def decisions(*paths: Path) -> int:
    """How many decisions a reviewer sees, where a verifier sees as many lines as there are."""
    with Logs(paths) as logs:
        assert logs.files == [segment.path.resolve() for segment in find_segments(paths)]
        return len(logs.ask("SELECT * FROM decisions"))


def test_a_compacted_copy_counts_once_wherever_it_is(folder: Path) -> None:
    lines = verify([folder]).chains[0].lines
    (folder.parent / "archive").mkdir()
    packed = next(folder.glob("*.parquet"))
    packed.rename(folder.parent / "archive" / "by-another-name.parquet")
    assert verify([folder.parent]).chains[0].lines == lines
    assert decisions(folder.parent) == 1
    next(folder.glob("audit-*.jsonl")).unlink()
    assert verify([folder.parent]).chains[0].lines == lines
    assert decisions(folder.parent) == 1


def test_a_file_that_is_named_twice_counts_once(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert decisions(folder, folder / "audit.jsonl", *folder.glob("*.parquet"), folder.parent / "link") == 1
    assert decisions(*folder.glob("audit-*")) == 1


def test_a_file_of_no_log_hides_no_other(folder: Path) -> None:
    packed = next(folder.glob("*.parquet"))
    next(folder.glob("audit-*.jsonl")).unlink()
    (folder / "empty.jsonl").touch()
    assert packed in [segment.path for segment in find_segments([folder])]
    shutil.copyfile(folder / "audit.jsonl", folder / ".hidden.jsonl")
    shutil.copyfile(folder / "audit.jsonl", folder / "audit.log")
    (folder / "folder.jsonl").mkdir()
    assert {file.name for file in find_files([folder])} == {packed.name, "audit.jsonl", "empty.jsonl"}


@pytest.mark.parametrize("name", ["audit.log", ".audit.jsonl", "pipe.jsonl"])
def test_what_is_no_log_is_refused_by_all(folder: Path, name: str) -> None:
    path = folder / name
    if name.startswith("pipe"):
        os.mkfifo(path)
    else:
        shutil.copyfile(folder / "audit.jsonl", path)
    for use in (verify, Logs, compact, lambda paths: next(follow(paths, Search.parse("")))):
        with pytest.raises(AuditError, match=f"there is no log in .*{name}; a log is a .jsonl or a compacted .parquet"):
            use([path])
        with pytest.raises(AuditError, match="there is no such file or folder"):
            use([folder / "absent"])


@pytest.mark.parametrize("name", ["a?", "a*", "[ab]", "a{b,c}", "it's", "sub=user:corp:eve", "[!x]", "a;b--c", "*?[a]"])
def test_a_name_is_never_a_pattern(tmp_path: Path, name: str) -> None:
    for folder in (name, "ab", "b"):
        (tmp_path / folder).mkdir()
        with AuditLog(tmp_path / folder / f"{name}.jsonl", ROTATED) as log:
            log.write(record())
            log.tend()
        with AuditLog(tmp_path / folder / "ab.jsonl", ROTATED) as log:
            log.write(record())
    named = [tmp_path / name / f"{name}.jsonl", *(tmp_path / name).glob("*-0*.jsonl")]
    assert decisions(*named) == 1
    compact([tmp_path / name], delete=True)
    packed = list((tmp_path / name).glob("*.parquet"))
    assert len(packed) == 1
    assert decisions(*packed) == 1
    with Logs([tmp_path]) as logs:
        assert {row["sub"] for row in logs.ask("SELECT sub FROM decisions")} == {"user:corp:alice"}
        assert {row["file"] for row in logs.ask("SELECT file FROM decisions")} <= set(map(str, logs.files))
    assert verify(packed).chains[0].files == 1
