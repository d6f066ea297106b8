"""A log and its policies, at set times."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.review.logs import Logs
from authz.review.unused import Unused, unused
from examples.incident.__main__ import NOON, Recorder

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "policies" / "default"


class World:
    """A log, and the policies that came into force."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = AuditLog(folder / "audit.jsonl", LogSettings(sync_seconds=60, rotate_seconds=1e9))
        self.recorder = Recorder(self.log)

    def bundle(self, name: str, *lines: str) -> Path:
        """The default bundle, and some lines more."""
        path = self.folder / name
        shutil.copytree(DEFAULT, path)
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
