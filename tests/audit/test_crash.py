"""Crashes, really: processes killed at any moment, a filesystem that is full, forks in the middle of writing."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from authz.audit.anchor import FileAnchor
from authz.audit.finding import Kind
from authz.audit.mirrors import FileMirror
from authz.audit.settings import Durability, LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from tests.audit.logs import lines, record

MOMENTS = 200
KILLER = """
import os, random, signal, sys, threading, time
from pathlib import Path
from authz.audit.anchor import FileAnchor
from authz.audit.mirrors import FileMirror
from authz.audit.settings import Durability, LogSettings
from authz.audit.writer import AuditLog
from tests.audit.logs import record

folder, durability, moments = Path(sys.argv[1]), Durability(sys.argv[2]), int(sys.argv[3])
settings = LogSettings(durability=durability, checkpoint_records=20, rotate_bytes=60_000, sync_seconds=0.005)


def child(path, pipe):
    log = AuditLog(path, settings)

    def work():
        while True:
            entry = record()
            log.write(entry)
            os.write(pipe, entry.decision.audit_id.encode() + b"\\n")

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(60)


for moment in range(moments):
    path = folder / f"{moment}" / "audit.jsonl"
    path.parent.mkdir()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        child(path, write)
    os.close(write)
    time.sleep(random.uniform(0.002, 0.05))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as stream:
        acknowledged = stream.read()
    # an id that the kill cut short was written all the same
    (path.parent / "acknowledged").write_bytes(acknowledged)
    AuditLog(path, settings).close()
"""


@pytest.mark.parametrize("durability", [Durability.WRITTEN, Durability.SYNCED])
def test_no_acknowledged_record_is_lost_by_a_kill(tmp_path: Path, durability: Durability) -> None:
    command = [sys.executable, "-c", KILLER]
    halves = [tmp_path / "a", tmp_path / "b"]
    for half in halves:
        half.mkdir()
    processes = [subprocess.Popen([*command, str(half), durability, str(MOMENTS // 2)]) for half in halves]
    assert [process.wait(100) for process in processes] == [0, 0]
    acknowledged_in_all = 0
    for half in halves:
        for folder in half.iterdir():
            acknowledged = set((folder / "acknowledged").read_text().split())
            there = {line["id"] for line in lines(folder / "audit.jsonl")}
            assert acknowledged <= there, folder
            acknowledged_in_all += len(acknowledged)
            report = verify([folder], cadence=20)
            assert report.sound, report.damage
            assert report.chains[0].closed
    assert acknowledged_in_all > 500


def unshared() -> list[str]:
    """What runs a command with mounts of its own, or a skip."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no `unshare` to mount a small filesystem with")
    for flags in (["--mount"], ["--mount", "--map-root-user"]):
        command = ["unshare", *flags, "--", "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(command, capture_output=True).returncode == 0:
            return command[: command.index("--") + 1]
    pytest.skip("a filesystem may not be mounted here")


def test_on_a_really_full_filesystem_no_allow_is_without_its_record(tmp_path: Path) -> None:
    program = """
import json, os, subprocess, sys, time
from pathlib import Path
from authz.audit.anchor import FileAnchor
from authz.audit.mirrors import FileMirror
from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import record
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], check=True)
taken, refused = [], 0
with AuditLog(folder / "audit.jsonl", LogSettings(reserve_bytes=65536)) as log:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    for _ in range(400):
        entry = record()
        try:
            log.write(entry)
            taken.append(entry.decision.audit_id)
        except AuditError:
            refused += 1
    used = len(taken)
    filler.unlink()
    for _ in range(20):
        entry = record()
        log.write(entry)
        taken.append(entry.decision.audit_id)
data = (folder / "audit.jsonl").read_bytes()
report = verify([folder])
ids = [json.loads(line)["id"] for line in data.splitlines()]
print(json.dumps({"refused": refused, "by_reserve": used, "lost": report.chains[0].lost,
                  "missing": [i for i in taken if i not in ids], "damage": [str(f) for f in report.damage]}))
"""
    done = subprocess.run(
        [*unshared(), sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["refused"] > 0
    assert result["by_reserve"] > 20, "the reserve took some"
    assert result["lost"] == result["refused"]
    assert (result["missing"], result["damage"]) == ([], [])


def segments(folder: Path) -> list[Path]:
    return list(folder.rglob("audit*.jsonl"))


def write_many(log: AuditLog, count: int) -> None:
    for _ in range(count):
        log.write(record())


def write_as_process(folder: Path, durability: Durability) -> None:
    with AuditLog(folder, LogSettings(durability=durability), shared=True) as log:
        threads = [threading.Thread(target=write_many, args=(log, 10)) for _ in range(64)]
        for thread in threads:
            thread.start()

        async def main() -> None:
            await asyncio.gather(*(log.write_async(record()) for _ in range(200)))

        asyncio.run(main())
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("durability", [Durability.WRITTEN, Durability.SYNCED])
def test_processes_threads_and_a_loop_write_together(tmp_path: Path, durability: Durability) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_as_process, args=(tmp_path / "log", durability)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    report = verify([tmp_path / "log"])
    assert report.sound, report.damage
    assert all(chain.closed for chain in report.chains)
    found = [json.loads(line) for line in b"".join(map(Path.read_bytes, segments(tmp_path / "log"))).splitlines()]
    assert sum(line["event"] == "decision" for line in found) == 4 * (64 * 10 + 200)


FORKS = """
import os, signal, sys, threading, time
from pathlib import Path
from authz.audit.anchor import FileAnchor
from authz.audit.mirrors import FileMirror
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from tests.audit.logs import record
log = AuditLog(Path(sys.argv[1]), shared=True)
stop = False

def work():
    while not stop:
        log.write(record())

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(6):
    pid = os.fork()
    if not pid:
        for _ in range(20):
            log.write(record())
        if number % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        log.close()
        os._exit(0)
    children.append(pid)
    time.sleep(0.02)
for pid in children:
    os.waitpid(pid, 0)
stop = True
for thread in threads:
    thread.join()
log.close()
AuditLog(Path(sys.argv[1]), shared=True).close()
"""


def test_forks_in_the_middle_of_writing_have_chains_of_their_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "log")], check=True, timeout=60)
    report = verify([tmp_path / "log"])
    assert report.sound, report.damage
    assert len(report.chains) >= 2
    assert all(chain.closed for chain in report.chains), "what the dead left open was adopted and closed"
    assert any(finding.kind is Kind.RECOVERED for finding in report.findings)
    found = [json.loads(line) for line in b"".join(map(Path.read_bytes, segments(tmp_path / "log"))).splitlines()]
    assert sum(line["event"] == "decision" for line in found) >= 6 * 20


def test_what_the_dead_left_open_is_closed_as_their_own_log_would_have_been(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from authz.audit.writer import AuditLog
from tests.audit.logs import record
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        log = AuditLog(Path({str(tmp_path / "log")!r}), shared=True)
        log.write(record())
        log.tend()
        log.write(record())
        os.kill(os.getppid(), signal.SIGUSR1)
        signal.pause()
    signal.sigwait([signal.SIGUSR1])
    children.append(pid)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    anchors, mirror = tmp_path / "anchors.jsonl", tmp_path / "mirror.jsonl"
    settings = LogSettings(
        durability=Durability.SYNCED, checkpoint_seconds=7.0, rotate_bytes=1 << 30,
        anchors=(FileAnchor(anchors),), mirrors=(FileMirror(mirror, 1000),),
    )  # fmt: skip
    with AuditLog(tmp_path / "log", settings, shared=True) as log:
        log.write(record())
    report = verify([tmp_path / "log"], anchors=[anchors])
    assert report.sound, report.damage
    assert [(chain.closed, chain.anchored) for chain in report.chains] == [
        (True, chain.sealed) for chain in report.chains
    ]
    assert len(report.chains) == 2
    written = b"".join(map(Path.read_bytes, segments(tmp_path / "log"))).splitlines()
    opened = [json.loads(line) for line in written if b'"event":"log.open"' in line]
    assert sum((line["durability"], line["checkpoint_seconds"]) == ("synced", "7.0") for line in opened) == 2
    mirrored = mirror.read_bytes()
    assert mirrored.count(b'"event":"log.close"') == 2
    assert mirrored.count(b'"event":"decision"') == 1


def test_what_was_counted_before_a_fork_is_told_by_the_parent_alone(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from authz.audit.best_effort import QueuedLog
from authz.audit.mirrors import FileMirror
from authz.audit.selection import Detail, Selection, SelectionRule
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from tests.audit.logs import record
selection = Selection([SelectionRule(("*",), Detail.COUNTED)])
mirror = FileMirror(Path({str(tmp_path / "mirror.jsonl")!r}), 1000)
mirror.dropped = 5
settings = LogSettings(selection=selection, sync_seconds=60, mirrors=(mirror,))
log = AuditLog(Path({str(tmp_path / "log")!r}), settings, shared=True)
queue = QueuedLog(log, 100)
for _ in range(7):
    log.write(record())
with queue._lock:
    queue._dropped = 3
    pid = os.fork()
if not pid:
    queue.write(record())
    queue.write(record(allow=False))
    queue.close()
    os._exit(0)
os.waitpid(pid, 0)
queue.write(record(allow=False))
queue.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
    report = verify([tmp_path / "log"])
    assert report.sound, report.damage
    assert sorted((chain.omitted, chain.lost) for chain in report.chains) == [(1, 0), (7, 3)]
    notes = [line for line in (tmp_path / "mirror.jsonl").read_text().splitlines() if "mirror.dropped" in line]
    assert [json.loads(note)["count"] for note in notes] == [5]


def test_the_end_of_a_fork_leaves_the_parents_log_alone(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from authz.audit.writer import AuditLog
from tests.audit.logs import record
log = AuditLog(Path({str(tmp_path / "audit.jsonl")!r}))
log.write(record())
pid = os.fork()
if not pid:
    log.close()
    os._exit(0)
os.waitpid(pid, 0)
assert Path({str(tmp_path / ".audit.jsonl.reserve")!r}).exists()
log.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
    assert verify([tmp_path]).chains[0].closed


def test_a_file_for_one_process_is_not_written_by_its_fork(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import record
log = AuditLog(Path({str(tmp_path / "audit.jsonl")!r}))
pid = os.fork()
if not pid:
    try:
        log.write(record())
    except AuditError as exc:
        print(exc, flush=True)
    log.close()
    os._exit(0)
os.waitpid(pid, 0)
log.write(record())
log.close()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert "write `directory:` instead of `file:`" in done.stdout
    assert verify([tmp_path]).chains[0].closed


def test_a_kill_between_two_runs_is_told_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    program = f"""
import os, signal
from pathlib import Path
from authz.audit.writer import AuditLog
from tests.audit.logs import record
log = AuditLog(Path({str(path)!r}))
log.write(record())
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    AuditLog(path).close()
    told = next(line for line in lines(path) if line["event"] == "log.recovered")
    assert (told["cause"], told["torn_bytes"]) == ("the log was not closed", 0)
