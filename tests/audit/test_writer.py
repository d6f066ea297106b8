from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from authz.audit.record import Record
from authz.audit.writer import FileSink
from authz.call import Call
from authz.decision.base import Decision, Effect
from authz.errors import AuditError
from authz.reason import Reason

RECORD = Record(Decision(Effect.DENY, Reason.NO_RULE, None, "r", None, None, "id"), Call("/a.B/C"), 0, 0)


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_bytes().splitlines()]


def test_records_are_numbered_lines_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with FileSink(path) as sink:
        sink.write(RECORD)
        sink.write(RECORD)
        assert seqs(path) == [1, 2]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_is_continued_and_a_torn_line_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"torn')
    with FileSink(path) as sink:
        sink.write(RECORD)
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"torn'
    assert json.loads(whole)["seq"] == 1


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    with FileSink(tmp_path / "a") as _, pytest.raises(AuditError, match="another process writes to it"):
        FileSink(tmp_path / "a")
    FileSink(tmp_path / "a").close()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"absent/a cannot be opened: No such file"):
        FileSink(tmp_path / "absent" / "a")


def test_a_file_that_cannot_be_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(AuditError, match="cannot be used: no locks available"):
        FileSink(tmp_path / "a")


def test_writing_after_the_end_is_an_error(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a")
    sink.close()
    sink.close()
    with pytest.raises(AuditError, match="is closed"):
        sink.write(RECORD)


def test_a_failed_write_is_an_error_and_leaves_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    with FileSink(path) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(errno.EIO, "input/output error")))
            with pytest.raises(AuditError, match="cannot be written: input/output error"):
                sink.write(RECORD)
        sink.write(RECORD)
    assert seqs(path) == [2]


def test_a_really_full_disk_loses_no_line_silently_and_tears_none() -> None:
    """/dev/full is the kernel's own full disk."""
    sink = FileSink.__new__(FileSink)
    sink.path, sink.writer, sink._seq, sink._lock = Path("/dev/full"), "w", 0, threading.Lock()
    sink._fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(AuditError, match="No space left on device"):
        sink.write(RECORD)
    sink.close()


def test_what_a_full_disk_cut_short_is_taken_back(tmp_path: Path) -> None:
    """A process whose files may not grow past 1,000 bytes: the kernel then writes a part of a line, really."""
    path = tmp_path / "a"
    program = f"""
import resource, signal
from pathlib import Path
from tests.audit.test_writer import RECORD, AuditError, FileSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink, refused = FileSink(Path({str(path)!r})), []
for _ in range(4):
    try:
        sink.write(RECORD)
    except AuditError as exc:
        refused.append(str(exc))
print(len(refused), refused[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "bytes" in done.stdout
    lines = path.read_bytes()
    assert lines.endswith(b"\n")
    written = seqs(path)
    assert written == list(range(1, len(written) + 1))
    assert len(written) + int(done.stdout.split()[0]) == 4


def test_what_was_written_survives_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a"
    program = f"""
import os, signal
from pathlib import Path
from tests.audit.test_writer import RECORD, FileSink
sink = FileSink(Path({str(path)!r}))
for _ in range(100):
    sink.write(RECORD)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert seqs(path) == list(range(1, 101))


def test_threads_write_whole_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with FileSink(path) as sink:

        def write_many() -> None:
            for _ in range(200):
                sink.write(RECORD)

        threads = [threading.Thread(target=write_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seqs(path) == list(range(1, 1601))
