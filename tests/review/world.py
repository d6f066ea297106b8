"""A log and its policies, at set times."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from authz.audit.record import Record, new_id
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Decision
from authz.policy.load import load_bundle
from authz.review.logs import Logs
from authz.review.unused import Unused, unused
from examples.incident.__main__ import NOON, Recorder

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "policies" / "default"


def decided(bundle: Path, claims: Claims, call: Call, at: datetime) -> Record:
    """The record of a call, as the policy in a folder decides it at a time."""
    verdict = authorizer_for(load_bundle(bundle), at.timestamp).authorize(claims, call)
    decision = Decision(
        verdict.effect, verdict.reason, verdict.rule, verdict.revision, claims.principal, claims, new_id(),
        verdict.detail,
    )  # fmt: skip
    return Record(decision, call, int(at.timestamp() * 1e6) * 1000, 1000, "write")


class World:
    """A log, and the policies that came into force."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = AuditLog(folder / "audit.jsonl", LogSettings(sync_seconds=60, rotate_seconds=1e9))
        self.recorder = Recorder(self.log)

    def bundle(self, name: str, *lines: str, like: str = "default") -> Path:
        """One of the bundles that come along, and some lines more."""
        path = self.folder / name
        shutil.copytree(ROOT / "policies" / like, path)
        with (path / "policy.csv").open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        return path

    def ask(self, bundle: Path, days: float, at: float) -> Unused:
        """What is unused in the last ``days``, when so many minutes have passed."""
        self.log.tend()
        with Logs([self.folder / "audit.jsonl"]) as logs:
            return unused(logs, bundle, days, NOON + timedelta(minutes=at))


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """A world whose log is in ``folder``."""
    with mock.patch("time.time_ns", return_value=int(NOON.timestamp() * 1e9)):
        world = World(folder)
    with world.recorder.clock():
        yield world
        world.log.close()
