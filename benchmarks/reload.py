"""Decisions while the policy is reloaded: how long the slowest take, beside the same load without a reload.

Eight threads and an event loop ask one call every millisecond each, while the watcher takes 200 policies of 10,000
rules, one in ten of them broken. In turns with that, for as long each time, the same is measured with nothing being
reloaded, and with a thread beside that only counts: a thread that wants to run waits for the others as it is.

*Of its own* are those of the decisions over 10 ms in which this process itself worked for more than 10 ms, in any of
its threads: in the others the machine gave its time to somebody else. *Pauses* are those of the garbage collector that
took over 10 ms.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from authz.decision import authorizer_for
from authz.decision.bundle import BundleAuthorizer
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.watch import DirectorySource, Watcher
from benchmarks.policies import Oracle, workload
from benchmarks.table import machine, write

PAUSE = 0.001
SLOW = 0.01
TURNS = 10


class _Seen:
    """What was seen of the decisions of one kind of turn."""

    def __init__(self) -> None:
        self.spent: list[float] = []
        self.own = self.wrong = self.raised = self.pauses = 0
        self.seconds = 0.0

    def row(self) -> list[str]:
        """Its row of the table, without the name."""
        spent = sorted(self.spent)
        at = [spent[len(spent) // 2], spent[len(spent) * 99 // 100], spent[len(spent) * 999 // 1000], spent[-1]]
        slow = sum(value > SLOW for value in spent)
        counts = (slow, self.own, self.pauses, self.wrong, self.raised)
        return [f"{len(spent):,}", *(f"{value * 1e6:,.1f} us" for value in at), *map(str, counts)]


class _Load:
    """Threads and a loop that ask, and what they saw."""

    def __init__(self, rules: int, folder: Path) -> None:
        self.work = workload(rules, asked=500)
        self.path = self.work.write(folder / "bundle")
        oracle = Oracle(self.work)
        self.asked = [(self.work.claims[who], call) for who, call in self.work.asked]
        self.expected = [oracle.answer(claims, call) for claims, call in self.asked]
        self.now: BundleAuthorizer = authorizer_for(load_bundle(self.path))
        self.rejected = self.taken = self.written = 0
        self.seen = _Seen()
        self.watcher = Watcher(DirectorySource(self.path), self.now.revision.id, self.take, self.reject)
        self.text = self.work.csv()

    def take(self, revision: Revision) -> None:
        authorizer = authorizer_for(revision)
        for claims, call in self.asked[:50]:
            authorizer.authorize(claims, call)
        self.now = authorizer
        self.taken += 1

    def reject(self, _: object) -> None:
        self.rejected += 1

    def ask(self, number: int) -> None:
        seen = self.seen
        claims, call = self.asked[number % len(self.asked)]
        worked, start = time.process_time(), time.perf_counter()
        try:
            effect = self.now.authorize(claims, call).effect.value
        except Exception:
            seen.raised += 1
            return
        spent = time.perf_counter() - start
        if spent > SLOW:
            seen.own += time.process_time() - worked > SLOW
        seen.spent.append(spent)
        seen.wrong += effect != self.expected[number % len(self.asked)]

    def turn(self, seen: _Seen, beside: Callable[[], None]) -> None:
        """Ask for as long as ``beside`` takes."""
        done = threading.Event()
        self.seen = seen

        def from_a_thread(number: int) -> None:
            while not done.is_set():
                self.ask(number)
                number += 7
                time.sleep(PAUSE)

        async def from_a_loop() -> None:
            number = 3
            while not done.is_set():
                self.ask(number)
                number += 11
                await asyncio.sleep(PAUSE)

        begun = 0.0

        def paused(phase: str, _: object) -> None:
            nonlocal begun
            if phase == "start":
                begun = time.perf_counter()
            else:
                seen.pauses += time.perf_counter() - begun > SLOW

        threads = [threading.Thread(target=from_a_thread, args=(number,)) for number in range(8)]
        threads.append(threading.Thread(target=lambda: asyncio.run(from_a_loop())))
        gc.callbacks.append(paused)
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        beside()
        done.set()
        for thread in threads:
            thread.join()
        seen.seconds += time.perf_counter() - start
        gc.callbacks.remove(paused)

    def reload(self, times: int) -> None:
        """Save ``times`` policies, and have each taken or rejected."""
        for _ in range(times):
            broken = "p, role:reader, *, *, reed, allow\n" if self.written % 10 == 9 else ""
            (self.path / "new").write_text(f"# {self.written}\n{self.text}{broken}")
            (self.path / "new").rename(self.path / "policy.csv")
            self.watcher.look()
            self.watcher.look()
            self.written += 1


def _count(seconds: float) -> None:
    number, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        number += 1


def run(*, quick: bool) -> None:
    """Measure, and write the table."""
    reloads = 20 if quick else 200
    nothing, counting, reloading = _Seen(), _Seen(), _Seen()
    with tempfile.TemporaryDirectory() as name:
        load = _Load(10_000, Path(name))
        for _ in range(TURNS):
            before = reloading.seconds
            load.turn(reloading, lambda: load.reload(reloads // TURNS))
            seconds = reloading.seconds - before
            load.turn(nothing, lambda: time.sleep(seconds))  # noqa: B023 - called at once
            load.turn(counting, lambda: _count(seconds))  # noqa: B023 - called at once
    rows = [
        ["nothing", *nothing.row()],
        ["nothing, a thread counts", *counting.row()],
        [f"{load.taken} taken, {load.rejected} rejected", *reloading.row()],
    ]
    header = ["reloaded", "decisions", "p50", "p99", "p99.9", "slowest"]
    header += ["over 10 ms", "of its own", "pauses", "wrong", "raised"]
    write("reload", __doc__ or "", header, rows, machine(f"{reloading.seconds:.0f} s each, in {TURNS} turns"))
