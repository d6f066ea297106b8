"""Records and logs to test with."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from authz.audit.finding import Kind
from authz.audit.record import Record, new_id
from authz.audit.verify import VerifyReport
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Effect, Rule
from authz.errors import Place
from authz.reason import Reason

ALICE = Principal(PrincipalKind.TOKEN, "corp", "alice", "corp:", key_id="rsa-1")
CLAIMS = Claims(ALICE, frozenset({"reader"}), used=("permissions",))
RULE = Rule("p, role:reader, *, *, read, allow", Place("policies/default/policy.csv", 12), ("role:reader",))
METHOD = "/example.orders.v1.Orders/GetOrder"


def record(
    *,
    allow: bool = True,
    method: str = METHOD,
    namespaces: Sequence[str | None] = ("acme",),
    audit_id: str | None = None,
    claims: Claims = CLAIMS,
    agent: str = "grpc-python",
) -> Record:
    """A record of a call by Alice."""
    effect, reason = (Effect.ALLOW, Reason.ALLOWED) if allow else (Effect.NO_OPINION, Reason.NO_RULE)
    decision = Decision(
        effect, reason, RULE if allow else None, "3b" * 32, claims.principal, claims, audit_id or new_id()
    )
    call = Call(method, tuple(namespaces), None, "ipv4:127.0.0.1:40412", agent)
    return Record(decision, call, time.time_ns(), 1000, "read")


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a log, in the order of its segments."""
    files = [*sorted(path.parent.glob(f"{path.stem}-*.jsonl")), path]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def events(path: Path) -> list[str]:
    """What the lines are, without the checkpoints."""
    return [line["event"] for line in lines(path) if line["event"] != "checkpoint"]


def kinds(report: VerifyReport) -> set[Kind]:
    """Of what was found."""
    return {finding.kind for finding in report.findings}


def no_space(*_: object) -> int:
    """In place of a write: the disk is full."""
    raise OSError(errno.ENOSPC, "no space left on device")
