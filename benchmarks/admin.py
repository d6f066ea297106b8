"""What a policy admin waits for: check of 100,000 rules, diff of two policies of 10,000, each command's start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from authz.admin.access import matrix
from authz.admin.check import check
from authz.admin.diff import diff
from authz.policy.load import load_bundle
from benchmarks.policies import workload
from benchmarks.table import machine, write

_EXPLANATION = """
Medians of the library function behind each command, with the reading of its files where it reads them; a start is a
process. On a machine that others use as well, CPU seconds say more than seconds of the clock. Each difference comes
with a call that both policies were asked.
"""
_STARTS = ("check", "can", "diff", "matrix", "test")


def run(*, quick: bool = False) -> None:
    """Measure, print, and write benchmarks/results/admin.md."""
    large, small, rounds = (10_000, 1_000, 1) if quick else (100_000, 10_000, 3)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload(large).write(folder / "large")
        workload(small).write(folder / "old")
        workload(small, seed=8).write(folder / "other")
        workload(small).write(folder / "near")
        policy = folder / "near" / "policy.csv"
        lines = policy.read_text().splitlines()
        policy.write_text("\n".join(line for number, line in enumerate(lines) if number % 100 != 99) + "\n")
        old, other, near = (load_bundle(folder / each) for each in ("old", "other", "near"))

        def measure(what: str, budget: str, act: Callable[[], object]) -> None:
            walls, works = [], []
            for _ in range(rounds):
                began, worked = time.perf_counter(), _worked()
                found = act()
                walls.append(time.perf_counter() - began)
                works.append(_worked() - worked)
            middle = [f"{sorted(times)[rounds // 2]:.2f} s" for times in (works, walls)]
            rows.append([what, str(found), *middle, budget])

        measure(f"check {large:,} rules", "3 s", lambda: f"{len(check(folder / 'large').findings):,} findings")
        measure(f"check --no-lint {large:,} rules", "", lambda: len(check(folder / "large", lint=False).findings))
        measure(f"diff {small:,} rules, all others", "5 s", lambda: f"{len(diff(old, other).changes):,} changes")
        measure(f"diff {small:,} rules, 1% fewer", "5 s", lambda: f"{len(diff(old, near).changes):,} changes")
        measure("matrix, 10 subjects", "", lambda: f"{len(matrix(old, [f'role:{r}' for r in _ROLES]).cells):,} cells")
        for command in _STARTS:
            words = [sys.executable, "-m", "authz", "policy", command, "--help"]
            measure(f"start of `policy {command}`", "0.3 s", lambda words=words: _start(words))  # type: ignore[misc]
    header = ["what", "found", "CPU", "wall", "budget"]
    write("admin", _EXPLANATION, header, rows, machine(f"{rounds} rounds, in one process"))


_ROLES = ("reader", "writer", "admin", "auditor", "reader-lead", "writer-lead", "admin-lead", "everyone", "worker", "x")


def _worked() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _start(words: list[str]) -> str:
    subprocess.run(words, check=True, capture_output=True)
    return "--help"
