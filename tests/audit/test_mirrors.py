"""Mirrors: they get the lines, never make a call wait, and count what they drop."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from authz.audit.anchor import FileAnchor, stderr_anchor
from authz.audit.mirrors import FileMirror, HttpMirror, OpenTelemetryMirror, QueuedMirror, SyslogMirror
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from tests.audit.logs import record


class Stuck(QueuedMirror):
    """A mirror whose place answers as the test says."""

    def __init__(self, limit: int) -> None:
        self.gate = threading.Event()
        self.sent: list[tuple[list[bytes], int]] = []
        self.broken = False
        super().__init__(limit)

    def send(self, lines: list[bytes], dropped: int) -> None:
        self.gate.wait(10)
        if self.broken:
            raise OSError("gone")
        self.sent.append((lines, dropped))


@pytest.fixture
def taker() -> Iterator[tuple[HTTPServer, list[tuple[str, bytes]]]]:
    """A web server that takes what is posted."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if self.path.startswith("/in") else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, taken
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_has_every_line(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "a.jsonl", LogSettings(mirrors=(FileMirror(tmp_path / "copy", 100),))) as log:
        for _ in range(10):
            log.write(record())
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


def test_a_stuck_mirror_holds_up_nothing_and_counts(tmp_path: Path) -> None:
    mirror = Stuck(10)
    with AuditLog(tmp_path / "a.jsonl", LogSettings(mirrors=(mirror,))) as log:
        for _ in range(100):
            log.write(record())
        assert mirror.dropped >= 80
        mirror.gate.set()
    assert sum(len(lines) for lines, _ in mirror.sent) + mirror.dropped == 104
    assert sum(dropped for _, dropped in mirror.sent) <= mirror.dropped


def test_a_broken_mirror_gives_up_at_the_end_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    mirror = Stuck(10)
    mirror.broken = True
    mirror.gate.set()
    with caplog.at_level(logging.WARNING, "authz"):
        mirror.offer(b"x\n")
        mirror.close()
    assert mirror.dropped == 1
    assert "Stuck does not get through" in caplog.text


def test_http_takes_batches_and_tries_again(taker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.audit.mirrors._RETRY_SECONDS", 0.01)
    server, taken = taker
    good = HttpMirror(f"http://127.0.0.1:{server.server_port}/in?x=1", 100)
    good.offer(b'{"a":1}\n')
    good.offer(b'{"a":2}\n')
    good.close()
    assert (taken[0][0], b"".join(body for _, body in taken)) == ("/in?x=1", b'{"a":1}\n{"a":2}\n')
    refused = HttpMirror(f"http://127.0.0.1:{server.server_port}/", 100)
    refused.offer(b"x\n")
    deadline = time.monotonic() + 10
    while len(taken) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    refused.close()
    assert refused.dropped == 1


def test_syslog_has_one_datagram_for_a_line(tmp_path: Path) -> None:
    for family, address in ((socket.AF_UNIX, str(tmp_path / "log")), (socket.AF_INET, "")):
        with socket.socket(family, socket.SOCK_DGRAM) as receiver:
            receiver.bind(address or ("127.0.0.1", 0))
            receiver.settimeout(10)
            mirror = SyslogMirror(address or f"127.0.0.1:{receiver.getsockname()[1]}", 10)
            mirror.offer(b'{"a":1}\n')
            assert receiver.recv(1000) == b'<86>authz: {"a":1}'
            mirror.close()


def test_opentelemetry_has_its_own_names() -> None:
    pytest.importorskip("opentelemetry._logs")
    emitted: list[Any] = []

    class Logger:
        def emit(self, made: Any) -> None:
            emitted.append(made)

    mirror = OpenTelemetryMirror(10, Logger())
    mirror.offer(record(allow=False).to_json(1, "w"))
    mirror.offer(b'{"event":"checkpoint"}\n')
    mirror.close()
    denial, checkpoint = emitted
    assert (denial.severity_text, denial.event_name) == ("WARN", "authz.decision")
    assert denial.attributes["enduser.id"] == "user:corp:alice"
    assert denial.attributes["rpc.method"] == "GetOrder"
    assert denial.attributes["client.address"] == "127.0.0.1"
    assert checkpoint.severity_text == "INFO"


def test_without_a_logger_the_applications_own_is_asked() -> None:
    pytest.importorskip("opentelemetry._logs")
    mirror = OpenTelemetryMirror(10)
    mirror.offer(b'{"event":"x"}\n')
    mirror.close()
    assert mirror.dropped == 0


def test_what_was_dropped_is_told_by_the_next_batch(tmp_path: Path) -> None:
    mirror = FileMirror(tmp_path / "copy", 10)
    mirror.dropped = 3
    mirror.offer(b"{}\n")
    mirror.close()
    first, second = (tmp_path / "copy").read_text().splitlines()
    assert (json.loads(first), second) == ({"event": "mirror.dropped", "count": 3}, "{}")


def test_anchors_append(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = FileAnchor(tmp_path / "anchors")
    anchor(b"one\n")
    anchor(b"two\n")
    assert (tmp_path / "anchors").read_bytes() == b"one\ntwo\n"
    stderr_anchor()(b"three\n")
    assert capsys.readouterr().err == "three\n"
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(OSError, match="took 0 of 4 bytes"):
        anchor(b"one\n")
