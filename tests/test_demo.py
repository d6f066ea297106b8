"""The demo as a person runs it: its table, its exit code, and that it notices a policy that is not the expected one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.orders.callers import ATTEMPTS, callers
from examples.orders.keys import make_keys

ROOT = Path(__file__).parent.parent


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.orders.demo"], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example and the policies in a folder of their own, so that a developer's own run is not disturbed."""
    folder = tmp_path_factory.mktemp("demo")
    leave = shutil.ignore_patterns("keys", "audit.jsonl", "__pycache__")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=leave)
    shutil.copytree(ROOT / "policies", folder / "policies")
    return folder


def test_every_row_comes_out_as_the_demo_says(copy: Path, tmp_path: Path) -> None:
    done = run(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {key: caller.name for key, caller in callers(make_keys(tmp_path)).items()}
    rules = (copy / "policies/default/policy.csv").read_text().splitlines()
    table = [re.split(r" {2,}", line) for line in done.stdout.split("\n\n")[0].splitlines()]
    assert table[0] == ["caller", "shown", "method", "namespace", "code", "decision", "decided by"]
    assert len(table) - 1 == len(ATTEMPTS)
    for row, attempt in zip(table[1:], ATTEMPTS, strict=True):
        assert (row[0], row[2], row[3], row[4]) == (
            names[attempt.caller],
            attempt.method,
            attempt.namespace or "-",
            attempt.code,
        )
        if attempt.because.startswith("p, "):
            path, line = row[6].split(":")[:2]
            assert path.endswith("policies/default/policy.csv")
            assert rules[int(line) - 1] == attempt.because
        else:
            assert row[6] == attempt.because
    assert len({attempt.caller for attempt in ATTEMPTS}) >= 10


def test_the_change_that_the_demo_proposes_makes_the_difference_that_it_names(copy: Path) -> None:
    policy = copy / "policies/default/policy.csv"
    before = policy.read_text()
    try:
        policy.write_text(before.replace("role:worker, *, api:work, *, allow", "role:worker, *, api:work, *, deny"))
        done = run(copy)
    finally:
        policy.write_text(before)
    assert done.returncode == 1
    different = [line for line in done.stdout.splitlines() if line.startswith("DIFFERENT")]
    assert len(different) == 4
    assert all("packer" in line and "role:worker, *, api:work, *, deny" in line for line in different)


def test_a_broken_policy_is_refused_at_start_with_its_line(copy: Path) -> None:
    policy = copy / "policies/default/policy.csv"
    before = policy.read_text()
    broken = before.replace("p, role:reader, *, *, read, allow", "p, role:reader, *, *, read, alow")
    line = broken.splitlines().index("p, role:reader, *, *, read, alow") + 1
    try:
        policy.write_text(broken)
        done = run(copy)
    finally:
        policy.write_text(before)
    assert done.returncode == 1
    assert f"policy.csv:{line}:" in done.stderr
    assert "allow" in done.stderr.splitlines()[-1]


def test_the_readme_shows_lines_of_the_real_table(copy: Path) -> None:
    printed = run(copy).stdout.splitlines()
    readme = (ROOT / "README.md").read_text()
    shown = readme[readme.index("```text\ncaller") :].split("\n```")[0].splitlines()[1:]
    assert len(shown) == 6
    assert set(shown) <= set(printed)
