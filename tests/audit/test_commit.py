"""Group commit: who waits for the disk, and for how many syncs."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authz.audit.commit import GroupCommit
from authz.audit.settings import Durability, LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import events, record

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
    commit = GroupCommit(disk.sync, lambda _: 0)

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
    commit = GroupCommit(disk.sync, lambda _: 0)

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
    commit = GroupCommit(disk.sync, lambda _: 0)

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


def test_whatever_stops_a_sync_is_told_to_whoever_waits() -> None:
    def sync() -> int:
        raise RuntimeError("the disk is gone")

    commit = GroupCommit(sync, lambda _: 0)
    with pytest.raises(RuntimeError, match="is gone"):
        asyncio.run(asyncio.wait_for(commit.wait_async(1), 10))
    with pytest.raises(RuntimeError, match="is gone"):
        commit.wait(1)
    commit.close()


def test_without_room_for_a_thread_the_loop_syncs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    disk = Disk()
    commit = GroupCommit(disk.sync, lambda _: 0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        asyncio.run(asyncio.wait_for(commit.wait_async(disk.append()), 10))
    assert disk.syncs == 1


def test_a_loop_that_ended_is_no_failure() -> None:
    disk = Disk()
    commit = GroupCommit(disk.sync, lambda _: 0)
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
