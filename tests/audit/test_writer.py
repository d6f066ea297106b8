"""The log: what it promises on return, what it says of itself, and how it goes on after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from authz.audit import chain_file
from authz.audit.appender import Appender
from authz.audit.best_effort import QueuedLog
from authz.audit.event import Event, EventName
from authz.audit.finding import Kind
from authz.audit.masking import Masking
from authz.audit.selection import Detail, Selection, SelectionRule
from authz.audit.settings import Durability, LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.call import Call
from authz.decision.base import Effect, Rule, Verdict
from authz.errors import AuditError, Place
from authz.reason import Reason
from tests.audit.logs import METHOD, events, kinds, lines, no_space, record


def interrupted(fd: int, data: bytes) -> int:
    os.write(fd, data)
    raise KeyboardInterrupt


def test_records_are_numbered_chained_lines_in_a_private_file(path: Path) -> None:
    with AuditLog(path) as log:
        log.write(record())
        log.write(record(allow=False))
    assert [line["seq"] for line in lines(path)] == list(range(1, 7))
    assert events(path) == ["log.open", "decision", "decision", "log.close"]
    assert path.stat().st_mode & 0o777 == 0o600
    report = verify([path])
    assert (report.sound, report.chains[0].closed, report.chains[0].sealed) == (True, True, 6)


def test_a_log_is_continued(path: Path) -> None:
    for _ in range(3):
        with AuditLog(path) as log:
            log.write(record())
    assert events(path) == ["log.open", "decision", "log.close"] * 3
    assert len({line["writer"] for line in lines(path)}) == 1
    assert verify([path]).sound


def test_a_torn_line_is_taken_away_kept_apart_and_told(path: Path) -> None:
    with AuditLog(path) as log:
        log.write(record())
    with path.open("ab") as file:
        file.write(b'{"v":1,"writer":"torn')
    with AuditLog(path) as log:
        log.write(record())
    told = next(line for line in lines(path) if line["event"] == "log.recovered")
    assert (told["torn_bytes"], told["cause"]) == (21, "the last line is torn")
    aside = path.parent / told["moved_to"]
    assert (aside.read_bytes(), aside.stat().st_mode & 0o777) == (b'{"v":1,"writer":"torn', 0o600)
    report = verify([path])
    assert report.sound
    assert kinds(report) == {Kind.RECOVERED, Kind.UNPROVEN}


def test_zeros_that_a_power_cut_left_are_taken_away(path: Path) -> None:
    with AuditLog(path) as log:
        log.write(record())
    with path.open("ab") as file:
        file.write(bytes(3 << 20))
    AuditLog(path).close()
    assert verify([path]).sound


def test_a_file_that_is_no_log_is_kept_and_a_log_begun(path: Path) -> None:
    path.write_text("something else\n")
    AuditLog(path).close()
    told = next(line for line in lines(path) if line["event"] == "log.recovered")
    assert (path.parent / told["moved_to"]).read_text() == "something else\n"
    assert verify([path]).sound


def test_writing_after_the_end_is_an_error(path: Path) -> None:
    log = AuditLog(path)
    log.close()
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.write(record())


def test_what_was_lost_is_told_before_the_next_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=60)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(no_space))
            for _ in range(3):
                with pytest.raises(AuditError, match="no space left"):
                    log.write(record())
        log.write(record())
    loss = next(line for line in lines(path) if line["event"] == "audit.loss")
    assert (loss["from"], loss["to"], loss["count"], loss["cause"]) == (3, 5, 3, "no space left on device")
    assert (loss["seq"], loss["let_through"]) == (6, False)
    report = verify([path])
    assert report.sound
    assert report.chains[0].lost == 3


def test_a_loss_is_told_although_nobody_calls_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, LogSettings(reserve_bytes=0)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(no_space))
            with pytest.raises(AuditError):
                log.write(record())
        for _ in range(100):
            if "audit.loss" in events(path):
                break
            time.sleep(0.05)
        assert "audit.loss" in events(path)


def test_a_short_write_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=60)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(lambda fd, data: real(fd, data[:100])))
            with pytest.raises(AuditError):
                log.write(record())
        assert path.read_bytes().endswith(b"}\n")
        log.write(record())
    assert verify([path]).sound


def test_the_reserve_is_used_when_the_disk_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reserve = os.write, path.with_name(".audit.jsonl.reserve")

    def full_while_it_is_there(fd: int, data: bytes) -> int:
        return no_space() if reserve.exists() else real(fd, data)

    with AuditLog(path, LogSettings(reserve_bytes=4096, sync_seconds=60)) as log:
        monkeypatch.setattr(Appender, "append", staticmethod(full_while_it_is_there))
        log.write(record())
        assert not reserve.exists()
    assert "audit.loss" not in events(path)


def test_an_interrupt_in_the_middle_of_a_write_breaks_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(interrupted))
            with pytest.raises(KeyboardInterrupt):
                log.write(record())
        log.write(record())
    assert events(path).count("decision") == 2
    assert verify([path]).sound


def test_an_interrupt_anywhere_in_the_telling_of_a_loss_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each line of the code that writes, in turn."""
    before = sys.gettrace()
    monkeypatch.setattr(AuditLog, "tend", lambda _: 1.0)
    for moment in range(1000):
        left = moment

        def interrupt(frame: FrameType, what: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != chain_file.__file__:
                return None
            left -= what == "line"
            if left < 0:
                raise KeyboardInterrupt
            return interrupt

        path = tmp_path / f"{moment}" / "audit.jsonl"
        path.parent.mkdir()
        with AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=0.001)) as log:
            with monkeypatch.context() as patch:
                patch.setattr(Appender, "append", staticmethod(no_space))
                with pytest.raises(AuditError):
                    log.write(record())
            with contextlib.suppress(KeyboardInterrupt):
                sys.settrace(interrupt)
                log.write(record())
            sys.settrace(before)
            log.write(record())
        report = verify([path])
        assert report.sound, (moment, report.damage)
        assert report.chains[0].lost == 1, moment
        if left >= 0:
            break
    assert 20 < moment < 999


def test_what_is_lost_after_an_interrupt_has_numbers_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(interrupted))
            with pytest.raises(KeyboardInterrupt):
                log.write(record())
        log.lose(2, "the queue was full")
        log.write(record())
    report = verify([path])
    assert report.sound, report.damage
    assert report.chains[0].lost == 2


def test_break_glass_lets_through_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LogSettings(reserve_bytes=0, unsafe_allow_unrecorded=True, sync_seconds=60)
    with AuditLog(path, settings) as log, monkeypatch.context() as patch:
        patch.setattr(Appender, "append", staticmethod(no_space))
        log.write(record())
        asyncio.run(log.write_async(record()))
    assert "break_glass" in events(path)
    loss = next(line for line in lines(path) if line["event"] == "audit.loss")
    assert (loss["count"], loss["let_through"]) == (2, True)


def test_the_closing_of_a_log_is_sealed_also_by_a_signal(path: Path) -> None:
    program = f"""
import os, signal, time
from pathlib import Path
from authz.audit.closing import close_at_the_end
from authz.audit.writer import AuditLog
from tests.audit.logs import record
log = AuditLog(Path({str(path)!r}))
close_at_the_end(log)
log.write(record())
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert verify([path]).chains[0].closed


def test_a_log_that_is_forgotten_is_closed_at_exit(path: Path) -> None:
    program = f"""
from pathlib import Path
from authz.audit.closing import close_at_the_end
from authz.audit.writer import AuditLog
log = AuditLog(Path({str(path)!r}))
close_at_the_end(log)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert verify([path]).chains[0].closed


def test_coroutines_share_their_syncs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    real = os.fdatasync

    def counted(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        time.sleep(0.005)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)

    async def main(log: AuditLog) -> None:
        await asyncio.gather(*(log.write_async(record()) for _ in range(500)))

    with AuditLog(path, LogSettings(durability=Durability.SYNCED)) as log:
        asyncio.run(main(log))
        assert events(path).count("decision") == 500
    assert syncs < 50


@pytest.mark.parametrize("way", ["thread", "loop"])
def test_a_sync_that_fails_is_an_error_and_told(path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with AuditLog(path, LogSettings(durability=Durability.SYNCED, sync_seconds=60)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            write = log.write if way == "thread" else lambda entry: asyncio.run(log.write_async(entry))
            with pytest.raises(AuditError, match="cannot be synced"):
                write(record())
        log.write(record())
    assert "audit.unsynced" in events(path)
    assert verify([path]).sound


def test_a_full_queue_drops_and_counts(path: Path) -> None:
    log = AuditLog(path, LogSettings(durability=Durability.BEST_EFFORT))
    gate, real = threading.Event(), log.write

    def slow(entry: object) -> None:
        gate.wait(10)
        real(entry)  # type: ignore[arg-type]

    log.write = slow  # type: ignore[method-assign,assignment]
    queue = QueuedLog(log, 10)
    for _ in range(50):
        queue.write(record())
    gate.set()
    queue.close()
    with pytest.raises(AuditError, match="is closed"):
        queue.write(record())
    report = verify([path])
    assert report.sound
    decisions = events(path).count("decision")
    assert 10 <= decisions <= 12
    assert report.chains[0].lost == 50 - decisions


def test_denials_are_always_recorded_and_omitted_allows_are_counted(path: Path) -> None:
    rules = [
        SelectionRule(("/a.B/*",), Detail.COUNTED),
        SelectionRule(("/a.C/*",), Detail.SAMPLED, one_in=10),
        SelectionRule(("/a.D/*",), Detail.BRIEF, namespaces=("acme*",)),
    ]
    with AuditLog(path, LogSettings(selection=Selection(rules))) as log:
        for method in ("/a.B/X", "/a.C/X", "/a.D/X"):
            for _ in range(30):
                log.write(record(method=method))
            log.write(record(method=method, allow=False))
        log.write(record(method="/a.D/X", namespaces=("other",)))
    found = [line for line in lines(path) if line["event"] == "decision"]
    count = {m: sum(line["method"] == m for line in found if line["decision"] == "allow") for m in
             ("/a.B/X", "/a.C/X", "/a.D/X")}  # fmt: skip
    assert count == {"/a.B/X": 0, "/a.C/X": 3, "/a.D/X": 31}
    assert sum(line["decision"] != "allow" for line in found) == 3
    assert verify([path]).chains[0].omitted == 30 + 27
    brief = [line for line in found if line["method"] == "/a.D/X" and line["truncated"]]
    assert len(brief) == 30
    assert brief[0]["sub"] == "user:corp:alice"


COUNTED = Selection([SelectionRule(("*",), Detail.COUNTED)])


def test_what_was_counted_is_told_by_the_next_checkpoint_that_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=60, selection=COUNTED)) as log:
        for _ in range(7):
            log.write(record())
        log.write(record(allow=False))
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", staticmethod(no_space))
            with pytest.raises(AuditError, match="cannot be sealed"):
                log.checkpoint()
        log.checkpoint()
        assert [line["omitted"] for line in lines(path) if line["event"] == "checkpoint"] == [0, 7]
    assert verify([path]).chains[0].omitted == 7


@pytest.mark.parametrize("detail", [Detail.COUNTED, Detail.SAMPLED])
def test_an_allow_is_not_counted_where_nothing_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, detail: Detail
) -> None:
    selection = Selection([SelectionRule(("*",), detail, one_in=1000)])
    monkeypatch.setattr(AuditLog, "tend", lambda _: 60.0)
    log = AuditLog(path, LogSettings(reserve_bytes=0, sync_seconds=60, selection=selection))
    log.write(record())
    log.write(record())
    with monkeypatch.context() as patch:
        patch.setattr(Appender, "append", staticmethod(no_space))
        for allow in (False, True, True):
            with pytest.raises(AuditError, match="no space left"):
                log.write(record(allow=allow))
    log.write(record())
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.write(record())
    chain = verify([path]).chains[0]
    assert (chain.lost, chain.omitted) == (3, 3 if detail is Detail.COUNTED else 2)


def test_subjects_can_be_hashed_and_fields_left_out(path: Path) -> None:
    masking = Masking(b"k" * 32, plain=["machine:*"], hide=["user_agent", "peer_ip"])
    with AuditLog(path, LogSettings(masking=masking)) as log:
        log.write(record())
    line = next(line for line in lines(path) if line["event"] == "decision")
    assert b"alice" not in path.read_bytes()
    assert line["sub"].startswith("user:corp:hmac-")
    assert line["sub"] == masking.subject("user:corp:alice", "corp:")
    assert (line["user_agent"], line["peer_ip"], line["redacted"]) == (None, None, ["user_agent", "peer_ip", "sub"])
    assert masking.subject("user:machine:backup-1") == "user:machine:backup-1"


def test_whoever_else_a_record_names_is_hashed_too(path: Path) -> None:
    shadow = Verdict(
        Effect.DENY, Reason.DENIED_BY_RULE, Rule("p, user:corp:alice, *, *, *, deny", Place("policy.csv", 4))
    )
    near = "it needs user:corp:bob (policy.csv:7) or user:lab:eve (policy.csv:9)"
    masking = Masking(b"k" * 32, plain=["lab:*"])
    with AuditLog(path, LogSettings(masking=masking)) as log:
        written = record()
        log.write(written._replace(decision=written.decision._replace(detail=near, shadow=shadow)))
    line = next(line for line in lines(path) if line["event"] == "decision")
    assert b"alice" not in path.read_bytes()
    assert line["shadow_rule"] == f"p, {line['sub']}, *, *, *, deny"
    bob = masking.subject("user:corp:bob", "corp:")
    assert line["reason_text"] == f"it needs {bob} (policy.csv:7) or user:lab:eve (policy.csv:9)"


def test_a_record_that_cannot_be_masked_is_written_in_its_shortest_form(path: Path) -> None:
    class Broken(Masking):
        def apply(self, fields: dict[str, object], prefix: str = "") -> None:
            raise RuntimeError("broken")

    with AuditLog(path, LogSettings(masking=Broken(b"k" * 32))) as log:
        log.write(record(audit_id="id1"))
        log.write(Event(EventName.CONFIG, {"a": "b"}))
    line = next(line for line in lines(path) if line["event"] == "decision")
    assert (line["id"], line["decision"], line["redacted"]) == ("id1", "allow", ["*"])
    assert "sub" not in line


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J", "x" * 10_000_000, "<script>", "=cmd()", "\u202e"])
def test_hostile_text_is_recorded_harmlessly(path: Path, text: str) -> None:
    with AuditLog(path) as log:
        log.write(record(method=text, namespaces=(text,), agent=text))
        log.write(record())
    assert events(path).count("decision") == 2
    assert path.stat().st_size < 100_000
    assert verify([path]).sound


def test_an_anchor_is_given_each_checkpoint_and_its_failure_hurts_nobody(path: Path) -> None:
    kept: list[bytes] = []

    def broken(_: bytes) -> None:
        raise OSError("gone")

    with AuditLog(path, LogSettings(anchors=(broken, kept.append))) as log:
        log.write(record())
    written = [line for line in path.read_bytes().splitlines(keepends=True) if b'"event":"checkpoint"' in line]
    assert kept == written


def test_what_is_anchored_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk, early = 0, []
    really = os.fdatasync

    def synced(descriptor: int) -> None:
        nonlocal on_disk
        size = os.fstat(descriptor).st_size
        really(descriptor)
        on_disk = size

    def anchor(line: bytes) -> None:
        if path.read_bytes().index(line) + len(line) > on_disk:
            early.append(line)

    monkeypatch.setattr(os, "fdatasync", synced)
    with AuditLog(path, LogSettings(anchors=(anchor,), checkpoint_seconds=0.0, sync_seconds=0.001)) as log:
        for _ in range(20):
            log.write(record())
            time.sleep(0.005)
    assert not early


def test_the_method_of_a_call_that_is_no_text_leaves_a_line(path: Path) -> None:
    with AuditLog(path) as log:
        log.write(record()._replace(call=Call(METHOD, (b"acme",))))  # type: ignore[arg-type]
    assert lines(path)[2]["redacted"] == ["*"]


def test_a_checkpoint_can_be_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(path, LogSettings(sync_seconds=60, reserve_bytes=0))
    log.write(record())
    log.checkpoint()
    assert lines(path)[-1]["event"] == "checkpoint"
    before = len(lines(path))
    log.checkpoint()
    assert len(lines(path)) == before, "there is nothing new to seal"
    log.write(record())
    with monkeypatch.context() as patch:
        patch.setattr(Appender, "append", staticmethod(no_space))
        with pytest.raises(AuditError, match="cannot be sealed"):
            log.checkpoint()
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.checkpoint()
