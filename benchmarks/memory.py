"""What callers and namespaces that nobody knows leave behind: the process's memory, before and after many of them.

Every decision is for a caller, a namespace and a set of roles that were never seen before and never come again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.bundle import BundleAuthorizer
from authz.policy.load import load_bundle
from benchmarks.policies import METHODS, workload
from benchmarks.table import machine, write

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes of this process in memory now."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def ask(authorizer: BundleAuthorizer, first: int, count: int) -> None:
    """``count`` decisions of which none resembles another, counted from ``first``."""
    methods = list(METHODS)
    for number in range(first, first + count):
        principal = Principal(PrincipalKind.TOKEN, "corp", f"stranger-{number}", "corp:")
        namespace = f"nowhere-{number}"
        claims = Claims(principal, frozenset({f"role-{number}"}), {namespace: frozenset({"reader"})})
        authorizer.authorize(claims, Call(methods[number % len(methods)], (namespace,)))


def run(*, quick: bool) -> None:
    """Ask, and write how the memory grew."""
    total = 200_000 if quick else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        authorizer = authorizer_for(load_bundle(workload(1_000, asked=0).write(Path(folder) / "bundle")))
    ask(authorizer, -1_000, 1_000)
    before = resident()
    rows = []
    for part in range(10):
        ask(authorizer, part * total // 10, total // 10)
        grown = (resident() - before) / 2**20
        rows.append([f"{(part + 1) * total // 10:,}", f"{grown:.1f} MB"])
    header = ["distinct unknown callers and namespaces", "grown by"]
    write("memory", __doc__ or "", header, rows, machine("resident memory of one process"))
