"""`make demo-envoy` as a person runs it: every row comes out as it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from examples.envoy.demo import ATTEMPTS, COLUMNS
from tests.envoy.edge import require_envoy

ROOT = Path(__file__).parents[2]


def test_everything_comes_out_as_it_should() -> None:
    require_envoy()
    done = subprocess.run(
        [sys.executable, "-m", "examples.envoy.demo"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [re.split(r" {2,}", line) for line in done.stdout.split("\n\n")[0].splitlines()]
    assert table[0] == list(COLUMNS)
    assert len(table) == len(ATTEMPTS) + 2
    assert table[-1][3:] == ["UNAVAILABLE", "-", "nobody: Envoy"]
    page = (ROOT / "docs" / "for-platform-engineers.md").read_text()
    shown = page[page.index("```text\nrita") :].split("\n```")[0].splitlines()[1:]
    assert len(shown) == 4
    assert set(shown) <= set(done.stdout.splitlines())
    assert f"The audit log has {len(ATTEMPTS)} decisions" in done.stdout
    assert done.stdout.rstrip().endswith("Everything came out as it should.")
