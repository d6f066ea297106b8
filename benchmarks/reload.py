"""Decisions while the policy is reloaded: how long the slowest take, beside the same load without a reload.

Eight threads and an event loop ask one call every millisecond each, while the watcher takes 200 policies of 10,000
rules, one in ten of them broken. A thread that wants to run waits for the others as it is: the same is measured with
nothing being reloaded.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path

from authz.decision import authorizer_for
from authz.decision.bundle import BundleAuthorizer
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.watch import DirectorySource, Watcher
from benchmarks.policies import Oracle, workload
from benchmarks.table import machine, write

PAUSE = 0.001


class _Load:
    """Threads and a loop that ask, and what they saw."""

    def __init__(self, rules: int, reloads: int, folder: Path) -> None:
        self.work = workload(rules, asked=500)
        self.path = self.work.write(folder / "bundle")
        oracle = Oracle(self.work)
        self.asked = [(self.work.claims[who], call) for who, call in self.work.asked]
        self.expected = [oracle.answer(claims, call) for claims, call in self.asked]
        self.reloads = reloads
        self.now: BundleAuthorizer = authorizer_for(load_bundle(self.path))
        self.rejected = self.taken = self.wrong = self.raised = 0
        self.spent: list[float] = []

    def take(self, revision: Revision) -> None:
        authorizer = authorizer_for(revision)
        for claims, call in self.asked[:50]:
            authorizer.authorize(claims, call)
        self.now = authorizer
        self.taken += 1

    def reject(self, _: object) -> None:
        self.rejected += 1

    def ask(self, number: int) -> None:
        claims, call = self.asked[number % len(self.asked)]
        start = time.perf_counter()
        try:
            effect = self.now.authorize(claims, call).effect.value
        except Exception:
            self.raised += 1
            return
        self.spent.append(time.perf_counter() - start)
        self.wrong += effect != self.expected[number % len(self.asked)]

    def under_load(self, *, reload: bool, seconds: float) -> list[str]:
        """One row of the table."""
        done = threading.Event()
        self.spent = []

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

        threads = [threading.Thread(target=from_a_thread, args=(number,)) for number in range(8)]
        threads.append(threading.Thread(target=lambda: asyncio.run(from_a_loop())))
        for thread in threads:
            thread.start()
        if reload:
            self._reload()
        else:
            time.sleep(seconds)
        done.set()
        for thread in threads:
            thread.join()
        spent = sorted(self.spent)
        at = [spent[len(spent) // 2], spent[len(spent) * 99 // 100], spent[len(spent) * 999 // 1000], spent[-1]]
        slow = sum(value > 0.01 for value in spent)
        return [
            f"{len(spent):,}",
            *(f"{value * 1e6:,.1f} us" for value in at),
            str(slow),
            str(self.wrong),
            str(self.raised),
        ]

    def _reload(self) -> None:
        watcher = Watcher(DirectorySource(self.path), self.now.revision.id, self.take, self.reject)
        text = self.work.csv()
        for number in range(self.reloads):
            broken = "p, role:reader, *, *, reed, allow\n" if number % 10 == 9 else ""
            (self.path / "new").write_text(f"# {number}\n{text}{broken}")
            (self.path / "new").rename(self.path / "policy.csv")
            watcher.look()
            watcher.look()


def run(*, quick: bool) -> None:
    """Measure, and write the table."""
    reloads = 20 if quick else 200
    with tempfile.TemporaryDirectory() as name:
        load = _Load(10_000, reloads, Path(name))
        start = time.perf_counter()
        reloading = load.under_load(reload=True, seconds=0)
        seconds = time.perf_counter() - start
        still = load.under_load(reload=False, seconds=seconds)
    rows = [["nothing", *still], [f"{load.taken} taken, {load.rejected} rejected", *reloading]]
    header = ["reloaded", "decisions", "p50", "p99", "p99.9", "slowest", "over 10 ms", "wrong", "raised"]
    write("reload", __doc__ or "", header, rows, machine(f"{seconds:.0f} s each"))
