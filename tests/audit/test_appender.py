"""The one system call that writes: what it says of success and failure, and how it behaves on a slow disk."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from authz.audit import appender
from authz.audit.appender import Appender


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    return os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def test_bytes_are_written_as_they_are(descriptor: int) -> None:
    data = b"a\x00b\xff\n"
    assert Appender().append(descriptor, data) == len(data)
    assert os.pread(descriptor, 100, 0) == data


def test_a_failure_has_its_number_and_words(tmp_path: Path) -> None:
    closed = os.open(tmp_path / "log", os.O_RDONLY | os.O_CREAT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Appender().append(closed, b"x")
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        Appender().append(full, b"x")


def test_without_such_a_call_the_ordinary_one_writes(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "_find", lambda: None)
    assert Appender().append(descriptor, b"one") == 3
    assert os.pread(descriptor, 100, 0) == b"one"


def test_the_turn_is_kept_until_a_write_was_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a pipe that nobody empties for a while: the first write keeps every thread waiting, the second none."""
    source, sink = os.pipe()
    monkeypatch.setattr(appender, "_POLITE", 2)
    one = Appender()
    slow = one._keeping_turn
    assert slow is not None

    def slower(fd: int, data: bytes, size: int) -> int:
        time.sleep(0.06)
        return slow(fd, data, size)

    one._keeping_turn = slower
    assert one.append(sink, b"x") == 1
    one._keeping_turn = None.__getattribute__  # type: ignore[assignment]  # would fail if it were called
    filler = threading.Thread(target=one.append, args=(sink, b"x" * 200_000))
    filler.start()
    ran = time.monotonic()
    while filler.is_alive() and time.monotonic() - ran < 0.05:
        pass  # this thread has its turn while the other one waits for the pipe
    assert filler.is_alive()
    while filler.is_alive():
        os.read(source, 65536)
        filler.join(0.001)
    assert one.append(sink, b"x") == 1
    one._keeping_turn = slow
    assert one.append(sink, b"x") == 1
    assert one._polite == 0
