"""The example's package of plugins: pip installs it, a configuration names it; installed alone it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.orders.keys import make_keys
from tests.adapters.orders import configure

ROOT = Path(__file__).parent.parent
KEY = "acme-example-only"

PROGRAM = """
import json, sys
import authz

def told(decision):
    principal = decision.principal and decision.principal.id
    return [decision.reason.value, principal, decision.rule and decision.rule.text]

config, method, *tokens = sys.argv[1:]
with authz.load_config(config) as engine:
    answers = [
        told(engine.check(authz.Call(method, (namespace,)), [authz.BearerToken(token)] if token else []))
        for token in tokens for namespace in ("acme", "globex", "initech")
    ]
print("ANSWERS", json.dumps(answers))
print("LOADED", sorted(name for name in sys.modules if name.split(".")[0] == "acme_authz"))
"""
GET = "/example.orders.v1.Orders/GetOrder"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the package into, without a network."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(ROOT / "examples" / "plugin", source)
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run([*pip, *offline], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (target / "acme_authz" / "api_keys.py").exists()
    return target


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The example's own configuration, in a folder where a test may change it."""
    for name in ("authz.yaml", "keys.txt", "staff.csv"):
        shutil.copy(ROOT / "examples" / "plugin" / name, tmp_path)
    path = tmp_path / "authz.yaml"
    path.write_text(path.read_text().replace("../../policies/default", str(ROOT / "policies" / "default")))
    return path


def run(config: Path, site: Path | None, *tokens: str, method: str = GET) -> tuple[list[list[str | None]], str, str]:
    """The answers to each token in three namespaces, what else was printed, and what went wrong."""
    paths = [str(ROOT), *([] if site is None else [str(site)])]
    command = [sys.executable, "-c", PROGRAM, str(config), method, *tokens]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=config.parent)
    lines = done.stdout.splitlines()
    answers = [line for line in lines if line.startswith("ANSWERS ")]
    found = json.loads(answers[0].removeprefix("ANSWERS ")) if answers else []
    return found, "\n".join(line for line in lines if line not in answers), done.stderr


def maintain(config: Path, begins: int, ends: int) -> Path:
    config.write_text(config.read_text().replace("begins: 2, ends: 4", f"begins: {begins}, ends: {ends}"))
    return config


def test_each_of_the_four_is_replaced(installed: Path, named: Path) -> None:
    config = maintain(named, 0, 24)
    config.write_text(config.read_text().replace("role: admin}", "role: writer}"))
    (named.parent / "staff.csv").write_text("build-robot,*,writer\nbuild-robot,globex,admin\n")
    answers, printed, wrong = run(config, installed, KEY, "acme-wrong", "")
    assert not wrong
    robot = ["allowed", "user:key:build-robot", "p, role:reader, *, *, read, allow"]
    assert answers == [robot] * 3 + [["token_key_unknown", None, None]] * 3 + [["credential_missing", None, None]] * 3
    entries = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    records = [entry for entry in entries if entry["event"] == "decision"]
    assert [record["reason"] for record in records] == [reason for reason, *_ in answers]
    # the staff list makes an admin of the robot in globex, which the configuration's ceiling does not
    assert {role for record in records[:3] for role in record["roles"]} == {"writer"}
    assert records[0]["claims_used"] == ["staff list"]
    assert KEY not in printed


def test_the_authorizer_denies_beside_the_rules(installed: Path, named: Path) -> None:
    answers, _, wrong = run(maintain(named, 0, 24), installed, KEY)
    assert not wrong
    assert answers == [["denied_by_rule", "user:key:build-robot", "maintenance is under way"]] * 3


def test_a_role_of_one_namespace_counts_there(installed: Path, named: Path) -> None:
    text = named.read_text()
    begins = text.index("  authorizers:")
    named.write_text(text[:begins] + text[text.index("audit:") :])
    answers, _, wrong = run(named, installed, KEY)
    assert not wrong
    assert [reason for reason, *_ in answers] == ["allowed", "no_rule", "no_rule"]


def test_installing_it_changes_nothing(installed: Path, tmp_path: Path) -> None:
    config, _ = configure(tmp_path)
    token = make_keys(tmp_path / "keys").ec.mint(sub="rita", permissions=["acme:read"])
    without = run(config, None, token, KEY, "")
    (tmp_path / "audit.jsonl").unlink()
    installed_beside = run(config, installed, token, KEY, "")
    assert installed_beside == without
    assert [reason for reason, *_ in without[0]] == ["allowed"] + ["no_rule"] * 2 + ["token_malformed"] * 3 + [
        "credential_missing"
    ] * 3
    assert "LOADED []" in without[1]


def test_naming_it_without_installing_it_is_refused(named: Path) -> None:
    answers, _, wrong = run(named, None, KEY)
    assert not answers
    assert "no installed package offers the plugin `acme-maintenance` in `authz.authorizers`" in wrong


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("begins: 2, ends: 4", "begins: 4, ends: 2", "maintenance cannot end at 2 if it begins at 4; end it later"),
        ("begins: 2, ends: 4", "begins: 2, end: 4", "`policy.authorizers[0].options.ends` is missing"),
        ("stream: stdout", "stream: stdlog", "`audit.sinks[0].options.stream` cannot be `stdlog`"),
        ("file: keys.txt", "file: absent.txt", "cannot be made: FileNotFoundError"),
        ("file: staff.csv", "file: staff.csv, more: 1", "unknown key `authn.authenticators[0].mapper.options.more`"),
    ],
)
def test_a_mistake_in_its_options_is_refused_with_its_line(
    installed: Path, named: Path, good: str, bad: str, message: str
) -> None:
    assert good in named.read_text()
    named.write_text(named.read_text().replace(good, bad))
    _, _, wrong = run(named, installed, KEY)
    last = wrong.splitlines()[-1]
    assert message in last
    assert "authz.yaml:" in last
