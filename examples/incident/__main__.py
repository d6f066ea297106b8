"""`python -m examples.incident FOLDER`: record the incident into a new folder.

The log is a real one, of real decisions by real policies; only the clock is set. The story: on the afternoon of 20
November 2026 somebody loads a policy with one rule too many, a reader purges a namespace, and half an hour later the
policy is put right. Meanwhile somebody else tries doors.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from unittest import mock

from authz.audit.anchor import FileAnchor
from authz.audit.checkpoint import SigningKey
from authz.audit.record import Record
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Decision, Effect, Verdict
from authz.engine import policy_loaded
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.reason import Reason

ROOT: Final = Path(__file__).parents[2]
NOON: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SERVICE: Final = "/example.orders.v1.Orders/"
MISTAKE: Final = "p, role:reader, *, *, admin, allow"


def caller(name: str, *, key: str = "rsa-1", **namespaces: str) -> Claims:
    """Somebody of the staff, with one role in each of some namespaces."""
    principal = Principal(PrincipalKind.TOKEN, "staff", name, "staff:", key_id=key)
    return Claims(principal, frozenset(), {ns: frozenset({role}) for ns, role in namespaces.items()}, used=("roles",))


RITA: Final = caller("rita", acme="reader")
WALT: Final = caller("walt", acme="writer", globex="writer")
ADA: Final = caller("ada", acme="admin")
OTTO: Final = caller("otto", acme="reader", globex="reader")
EVE: Final = caller("eve", key="rsa-2", acme="reader")


class Recorder:
    """Decides calls at set times, and records them.

    Args:
        log: where.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._now = NOON
        self._revision: Revision | None = None

    @contextmanager
    def clock(self) -> Iterator[None]:
        """While the block runs, it is the time of the story."""
        with mock.patch("time.time_ns", self._time_ns):
            yield

    def _time_ns(self) -> int:
        return int(self._now.timestamp() * 1e6) * 1000

    def at(self, minutes: float) -> None:
        """Set the clock to so many minutes past noon, when what was before is sealed."""
        self._log.checkpoint()
        self._now = max(self._now, NOON + timedelta(minutes=minutes))

    def load(self, bundle: Path) -> None:
        """Put a policy in force."""
        before = self._revision.id if self._revision else None
        self._revision = load_bundle(bundle)
        self._authorizer = authorizer_for(self._revision)
        self._log.write(policy_loaded(self._revision, before))

    def call(self, who: Claims | None, method: str, namespace: str | None, ip: str = "10.1.0.4", **more: str) -> None:
        """Somebody calls; nobody is proven if ``who`` is None."""
        assert self._revision is not None
        self._now += timedelta(milliseconds=40)
        call = Call(SERVICE + method, (namespace,), None, f"ipv4:{ip}:40412", more.get("agent", "grpc-python/1.85.1"))
        if who is None:
            verdict = Verdict(Effect.DENY, Reason.TOKEN_EXPIRED, None, self._revision.id, "the token has expired")
        else:
            verdict = self._authorizer.authorize(who, call)
        entry = self._revision.catalogue.find(call.method)
        ns = self._time_ns()
        audit_id = f"{ns // 1_000_000:012x}{self._log.path.stat().st_size:016x}"
        decision = Decision(
            verdict.effect, verdict.reason, verdict.rule, verdict.revision, who.principal if who else None, who,
            audit_id, verdict.detail,
        )  # fmt: skip
        self._log.write(Record(decision, call, ns, 9_000, entry.access.value if entry else ""))


def tell(recorder: Recorder, good: Path, bad: Path) -> None:
    """The story."""
    recorder.load(good)
    for minute in range(0, 120, 2):
        recorder.at(minute)
        recorder.call(RITA, "GetOrder", "acme")
        recorder.call(WALT, "CreateOrder", "acme" if minute % 4 else "globex")
        if minute % 10 == 0:
            recorder.call(OTTO, "ListOrders", "globex")
            recorder.call(RITA, "CreateOrder", "acme")
            recorder.call(None, "GetOrder", "acme", ip="10.9.9.9")
    recorder.call(OTTO, "PurgeNamespace", "globex", ip="10.1.0.9")
    recorder.at(122)
    recorder.load(bad)
    recorder.at(125)
    recorder.call(OTTO, "PurgeNamespace", "globex", ip="10.1.0.9")
    recorder.at(131)
    for number in range(40):
        recorder.call(EVE, ("CancelOrder", "CreateOrder", "ImportOrders")[number % 3], "initech", "203.0.113.7",
                      agent="grpc-go/1.64.0")  # fmt: skip
    for minute in range(132, 150, 2):
        recorder.at(minute)
        recorder.call(RITA, "GetOrder", "acme")
    recorder.at(152)
    recorder.load(good)
    recorder.call(OTTO, "PurgeNamespace", "globex", ip="10.1.0.9")
    recorder.call(ADA, "ListOrders", "acme")
    for minute in range(154, 180, 2):
        recorder.at(minute)
        recorder.call(WALT, "CreateOrder", "globex")


def record(folder: Path) -> None:
    """Record the incident into ``folder``: the log, its key and anchors, and the policies."""
    policies = folder / "policies"
    shutil.copytree(ROOT / "policies" / "default", policies / "default")
    shutil.copytree(ROOT / "policies" / "default", folder / "mistaken")
    with (folder / "mistaken" / "policy.csv").open("a", encoding="utf-8") as file:
        file.write(f"\n# so that the new colleagues can do their work\n{MISTAKE}\n")
    key = SigningKey.generate(folder / "audit.key")
    log_folder = folder / "audit"
    log_folder.mkdir()
    settings = LogSettings(key=key, checkpoint_seconds=3600, anchors=(FileAnchor(folder / "anchors.jsonl"),))
    with mock.patch("time.time_ns", return_value=int(NOON.timestamp() * 1e9)):
        log = AuditLog(log_folder / "audit.jsonl", settings)
        recorder = Recorder(log)
    with recorder.clock():
        tell(recorder, policies / "default", folder / "mistaken")
        log.close()
    shutil.rmtree(folder / "mistaken")


def main() -> None:
    """Record the incident."""
    parser = argparse.ArgumentParser(prog="python -m examples.incident", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    record(folder)
    print(f"the incident is in {folder}: cd there, and go on with docs/for-auditors.md")


if __name__ == "__main__":
    main()
