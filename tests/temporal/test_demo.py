"""`make demo-temporal` as a person runs it: every row comes out as it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.temporal.tricks import tricks

ROOT = Path(__file__).parents[2]


def test_everything_comes_out_as_it_should(temporal_port: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.temporal.demo"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERENT" not in done.stdout
    assert done.stdout.count("tries: ") == len(tricks("beta", "alpha", ""))
    assert "policies/temporal/policy.csv" in done.stdout
    assert done.stdout.rstrip().endswith("Everything came out as it should.")
