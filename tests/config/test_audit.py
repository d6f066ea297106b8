"""The section `audit` of the configuration."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import authz
from authz.audit.checkpoint import SigningKey
from authz.audit.verify import verify
from authz.errors import FileError
from tests.adapters.orders import configure

METHOD = "/example.orders.v1.Orders/GetOrder"
WHOLE = """  directory: audit
  durability: synced
  queue: 100
  reserve_mib: 0
  keep: 400d
  rotate: {size_mib: 1, every: 1h}
  checkpoints: {key: audit.key, records: 10, every: 1s, anchor_file: anchors.jsonl, anchor_stderr: true,
    anchor_opentelemetry: true}
  allows:
  - {methods: ["/grpc.health.v1.Health/*"], record: counted}
  - {methods: ["*"], namespaces: ["x*"], record: sampled, one_in: 10}
  subjects: {hmac_key: subjects.key, plain: ["machine:*"]}
  leave_out: [user_agent]
  mirrors:
  - {to: file, file: copy.jsonl}
  - {to: syslog, address: "127.0.0.1:9"}
  - {to: http, url: "http://127.0.0.1:9/"}
  - {to: opentelemetry}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path, _ = configure(tmp_path)
    SigningKey.generate(tmp_path / "audit.key")
    (tmp_path / "subjects.key").write_text("k" * 32)
    return path


def audit(config: Path, section: str) -> authz.Engine:
    config.write_text(config.read_text().replace("  file: audit.jsonl\n", section))
    return authz.load_config(config)


def test_everything_at_once(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with audit(config, WHOLE) as engine:
        engine.check(authz.Call(METHOD, ("acme",)))
    report = verify(
        [tmp_path / "audit"], [SigningKey.read(tmp_path / "audit.key").public], [tmp_path / "anchors.jsonl"]
    )
    assert not report.findings
    assert report.chains[0].anchored == report.chains[0].last
    log = next((tmp_path / "audit").rglob("audit.jsonl"))
    assert (tmp_path / "copy.jsonl").read_bytes() == log.read_bytes()
    assert '"event":"checkpoint"' in capsys.readouterr().err


def test_best_effort_is_a_queue(config: Path, tmp_path: Path) -> None:
    with audit(config, "  file: audit.jsonl\n  durability: best_effort\n") as engine:
        engine.check(authz.Call(METHOD, ("acme",)))
    events = [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert [event for event in events if event != "checkpoint"] == [
        "log.open", "config", "policy.loaded", "decision", "log.close",
    ]  # fmt: skip


def test_the_policy_that_was_loaded_is_kept_with_the_log(config: Path, tmp_path: Path) -> None:
    with audit(config, "  file: audit.jsonl\n") as engine:
        revision = engine.policy.revision.id
    assert (tmp_path / "kept-policies" / revision / "policy.csv").exists()


REFUSED = [
    ("  file: a.jsonl\n  directory: b\n", "`audit.file` and `audit.directory` are both given; keep one of them"),
    ("  file: logs/audit.log\n", "authz.yaml:6:9: `audit.file` is audit.log, which is not found in its folder"),
    ("  file: audit\n", "write a name that ends in .jsonl, such as `audit.jsonl`"),
    ("  file: .audit.jsonl\n", "is not found in its folder"),
    ("  queue: 1\n", "names no place for records"),
    ("  file: a.jsonl\n  durability: best\n", "write one of: written, synced, best_effort"),
    ("  file: a.jsonl\n  leave_out: [sub]\n", "`sub` cannot be left out; write some of: peer"),
    ("  file: a.jsonl\n  subjects: {hmac_key: short.key}\n", "is shorter than 16 bytes"),
    ("  file: a.jsonl\n  subjects: {hmac_key: absent.key}\n", "absent.key: cannot be read"),
    ("  file: a.jsonl\n  checkpoints: {key: authz.yaml}\n", "is not an Ed25519 private key"),
    ("  file: a.jsonl\n  mirrors: [{to: http, url: 'http://logs.example/'}]\n", "sends the log in the clear"),
    ("  file: a.jsonl\n  mirrors: [{to: pigeon}]\n", "write one of: file, syslog, http, opentelemetry"),
    ("  file: a.jsonl\n  allows: [{methods: ['*'], record: sampled}]\n", "`audit.allows[0].one_in` is missing"),
    ("  file: a.jsonl\n  allows: [{methods: ['*'], record: none}]\n", "write one of: full, brief, sampled, counted"),
    ("  file: a.jsonl\n  unsafe_allow: true\n", "did you mean `unsafe_allow_unrecorded`?"),
    ("  directory: authz.yaml\n", "cannot be made"),
]


@pytest.mark.parametrize(("section", "message"), REFUSED)
def test_what_cannot_be_used_is_refused_with_its_remedy(
    config: Path, tmp_path: Path, section: str, message: str
) -> None:
    (tmp_path / "short.key").write_text("short")
    with pytest.raises(FileError) as raised:
        audit(config, section)
    assert message in str(raised.value)


def test_keys_that_change_are_an_event(config: Path, tmp_path: Path) -> None:
    with audit(config, "  file: audit.jsonl\n"):
        path = next(tmp_path.glob("keys/*jwks*.json"))
        path.write_text(path.read_text() + "\n")
        deadline = time.monotonic() + 20
        while b'"event":"keys.changed"' not in (tmp_path / "audit.jsonl").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    changed = [line for line in (tmp_path / "audit.jsonl").read_text().splitlines() if "keys.changed" in line]
    assert json.loads(changed[0])["source"] == str(path)
