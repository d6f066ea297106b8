"""A configuration that cannot be used is refused at start, with its line and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import authz
from authz.audit.writer import AuditLog
from authz.errors import ConfigError, FileError
from tests.adapters.orders import configure

METHOD = "/example.orders.v1.Orders/GetOrder"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configure(tmp_path)[0]


REFUSED = [
    ("policy:", "polcy:", "unknown key `polcy`|`policy` is missing"),
    ("policy:", "audit:", "`audit` is given twice, first on line"),
    ("file: audit.jsonl", "file: no/such/folder/audit.jsonl", "cannot be opened: No such file or directory"),
    ("file: audit.jsonl", "file: audit.jsonl\n  fsync: true", r"authz.yaml:\d+:3: unknown key `audit.fsync`"),
    ("combine: jwt", "combine: either", "`authn.combine` cannot be `either`; write one of: require_both, jwt, mtls"),
    ("combine: jwt", "", "`authn.combine` is missing"),
    ("audiences: [orders]", "", r"`authn.issuers\[0\].audiences` is missing"),
    ("audiences: [orders]", "audiences: []", "is an empty list; name at least one"),
    ("algorithms: [RS256, ES256]", "algorithms: [none]", "`none` is not an algorithm for tokens"),
    ("jwks_file: keys/jwks.json", "jwks_file: keys/absent.json", "absent.json"),
    ("ca_file: keys/machines-ca.pem", "ca_file: keys/server.key", "server.key"),
    ("prefix: \"machine:\"", "prefix: \"staff:\"", "begin alike"),
    ("anonymous: {methods: [/grpc.health.v1.Health/Check]}", "anonymous: {methods: ['*']}", "is not a gRPC method"),
    ("system_role: auditor", "system_role: everyone", "everyone"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "message"), REFUSED)
def test_what_cannot_be_used_is_refused_with_its_place(config: Path, good: str, bad: str, message: str) -> None:
    text = config.read_text()
    assert good in text
    config.write_text(text.replace(good, bad))
    with pytest.raises(FileError, match=message) as caught:
        authz.load_config(config)
    assert all(problem.place.path for problem in caught.value.problems)


def test_a_bundle_that_is_not_there_is_named(config: Path) -> None:
    config.write_text(config.read_text().replace("policies/default", "policies/defualt"))
    with pytest.raises(ConfigError, match=r"authz.yaml:\d+:11: there is no folder .*policies/defualt"):
        authz.load_config(config)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        authz.load_config(tmp_path / "absent.yaml")


def test_a_log_in_use_is_refused(config: Path, tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl"), pytest.raises(ConfigError, match="another process writes to it"):
        authz.load_config(config)


def test_a_refused_configuration_leaves_no_log_behind(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("combine: jwt", "combine: either"))
    with pytest.raises(ConfigError):
        authz.load_config(str(config))
    assert not (tmp_path / "audit.jsonl").exists()


def test_the_engine_decides_as_the_file_says(config: Path, tmp_path: Path) -> None:
    _, keys = configure(tmp_path)
    with authz.load_config(config) as engine:
        token = authz.BearerToken(keys.ec.mint(sub="walt", orders={"roles": ["writer@acme"]}))
        decision = engine.check(authz.Call(METHOD, ("acme",)), [token])
        assert decision
        assert decision.principal is not None
        assert decision.principal.id == "user:staff:walt"
        assert str(decision.rule).startswith(str(engine.policy.revision.path))
        assert not engine.check(authz.Call(METHOD, ("acme", "globex")), [token])
        assert not engine.check(authz.Call(METHOD, ("acme",)), [token, token])
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    records = [line for line in lines if line["event"] == "decision"]
    assert [record["reason"] for record in records] == ["allowed", "no_rule", "credential_repeated"]
    assert records[0]["roles"] == ["writer@acme"]
