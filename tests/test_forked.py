"""What was forked goes on, whatever another thread was doing at that moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_no_lock_that_another_thread_held_stops_a_child(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.held", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    outcome = json.loads(done.stdout)
    assert len(outcome) > 20
    assert {name: what for name, what in outcome.items() if what} == {}
