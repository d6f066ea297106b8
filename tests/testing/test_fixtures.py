"""The fixtures, as a user's own tests have them: in a folder of their own, by pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = 'pytest_plugins = ["authz.testing.fixtures"]\n'
BUNDLE = f"""
import pytest
@pytest.fixture
def authz_bundle():
    return {str(ROOT / "policies" / "default")!r}
"""
TESTS = """
import authz
READ = authz.Call("/example.orders.v1.Orders/GetOrder", ("acme",))

def check(engine, metadata):
    return engine.check(READ, authz.credentials.from_metadata(metadata))

def test_allowed(authz_engine, as_caller, decisions):
    assert check(authz_engine, as_caller("rita", {"acme": "reader"}))
    decisions.assert_allowed()

def test_every_test_has_an_engine_of_its_own(authz_engine, decisions):
    assert not decisions.all

def test_wrong(authz_engine, as_caller, decisions):
    check(authz_engine, as_caller("rita"))
    decisions.assert_allowed()
"""


def run(folder: Path, conftest: str) -> str:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_users.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env).stdout


def test_what_is_wrong_fails_and_says_why(tmp_path: Path) -> None:
    out = run(tmp_path, PLUGIN + BUNDLE)
    assert "1 failed, 2 passed" in out
    assert "expected an allow, but user:test:rita calling /example.orders.v1.Orders/GetOrder in acme" in out


def test_without_a_bundle_it_says_what_is_missing(tmp_path: Path) -> None:
    assert "define a fixture `authz_bundle`" in run(tmp_path, PLUGIN)


def test_without_the_plugin_there_are_no_fixtures(tmp_path: Path) -> None:
    assert "fixture 'authz_engine' not found" in run(tmp_path, "")
