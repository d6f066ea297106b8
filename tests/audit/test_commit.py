"""Group commit: who waits for the disk, and for how many syncs."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authz.audit.commit import GroupCommit
from authz.audit.settings import Durability, LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import events, lines, record

SYNCED = LogSettings(durability=Durability.SYNCED, sync_seconds=60)


class Disk:
    """Counts appends and syncs, and lets a test hold a sync up."""

    def __init__(self) -> None:
        self.appended = self.syncs = 0
        self.go = threading.Event()
        self.go.set()

    def append(self) -> int:
        self.appended += 1
        return self.appended

    def sync(self) -> int:
        ticket = self.appended
        self.syncs += 1
        assert self.go.wait(10)
        return ticket


def test_coroutines_that_go_on_together_share_each_sync() -> None:
    disk = Disk()
    commit = GroupCommit(disk.sync)

    async def one() -> None:
        for _ in range(10):
            await commit.wait_async(disk.append())

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(200)))

    asyncio.run(main())
    commit.close()
    assert (disk.appended, disk.syncs) == (2000, 10)


def test_a_coroutine_that_is_cancelled_takes_nobody_with_it() -> None:
    disk = Disk()
    commit = GroupCommit(disk.sync)

    async def main() -> list[object]:
        disk.go.clear()
        tasks = [asyncio.ensure_future(commit.wait_async(disk.append())) for _ in range(3)]
        while not disk.syncs:
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        disk.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(main())
    commit.close()
    assert (first, third) == (None, None)
    assert isinstance(second, asyncio.CancelledError)


def test_what_is_appended_while_the_disk_works_waits_for_the_next_sync() -> None:
    disk = Disk()
    commit = GroupCommit(disk.sync)

    async def main() -> int:
        disk.go.clear()
        early = asyncio.ensure_future(commit.wait_async(disk.append()))
        while not disk.syncs:
            await asyncio.sleep(0.001)
        late = asyncio.ensure_future(commit.wait_async(disk.append()))
        await asyncio.sleep(0.01)
        begun = disk.syncs
        disk.go.set()
        await asyncio.gather(early, late)
        return begun

    assert asyncio.run(main()) == 1
    commit.close()
    assert disk.syncs == 2


def test_two_loops_and_a_thread_wait_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def many(log: AuditLog) -> None:
        async def one() -> None:
            for _ in range(20):
                await log.write_async(record())

        await asyncio.gather(*(one() for _ in range(10)))

    def plain(log: AuditLog) -> None:
        for _ in range(50):
            log.write(record())

    with AuditLog(path, SYNCED) as log, ThreadPoolExecutor(3) as pool:
        loops = [pool.submit(asyncio.run, many(log)) for _ in range(2)]
        done = [*loops, pool.submit(plain, log)]
        assert [each.result(30) for each in done] == [None] * 3
    assert events(path).count("decision") == 450
    assert verify([path]).sound


def test_a_log_that_is_closed_while_a_coroutine_waits_has_its_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, SYNCED)

    async def main() -> None:
        waiting = asyncio.ensure_future(log.write_async(record()))
        await asyncio.sleep(0)
        log.close()
        await asyncio.wait_for(waiting, 10)

    asyncio.run(main())
    assert events(path).count("decision") == 1


def test_a_closed_log_whose_last_sync_failed_does_not_claim_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", SYNCED)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    async def main() -> None:
        waiting = asyncio.ensure_future(log.write_async(record()))
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            log.close()
        with pytest.raises(AuditError, match="cannot be synced"):
            await asyncio.wait_for(waiting, 10)

    asyncio.run(main())


def test_a_sync_that_failed_fails_everybody_who_waited_for_it() -> None:
    started, go = threading.Event(), threading.Event()
    fail = True

    def sync() -> int:
        if fail:
            started.set()
            go.wait(10)
            commit.give_up(0, 2)
            return 2
        return 3

    commit = GroupCommit(sync)
    outcomes: dict[int, str] = {}

    def wait(ticket: int) -> None:
        try:
            commit.wait(ticket)
            outcomes[ticket] = "on the disk"
        except AuditError:
            outcomes[ticket] = "not"

    first = threading.Thread(target=wait, args=(1,))
    first.start()
    started.wait(10)
    second = threading.Thread(target=wait, args=(2,))
    second.start()
    go.set()
    first.join()
    second.join()
    fail = False
    wait(3)
    assert outcomes == {1: "not", 2: "not", 3: "on the disk"}
    with pytest.raises(AuditError):
        asyncio.run(commit.wait_async(2))
    commit.close()


TEND = AuditLog.tend
BESIDE: dict[str, Callable[[AuditLog], object]] = {
    "tend": TEND,
    "rotate": lambda log: log._rotate(),
    "retire": lambda log: log._retire(1),
    "replace": lambda log: log._replace("the file was cut short"),
    "close": AuditLog.close,
}


@pytest.mark.parametrize("what", BESIDE)
def test_a_sync_that_failed_beside_the_calls_fails_whoever_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A kernel tells a failure once: to whomever, it is kept for those who wait."""
    path, segment = tmp_path / "audit.jsonl", tmp_path / "audit-000000000001.jsonl"
    real, left = os.fdatasync, 1

    def once(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    monkeypatch.setattr(AuditLog, "tend", lambda _: 60.0)
    with AuditLog(path, SYNCED) as log:
        log._rotate()
        os.utime(segment, (1, 1))
        ticket = log._append(record())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", once)
            BESIDE[what](log)
            assert left == 0 or what == "close"
            with pytest.raises(AuditError, match="cannot be synced"):
                log._commit.wait(ticket)
            with pytest.raises(AuditError, match="cannot be synced"):
                asyncio.run(log._commit.wait_async(ticket))
            assert segment.exists(), "what says that it was retired is not on the disk"
        if what != "close":
            log.write(record())
    assert events(path).count("audit.unsynced") == 1
    assert verify([tmp_path]).damage == [] or what == "replace"


def test_a_disk_that_takes_nothing_any_more_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    path = tmp_path / "audit.jsonl"
    monkeypatch.setattr(AuditLog, "tend", lambda _: 60.0)
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        TEND(log)
        log.write(record())
        last = lines(path)[-1]["seq"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            for _ in range(5):
                TEND(log)
            log.write(record())
            TEND(log)
        log.write(record())
        TEND(log)
        assert events(path).count("audit.unsynced") == 1
        again = lines(path)[-1]["seq"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            log.write(record())
            TEND(log)
            TEND(log)
    told = [line for line in lines(path) if line["event"] == "audit.unsynced"]
    assert [line["after"] for line in told] == [last - 1, again]


def test_whatever_stops_a_sync_is_told_to_whoever_waits() -> None:
    def sync() -> int:
        raise RuntimeError("the disk is gone")

    commit = GroupCommit(sync)
    with pytest.raises(RuntimeError, match="is gone"):
        asyncio.run(asyncio.wait_for(commit.wait_async(1), 10))
    with pytest.raises(RuntimeError, match="is gone"):
        commit.wait(1)
    commit.close()


def test_without_room_for_a_thread_the_loop_syncs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    disk = Disk()
    commit = GroupCommit(disk.sync)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        asyncio.run(asyncio.wait_for(commit.wait_async(disk.append()), 10))
    assert disk.syncs == 1


def test_a_loop_that_ended_is_no_failure() -> None:
    disk = Disk()
    commit = GroupCommit(disk.sync)
    disk.go.clear()

    async def main() -> None:
        waiting = asyncio.ensure_future(commit.wait_async(disk.append()))
        while not disk.syncs:
            await asyncio.sleep(0.001)
        waiting.cancel()

    asyncio.run(main())
    disk.go.set()
    time.sleep(0.05)
    asyncio.run(asyncio.wait_for(commit.wait_async(disk.append()), 10))
    commit.close()


def test_a_loop_that_waits_for_no_disk_writes_as_a_thread_does(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        asyncio.run(log.write_async(record()))
        assert events(path).count("decision") == 1
