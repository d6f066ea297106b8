"""The audit log: a record beside stdlib logging, group commit, verification, questions to ten million records.

Everything in one run, on one disk. The lines of stdlib logging are made by `json.dumps` and written by a FileHandler:
without a chain, without a promise. The records are of 100 callers, 20 methods and 10 namespaces. CPU is of the process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from authz.audit.checkpoint import SigningKey
from authz.audit.record import Record, new_id
from authz.audit.settings import Durability, LogSettings
from authz.audit.writer import AuditLog
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Effect, Rule
from authz.errors import Place
from authz.reason import Reason
from benchmarks.table import machine, write

RULE = Rule("p, role:reader, *, *, read, allow", Place("policies/default/policy.csv", 12), ("role:reader",))


def records(count: int) -> list[Record]:
    """Records of different calls, nine allows to a denial."""
    callers = [
        Claims(Principal(PrincipalKind.TOKEN, "corp", f"user-{i}", "corp:", key_id="rsa-1"), frozenset({"reader"}))
        for i in range(100)
    ]
    made = []
    for i in range(count):
        claims, allow = callers[i % 100], i % 10 != 0
        effect, reason = (Effect.ALLOW, Reason.ALLOWED) if allow else (Effect.NO_OPINION, Reason.NO_RULE)
        decision = Decision(effect, reason, RULE if allow else None, "3b" * 32, claims.principal, claims, new_id())
        call = Call(
            f"/example.orders.v1.Orders/Method{i % 20}", (f"ns-{i // 7 % 10}",), None, "ipv4:10.0.0.7:40412",
            "grpc-python/1.85.1", f"{i:032x}",
        )  # fmt: skip
        made.append(Record(decision, call, time.time_ns(), 9000, "read"))
    return made


def _cpu(work: Callable[[], None], count: int, rounds: int = 5) -> float:
    """The least microseconds of CPU for one of ``count``, over some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, (time.process_time() - began) / count * 1e6)
    return best


def _stdlib(folder: Path, entries: list[Record]) -> float:
    logger = logging.Logger("stdlib")
    handler = logging.FileHandler(folder / "stdlib.log")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)

    def work() -> None:
        for entry in entries:
            logger.info(json.dumps(entry.fields()))

    try:
        return _cpu(work, len(entries))
    finally:
        handler.close()


def _inline(folder: Path, entries: list[Record], key: SigningKey) -> float:
    with AuditLog(folder / "inline.jsonl", LogSettings(key=key)) as log:

        def work() -> None:
            for entry in entries:
                log.write(entry)

        return _cpu(work, len(entries))


def _loop(folder: Path, entries: list[Record], key: SigningKey) -> float:
    """Records a second, from 2,000 coroutines that each wait for the disk."""
    with AuditLog(folder / "loop.jsonl", LogSettings(key=key, durability=Durability.SYNCED)) as log:

        async def one(part: list[Record]) -> None:
            for entry in part:
                await log.write_async(entry)

        async def main() -> float:
            began = time.perf_counter()
            await asyncio.gather(*(one(entries[i::2000]) for i in range(2000)))
            return len(entries) / (time.perf_counter() - began)

        return max(asyncio.run(main()) for _ in range(3))


def _threads(folder: Path, entries: list[Record], key: SigningKey) -> float:
    with AuditLog(folder / "threads.jsonl", LogSettings(key=key, durability=Durability.SYNCED)) as log:

        def one(part: list[Record]) -> None:
            for entry in part:
                log.write(entry)

        threads = [threading.Thread(target=one, args=(entries[i::64],)) for i in range(64)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(entries) / (time.perf_counter() - began)


VERIFY = """
import resource, sys, time
from pathlib import Path
from authz.audit.checkpoint import VerifyingKey
from authz.audit.verify import verify
key, log = VerifyingKey.read(Path(sys.argv[1])), Path(sys.argv[2])
best = 1e9
for _ in range(3):
    began = time.process_time()
    report = verify([log], [key])
    best = min(best, time.process_time() - began)
assert report.sound
print(report.chains[0].lines / best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _verify(folder: Path) -> tuple[float, float]:
    """Lines for each second of CPU, and the most memory of the process in MB."""
    command = [sys.executable, "-c", VERIFY, str(folder / "audit.pub"), str(folder / "inline.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines, megabytes = map(float, done.stdout.split())
    return lines, megabytes


def _questions(folder: Path, count: int) -> list[tuple[str, str, str, str]]:
    """Questions to compacted data: a segment of real records, compacted, as often as it takes to be ``count``."""
    import duckdb

    from authz.review.compact import compact
    from authz.review.logs import Logs

    part = min(count, 1_000_000)
    source = folder / "segments"
    source.mkdir()
    entries = records(100_000)
    with AuditLog(source / "audit.jsonl", LogSettings(rotate_bytes=10**12)) as log:
        for _ in range(part // len(entries)):
            for entry in entries:
                log.write(entry)
    closed = source / "audit-000000000001.jsonl"
    (source / "audit.jsonl").rename(closed)
    began = time.perf_counter()
    made = compact([closed])[0]
    took = time.perf_counter() - began
    closed.unlink()
    for number in range(1, count // part):
        (source / f"copy-{number}.parquet").hardlink_to(made.path)
    rows = [("compact, records a second", f"{made.lines / took:,.0f}", "", f"{made.before / made.after:.1f}x smaller")]
    with Logs([source]) as logs:
        for name, sql in (
            ("group by decision", "SELECT decision, count(*) AS n FROM decisions GROUP BY decision"),
            ("refusals by subject", "SELECT sub, count(*) AS n FROM decisions WHERE decision <> 'allow' GROUP BY sub"),
            (
                "one namespace, by method",
                "SELECT method, count(*) AS n FROM decisions WHERE namespace = 'ns-3' GROUP BY 1",
            ),
        ):
            best = float("inf")
            for _ in range(3):
                began = time.perf_counter()
                answer = logs.ask(sql)
                best = min(best, time.perf_counter() - began)
            assert answer
            target = "0.5 s" if name == "group by decision" else ""
            rows.append((f"{name}, {made.lines * (count // part):,} lines", f"{best:.2f} s", target, ""))
    rows.append(("DuckDB", str(duckdb.__version__), "", ""))
    return rows


def run(*, quick: bool = False) -> None:
    """Measure, and write the table."""
    count = 10_000 if quick else 50_000
    with tempfile.TemporaryDirectory(prefix="authz-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        key = SigningKey.generate(folder / "audit.key")
        entries = records(count)
        stdlib = _stdlib(folder, entries)
        inline = _inline(folder, entries, key)
        loop = _loop(folder, entries, key)
        threads = _threads(folder, entries[: count // 2], key)
        lines, megabytes = _verify(folder)
        size = (folder / "inline.jsonl").stat().st_size / (5 * count)
        rows = [
            ("one record, stdlib logging and json", f"{stdlib:.1f} us of CPU", "", "no chain"),
            ("one record, written", f"{inline:.1f} us of CPU", "6 us", f"chain and checkpoints, {size:.0f} bytes"),
            ("synced, 2,000 coroutines", f"{loop:,.0f} records/s", "50,000", "each on the disk before it is answered"),
            ("synced, 64 threads", f"{threads:,.0f} records/s", "", "each on the disk before it is answered"),
            ("verify, one core", f"{lines:,.0f} lines/s", "400,000", f"with signatures, {megabytes:.0f} MB"),
            *_questions(folder, 200_000 if quick else 10_000_000),
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(("most memory of the process that asks", f"{peak:,.0f} MB", "", ""))
    write(
        "audit", __doc__ or "", ("what", "measured", "target", "note"), rows,
        machine(f"{count:,} records a round" + ("; a quick look" if quick else "")),
    )  # fmt: skip
