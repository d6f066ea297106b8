"""Commands in front of a person: who a token or certificate proves, tests that are watched, colour on a terminal."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authz.cli import main
from examples.orders.keys import make_keys

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example's configuration and keys."""
    shutil.copytree(POLICIES, tmp_path / "policies")
    config = (ROOT / "examples" / "orders" / "authz.yaml").read_text().replace("../../", "")
    (tmp_path / "authz.yaml").write_text(config)
    keys = make_keys(tmp_path / "keys")
    (tmp_path / "rita.jwt").write_text(keys.rsa.mint(sub="rita", permissions=["acme:read"]) + "\n")
    (tmp_path / "late.jwt").write_text(keys.rsa.mint(sub="rita", iat=1_000_000_000, exp=1_000_000_600))
    spiffe = "spiffe://orders.example/ns/acme/sa/worker"
    (tmp_path / "worker.pem").write_bytes(keys.workloads.issue_client(spiffe_id=spiffe).certificate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_can_who_a_token_proves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["policy", "can", "-b", "policies/default", "--config", "authz.yaml"]
    assert main([*asked, "--token", "rita.jwt", "acme", "GetOrder"]) == 0
    assert "user:staff:rita" in capsys.readouterr().out
    assert main([*asked, "--token", "rita.jwt", "globex", "GetOrder"]) == 3
    assert main([*asked, "--token", "late.jwt", "acme", "GetOrder"]) == 3
    assert "token_expired" in capsys.readouterr().out
    assert main([*asked, "--token", "nowhere.jwt", "acme", "GetOrder"]) == 4
    assert not (folder / "audit.jsonl").exists(), "asking is no decision, and leaves no record"


def test_can_who_a_certificate_proves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["policy", "can", "-b", "policies/default", "--config", "authz.yaml", "--certificate", "worker.pem"]
    assert main([*asked, "acme", "ImportOrders"]) == 0
    assert "role:worker" in capsys.readouterr().out
    assert main([*asked, "globex", "ImportOrders"]) == 3


def _until(text: str, process: subprocess.Popen[str], seconds: float = 30) -> str:
    """What ``process`` prints, up to a line that holds ``text``."""
    assert process.stdout is not None
    seen, ends = "", time.monotonic() + seconds
    while time.monotonic() < ends:
        line = process.stdout.readline()
        seen += line
        if text in line:
            return seen
    raise AssertionError(seen)


def test_tests_that_are_watched(folder: Path) -> None:
    words = [sys.executable, "-u", "-m", "authz", "policy", "test", "policies/default", "--watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert "324 of 324 calls passed" in _until("waiting for a change", process)
            policy = Path("policies/default/policy.csv")
            before = policy.read_text()
            policy.write_text(before.replace("role:auditor, billing-*", "role:auditor, billing"))
            assert "must be allow" in _until("waiting for a change", process)
            policy.write_text("p, nonsense\n")
            assert "has 1 fields" in _until("waiting for a change", process)
            policy.write_text(before)
            assert "324 of 324 calls passed" in _until("waiting for a change", process)
        finally:
            process.terminate()


def test_colour_where_a_person_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    def printed(**environment: str) -> str:
        leader, follower = pty.openpty()
        words = [
            sys.executable,
            "-m",
            "authz",
            "policy",
            "can",
            "role:reader",
            "shop",
            "GetOrder",
            "-b",
            "policies/default",
        ]
        subprocess.run(words, stdout=follower, env={**os.environ, "TERM": "xterm", **environment}, check=True)
        os.close(follower)
        with os.fdopen(leader, "rb", buffering=0) as file:
            return file.read(4096).decode()

    assert "\x1b[32mallowed\x1b[0m" in printed()
    assert "\x1b" not in printed(NO_COLOR="1")
