"""Deciding while the policy is reloaded: threads and an event loop ask, and every answer is one revision's own.

(Two hundred reloads of ten thousand rules, with times: `python -m benchmarks reload`.)
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.bundle import BundleAuthorizer
from authz.errors import PolicyError
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.watch import DirectorySource, Watcher
from tests.bundle import caller, write_bundle

GET, PUT = Call("/shop.Orders/Get", ("a",)), Call("/shop.Orders/Put", ("a",))
READER = caller("reader")
# What a reader may do, by the number of the policy's lines: the odd policies let a reader write, too.
FILLER = "".join(f"p, role:team-{i}, ns-{i}, *, read, allow\n" for i in range(300))
EVEN = FILLER + "p, role:reader, *, *, read, allow\n"
ODD = EVEN + "p, role:reader, *, *, write, allow\n"
BROKEN = EVEN + "p, role:reader, *, *, write\n"
RELOADS = 20


class Holder:
    """One reference to whoever decides, as the engine holds it."""

    def __init__(self, path: Path) -> None:
        self.rejected = 0
        self.revisions: dict[str, bool] = {}
        self.now: BundleAuthorizer
        self.take(load_bundle(path))

    def take(self, revision: Revision) -> None:
        authorizer = authorizer_for(revision)
        self.revisions[revision.id] = revision.lines[-1].fields[3] == "write"
        self.now = authorizer

    def reject(self, _: PolicyError) -> None:
        self.rejected += 1


def wrong(holder: Holder, claims: Claims) -> str:
    """What is wrong with the answers that are given now, if anything."""
    authorizer = holder.now
    for call in (GET, PUT):
        verdict = authorizer.authorize(claims, call)
        expected = call is GET or holder.revisions[verdict.revision]
        if bool(verdict.effect) is not expected or verdict.revision != authorizer.revision.id:
            return f"{call.method}: {verdict}"
    return ""


def test_reload_under_load(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", EVEN)
    holder = Holder(path)
    faults: list[object] = []
    done = threading.Event()
    asked = [0] * 9

    def ask(number: int) -> None:
        try:
            while not done.is_set():
                asked[number] += 1
                if found := wrong(holder, READER if number % 2 else caller("reader", user=f"u{asked[number] % 50}")):
                    faults.append(found)
        except Exception as exc:
            faults.append(exc)

    async def ask_from_a_loop() -> None:
        while not done.is_set():
            asked[8] += 1
            if found := wrong(holder, READER):
                faults.append(found)
            await asyncio.sleep(0)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=lambda: asyncio.run(ask_from_a_loop())))
    for thread in threads:
        thread.start()
    watcher = Watcher(DirectorySource(path), holder.now.revision.id, holder.take, holder.reject)
    try:
        for number in range(RELOADS):
            policy = BROKEN if number % 10 == 9 else ODD if number % 2 else EVEN
            (path / "policy.csv.new").write_text(f"# {number}\n{policy}")
            (path / "policy.csv.new").rename(path / "policy.csv")
            watcher.look()
            watcher.look()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert holder.rejected == RELOADS // 10
    assert len(holder.revisions) == 1 + RELOADS - RELOADS // 10
    assert all(asked)
