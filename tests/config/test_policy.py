"""The sections `policy` and `audit`: authorizers and a shadow beside the bundle, sinks beside the file."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import authz
from authz.config.plugins import AUDIT_SINKS, AUTHORIZERS
from authz.config.policy import PolicyMaker
from authz.decision.casbin import CasbinAuthorizer
from authz.decision.shadow import ShadowAuthorizer
from authz.errors import FileError, Place, PolicyError, Problem
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from examples.orders.keys import Keys
from tests.adapters.orders import POLICIES, configure, records
from tests.bundle import POLICY, write_bundle
from tests.config.offered import offer

GET, CREATE = "/example.orders.v1.Orders/GetOrder", "/example.orders.v1.Orders/CreateOrder"

AUTHORIZER = """
from authz.decision.base import Effect, Verdict
from authz.reason import Reason
ALLOW, DENY = Verdict(Effect.ALLOW, Reason.ALLOWED), Verdict(Effect.DENY, Reason.DENIED_BY_RULE)
NOTHING = Verdict(Effect.NO_OPINION, Reason.NO_RULE)
class OnCall:
    def __init__(self, who): self.who = who
    def authorize(self, claims, call):
        if claims.principal.subject == "max": return DENY
        return ALLOW if claims.principal.subject == self.who else NOTHING
def make(options): return OnCall(options.text("who"))
"""

SINK = """
class Sink:
    def __init__(self, path, broken): self.path, self.broken, self.n = path, broken, 0
    def write(self, record):
        if self.broken: raise OSError(28, "no space")
        self.n += 1
        with self.path.open("ab") as file: file.write(record.to_json(self.n, "plugin"))
    def close(self):
        self.path.with_suffix(".closed").touch()
def make(options): return Sink(options.file("path"), options.boolean("broken", False))
"""

Config = Callable[[str, str], Path]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return configure(tmp_path)[1]


@pytest.fixture
def config(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Writes the example's configuration with lines added to ``policy``, and its section ``audit`` replaced."""
    offer(tmp_path / "site", monkeypatch, AUTHORIZERS, "on-call", AUTHORIZER, "plugin_on_call")
    offer(tmp_path / "site", monkeypatch, AUDIT_SINKS, "second-file", SINK, "plugin_second_file")
    path = tmp_path / "authz.yaml"
    before = path.read_text()

    def write(policy: str = "", audit: str = "  file: audit.jsonl\n") -> Path:
        text = re.sub(r"^(  bundle: .*\n)", lambda found: found[1] + policy, before, count=1, flags=re.M)
        path.write_text(text.replace("  file: audit.jsonl\n", audit))
        return path

    return write


def check(engine: authz.Engine, keys: Keys, method: str, sub: str, *roles: str) -> authz.Decision:
    token = authz.BearerToken(keys.ec.mint(sub=sub, orders={"roles": list(roles)}))
    return engine.check(authz.Call(method, ("acme",)), [token])


ON_CALL = "  authorizers:\n  - plugin: on-call\n    options: {who: olga}\n"


def test_an_authorizer_decides_beside_the_rules(config: Config, keys: Keys) -> None:
    with authz.load_config(config(ON_CALL, "  file: audit.jsonl\n")) as engine:
        assert check(engine, keys, GET, "rita", "reader@acme")
        assert check(engine, keys, CREATE, "olga")
        assert not check(engine, keys, CREATE, "rita", "reader@acme")
        assert not check(engine, keys, GET, "max", "reader@acme")
        assert not check(engine, keys, "/example.orders.v1.Orders/Unknown", "olga")
        decision = check(engine, keys, CREATE, "olga")
        assert decision.revision == engine.policy.revision.id


def test_an_authorizer_decides_alone(config: Config, keys: Keys) -> None:
    with authz.load_config(config(ON_CALL + "  ignore_rules: true\n", "  file: audit.jsonl\n")) as engine:
        assert not check(engine, keys, GET, "rita", "reader@acme")
        assert check(engine, keys, CREATE, "olga")
        assert not check(engine, keys, "/example.orders.v1.Orders/Unknown", "olga")


def test_installed_and_not_named_it_changes_nothing(config: Config, keys: Keys) -> None:
    with authz.load_config(config("", "  file: audit.jsonl\n")) as engine:
        assert not check(engine, keys, CREATE, "olga")
        assert check(engine, keys, GET, "max", "reader@acme")


SECOND = "  sinks:\n  - plugin: second-file\n    options: {path: second.jsonl}\n"


@pytest.mark.parametrize("audit", [SECOND, SECOND + "  file: audit.jsonl\n"])
def test_every_sink_has_the_record(config: Config, keys: Keys, tmp_path: Path, audit: str) -> None:
    with authz.load_config(config("", audit)) as engine:
        decision = check(engine, keys, GET, "rita", "reader@acme")
        assert decision
    second = json.loads((tmp_path / "second.jsonl").read_text().splitlines()[-1])
    assert second["id"] == decision.audit_id
    assert (tmp_path / "second.closed").exists()
    assert (tmp_path / "audit.jsonl").exists() == ("audit.jsonl" in audit)
    if "audit.jsonl" in audit:
        assert [record["id"] for record in records(tmp_path)] == [decision.audit_id]


def test_an_allow_that_one_sink_does_not_take_is_refused(config: Config, keys: Keys, tmp_path: Path) -> None:
    broken = SECOND.replace("second.jsonl}", "second.jsonl, broken: true}") + "  file: audit.jsonl\n"
    with authz.load_config(config("", broken)) as engine:
        assert check(engine, keys, GET, "rita", "reader@acme").reason is authz.Reason.AUDIT_UNAVAILABLE
        assert check(engine, keys, CREATE, "rita", "reader@acme").reason is authz.Reason.NO_RULE
    assert len(records(tmp_path)) == 2


REFUSED = [
    ("  ignore_rules: true\n", "  file: audit.jsonl\n", r"authz.yaml:\d+:17: without the rules nobody decides"),
    ("  authorizers: []\n", "  file: audit.jsonl\n", "`policy.authorizers` is an empty list"),
    ("  authorizers:\n  - {plugin: on-call, options: {who: x}, more: 1}\n", "  file: audit.jsonl\n", "unknown key"),
    ("  authorizers:\n  - {plugin: on-call}\n", "  file: audit.jsonl\n", r"options.who` is missing"),
    ("  shadow: {bundle: ''}\n", "  file: audit.jsonl\n", "`policy.shadow.bundle` is empty"),
    ("  shadow: {bundel: x}\n", "  file: audit.jsonl\n", "`policy.shadow.bundle` is missing"),
    (f"  shadow: {{bundle: {POLICIES}/default}}\n", "  file: audit.jsonl\n", "the shadow is the bundle in force"),
    (ON_CALL + "  ignore_rules: true\n  shadow: {bundle: x}\n", "  file: audit.jsonl\n", "a shadow's are, too"),
    ("", "  sinks: []\n", "`audit.sinks` is an empty list"),
    ("", "  sinks:\n  - {plugin: second-file}\n", "`audit.sinks\\[0\\].options.path` is missing"),
    ("", "  sinks:\n  - {plugin: second-file, options: {path: x}, more: 1}\n", "unknown key `audit.sinks"),
    ("", SECOND + "  file: absent/audit.jsonl\n", "cannot be opened: No such file"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "audit", "message"), REFUSED)
def test_what_cannot_be_used_is_refused(config: Config, policy: str, audit: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        authz.load_config(config(policy, audit))
    assert not (tmp_path / "audit.jsonl").exists()


def test_no_place_for_records_is_refused(config: Config) -> None:
    path = config("", "")
    path.write_text(path.read_text().replace("audit:\n", "audit: {}\n"))
    with pytest.raises(FileError, match=r"`audit` names no place for records; write `file: audit.jsonl`"):
        authz.load_config(path)


def test_a_sink_that_was_opened_is_closed_when_a_later_one_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FileError):
        authz.load_config(config("", SECOND + "  - plugin: absent\n"))
    assert (tmp_path / "second.closed").exists()


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """The default bundle, in which readers read one namespace."""
    folder = tmp_path / "stricter"
    shutil.copytree(POLICIES / "default", folder)
    policy = folder / "policy.csv"
    policy.write_text(
        policy.read_text().replace("p, role:reader, *, *, read, allow", "p, role:reader, globex, *, read, allow")
    )
    return folder


SHADOW = "  shadow: {bundle: stricter}\n"


def test_the_differences_of_a_shadow_are_in_the_records(
    config: Config, keys: Keys, stricter: Path, tmp_path: Path
) -> None:
    with authz.load_config(config(SHADOW, "  file: audit.jsonl\n")) as engine:
        assert check(engine, keys, GET, "rita", "reader@acme")
        assert check(engine, keys, GET, "root", "writer@acme")
        assert not check(engine, keys, CREATE, "rita", "reader@acme")
    different, *same = records(tmp_path)
    assert different["decision"] == "allow"
    shadow: dict[str, Any] = {key: value for key, value in different.items() if key.startswith("shadow_")}
    assert shadow == {
        "shadow_decision": "no_opinion",
        "shadow_reason": "no_rule",
        "shadow_rule": None,
        "shadow_rule_src": None,
        "shadow_version": load_bundle(stricter).id,
    }
    assert {record["policy_version"] for record in (different, *same)} == {load_bundle(POLICIES / "default").id}
    # a writer is a reader by the policy's own line, so the first of `same` differs, too
    assert ["shadow_decision" in record for record in same] == [True, False]


BROKEN = [
    (lambda folder: (folder / "policy.csv").write_text("p, role:reader, *, *, read, alow\n"), "policy.csv:1:"),
    (lambda folder: (folder / "model.conf").unlink(), "model.conf: is missing"),
    (lambda folder: shutil.rmtree(folder), "is no folder"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_a_broken_shadow_is_a_warning_and_the_server_starts(
    config: Config,
    keys: Keys,
    stricter: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(stricter)
    with (
        caplog.at_level(logging.WARNING, "authz.shadow"),
        authz.load_config(config(SHADOW, "  file: audit.jsonl\n")) as engine,
    ):
        assert check(engine, keys, GET, "rita", "reader@acme")
    assert message in caplog.text


def test_a_fault_in_reading_the_shadow_is_logged_and_the_server_starts(
    config: Config, stricter: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_bundle

    def faulty(path: Path) -> Any:
        if path == stricter:
            raise RuntimeError("a fault")
        return real(path)

    monkeypatch.setattr("authz.config.policy.load_bundle", faulty)
    authz.load_config(config(SHADOW, "  file: audit.jsonl\n")).close()
    assert "a fault" in caplog.text


def test_a_shadow_that_would_make_calls_wait_is_not_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write_bundle(tmp_path / "first"), write_bundle(tmp_path / "second", POLICY + "\n")
    too_slow: set[Path] = set()

    def made(revision: Revision) -> CasbinAuthorizer:
        authorizer = CasbinAuthorizer(revision)
        slow = Problem(Place("model.conf", 14), "eval() in the matcher")
        authorizer.slow = (slow,) if revision.path in too_slow else ()
        return authorizer

    monkeypatch.setattr("authz.config.policy.authorizer_for", made)
    for folders, asked in [((), True), ((second,), False), ((first, second), True), ((first,), True)]:
        too_slow.clear()
        too_slow.update(folders)
        authorizer = PolicyMaker(first, second).load().authorizer
        assert isinstance(authorizer, ShadowAuthorizer) == asked
    assert "it would slow calls down: model.conf:14: eval() in the matcher" in caplog.text


def test_a_policy_is_made_again_with_its_plugins_and_its_shadow(tmp_path: Path) -> None:
    maker = PolicyMaker(write_bundle(tmp_path / "first"), write_bundle(tmp_path / "second", POLICY + "\n"))
    first = maker.load()
    write_bundle(tmp_path / "second", "p, role:reader, *, *, nonsense, allow\n")
    again = maker.make(first.revision)
    assert isinstance(first.authorizer, ShadowAuthorizer)
    assert isinstance(again.authorizer, ShadowAuthorizer)
    assert again.shadow == again.authorizer.revision == first.authorizer.revision
    write_bundle(tmp_path / "first", "p, role:reader, *, *, nonsense, allow\n")
    with pytest.raises(PolicyError):
        maker.load()
