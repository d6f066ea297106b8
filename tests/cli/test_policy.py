"""The commands of policy admins, each against what it printed when somebody last looked at it.

To look again: AUTHZ_WRITE_GOLDEN=1 pytest tests/cli/test_policy.py, and read the difference in git.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from authz.cli import main

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
CHANGED = """
p, role:auditor, shop, *, read, allow
p, role:worker, frozen-*, *, *, deny
"""
BROKEN = """\
p, role:reader, *, *, raed, allow
p, role:writer, *, *, write
P, role:admin, *, *, admin, allow
<<<<<<< HEAD
p, role:admin, *, *, admin, Deny
"""
DUBIOUS = """\
p, role:reader, *, *, read, allow
p, role:reader, shop, *, read, allow
p, role:clerk, *, *, *, allow
# waive AZ204: who breaks the glass is meant to reach everything
p, role:break-glass, *, *, *, allow
p, role:writer, shop, /example.orders.v1.Orders/GetOrder, write, deny
p, role:everyone, shop-*, *, read, allow
# waive AZ207: nothing here ends
p, role:late, x, *, write, allow
p, role:everyone, x, *, *, deny
"""
COMMANDS = {
    "check": (["check", "policies/default"], 0),
    "check_broken": (["check", "broken"], 4),
    "check_dubious": (["check", "dubious"], 3),
    "check_dubious.json": (["check", "dubious", "--format", "json", "--all"], 3),
    "check_nothing": (["check", "nowhere"], 4),
    "test": (["test", "policies/default"], 0),
    "test_failing": (["test", "wider"], 3),
    "test_failing.json": (["test", "wider", "--format", "json"], 3),
    "test_filtered": (["test", "changed", "-k", "a suspended user"], 0),
    "can": (["can", "role:writer", "shop", "CreateOrder", "-b", "policies/default"], 0),
    "can_chain": (["can", "role:admin", "shop", "GetOrder", "-b", "policies/default"], 0),
    "can_not": (["can", "role:reader", "shop", "CreateOrder", "-b", "policies/default"], 3),
    "can_not.json": (["can", "role:reader", "shop", "CreateOrder", "-b", "policies/default", "--format", "json"], 3),
    "can_not_at_all": (["can", "user:corp:rita", "shop", "GetOrder", "-b", "policies/default"], 3),
    "can_denied": (["can", "role:admin", "frozen-1", "CancelOrder", "-b", "policies/default"], 3),
    "can_unknown": (["can", "role:admin", "shop", "/example.orders.v1.Orders/GetOrdr", "-b", "policies/default"], 3),
    "who_can": (["who-can", "CancelOrder", "-b", "policies/default"], 0),
    "who_can_there": (["who-can", "CancelOrder", "-n", "frozen-1", "-b", "policies/default"], 3),
    "who_can.json": (["who-can", "ListNamespaces", "-b", "policies/default", "--format", "json"], 0),
    "list": (["list", "role:auditor", "-b", "policies/default"], 0),
    "list.json": (["list", "role:worker", "-b", "policies/default", "--format", "json"], 0),
    "matrix": (["matrix", "-b", "policies/default", "-n", "frozen-1"], 0),
    "matrix.csv": (["matrix", "role:worker", "-b", "policies/default", "--format", "csv"], 0),
    "matrix.json": (["matrix", "role:everyone", "-b", "policies/default", "--format", "json"], 0),
    "diff": (["diff", "policies/default", "changed"], 3),
    "diff.json": (["diff", "policies/default", "changed", "--format", "json"], 3),
    "diff.md": (["diff", "policies/default", "changed", "--format", "markdown"], 3),
    "diff_same": (["diff", "policies/default", "policies/default"], 0),
    "diff_less": (["diff", "changed", "policies/default", "--fail-on-new-access"], 3),
    "diff_replayed": (["diff", "policies/default", "changed", "--replay", "audit.jsonl"], 3),
    "format": (["format", "--diff", "untidy"], 3),
    "format_clean": (["format", "--check", "policies/default"], 0),
    "merge": (["merge", "changed", "pack.csv", "--dry-run"], 3),
    "expiring": (["expiring", "-b", "ending", "--at", "2026-06-01T00:00:00Z"], 3),
    "expiring.json": (["expiring", "-b", "ending", "--at", "2026-06-01T00:00:00Z", "--format", "json"], 3),
    "sign_unsigned": (["sign", "policies/default", "--verify", "key.pub.pem"], 4),
    "history_empty": (["history", "store"], 0),
    "rollback_nowhere": (["rollback", "store"], 4),
    "promote_failing": (["promote", "wider", "store"], 4),
    "schema": (["schema", "tests"], 0),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with bundles: as shipped, changed, broken, dubious, untidy, and with rules that end."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    default = tmp_path / "policies" / "default"
    for name in ("changed", "wider", "broken", "dubious", "untidy", "ending"):
        shutil.copytree(default, tmp_path / name)
    rules = (default / "policy.csv").read_text()
    (tmp_path / "changed" / "policy.csv").write_text(
        rules.replace("role:reader, *, *, read", "role:reader, s*, *, read") + CHANGED
    )
    (tmp_path / "wider" / "policy.csv").write_text(rules + "\np, role:auditor, shop, *, read, allow\n")
    (tmp_path / "broken" / "policy.csv").write_text(BROKEN)
    (tmp_path / "dubious" / "policy.csv").write_text(DUBIOUS)
    (tmp_path / "untidy" / "policy.csv").write_text(
        "#  why\np,role:reader ,*,*,  read,allow\n\n\n\ng2, /grpc.health.v1.Health/Check,api:h\n\n"
    )
    model = (default / "model.conf").read_text().replace("obj, act, eft\n", "obj, act, eft, until\n")
    (tmp_path / "ending" / "model.conf").write_text(model.rstrip() + " && validUntil(p.until)\n")
    (tmp_path / "ending" / "policy.csv").write_text(
        "p, role:reader, *, *, read, allow, never\n"
        "p, user:corp:rita, shop, *, *, allow, 2026-06-03T12:00:00Z\n"
        "p, user:corp:otto, shop, *, *, allow, 2026-05-03T12:00:00Z\n"
    )
    (tmp_path / "pack.csv").write_text(
        "# the new role\np, role:packer, shop, *, read, allow\np, role:writer, *, *, write, allow\n"
    )
    calls = [
        ("user:corp:rita", ["reader@warehouse"], "GetOrder", "warehouse", "allowed"),
        ("user:corp:otto", ["auditor"], "ListOrders", "shop", "no_rule"),
        ("user:corp:rita", ["reader@warehouse"], "GetOrder", "warehouse", "allowed"),
        ("user:corp:rita", ["reader@shop"], "GetOrder", "shop", "allowed"),
    ]
    with (tmp_path / "audit.jsonl").open("w") as log:
        for number, (sub, roles, method, space, reason) in enumerate(calls):
            record = {
                "id": f"{number:028x}",
                "event": "decision",
                "reason": reason,
                "sub": sub,
                "authn": "token",
                "roles": roles,
                "method": f"/example.orders.v1.Orders/{method}",
                "namespaces": [space],
            }
            log.write(json.dumps(record) + "\n")
        log.write(json.dumps({"event": "decision", "reason": "token_expired", "sub": None}) + "\n")
    monkeypatch.chdir(tmp_path)
    main(["policy", "sign", "--new-key", "key.pem"])
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_prints_what_it_printed(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, code = COMMANDS[name]
    capsys.readouterr()
    assert main(["policy", *words]) == code
    printed = capsys.readouterr()
    text = re.sub(r"\b[0-9a-f]{64}\b", "<revision>", printed.out + printed.err)
    text = re.sub(r"\b[0-9a-f]{16}\b", "<key>", text)
    if name.endswith(".json"):
        json.loads(printed.out)
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("AUTHZ_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_every_command_has_a_golden_test() -> None:
    from authz.cli.policy import COMMANDS as KNOWN

    assert {words[0] for words, _ in COMMANDS.values()} == set(KNOWN)
    assert {file.stem for file in GOLDEN.iterdir()} == set(COMMANDS)


def test_every_command_helps(capsys: pytest.CaptureFixture[str]) -> None:
    from authz.cli.policy import COMMANDS as KNOWN

    for name in KNOWN:
        with pytest.raises(SystemExit) as ended:
            main(["policy", name, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert name in text
        assert "exit codes" in text


@pytest.mark.parametrize(
    "words",
    [
        ["can", "role:writer", "shop"],
        ["can", "writer", "shop", "GetOrder", "-b", "policies/default"],
        ["can", "role:writer", "sh*op", "GetOrder", "-b", "policies/default"],
        ["can", "role:writer", "shop", "Get Order", "-b", "policies/default"],
        ["can", "--token", "t", "shop", "GetOrder", "-b", "policies/default"],
        ["can", "role:writer", "shop", "GetOrder", "--role", "a b", "-b", "policies/default"],
        ["who-can", "Nothing", "-b", "policies/default"],
        ["list", "nobody", "-b", "policies/default"],
        ["sign", "policies/default"],
        ["test", "policies/default", "-k", "there is no such test"],
    ],
)
def test_a_wrong_command_line_is_2(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", *words]) == 2
    assert capsys.readouterr().err.startswith("authz: ")


def test_an_argument_that_is_none_is_2(folder: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["policy", "check", "--at", "tomorrow"])
    assert ended.value.code == 2


def test_from_a_signed_change_to_a_rollback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "sign", "policies/default", "--key", "key.pem"]) == 0
    assert main(["policy", "sign", "policies/default", "--verify", "key.pub.pem"]) == 0
    assert main(["policy", "promote", "policies/default", "store", "--require-signature", "key.pub.pem"]) == 0
    first = Path("store/current").resolve().name
    shutil.copytree("policies/default", "next")
    with Path("next/policy.csv").open("a") as file:
        file.write("p, role:clerk, shop, *, read, allow\n")
    tests = Path("next/tests.yaml")
    tests.write_text(tests.read_text().replace("callers:", "callers:\n  clerk: {system: [clerk]}"))
    assert main(["policy", "promote", "next", "store", "--require-signature", "key.pub.pem"]) == 4
    assert "signs revision" in capsys.readouterr().err
    assert Path("store/current").resolve().name == first
    assert main(["policy", "promote", "next", "store", "--note", "a clerk reads"]) == 0
    assert main(["policy", "diff", f"store@{first[:8]}", "store/current"]) == 3
    assert "role:clerk" in capsys.readouterr().out
    Path("server.jsonl").write_text(json.dumps({"policy_version": first}) + "\nhalf a rec")
    assert main(["policy", "diff", "store@server.jsonl", "policies/default"]) == 0
    Path("server.jsonl").write_text("{}\n")
    assert main(["policy", "diff", "store@server.jsonl", "policies/default"]) == 4
    assert main(["policy", "diff", "store@zz", "policies/default"]) == 4
    capsys.readouterr()
    assert main(["policy", "rollback", "store", "--note", "too early"]) == 0
    assert Path("store/current").resolve().name == first
    capsys.readouterr()
    assert main(["policy", "history", "store", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [step["action"] for step in told["steps"]] == ["promote", "promote", "rollback"]
    assert told["in_force"] == first
    assert main(["policy", "history", "store"]) == 0
    assert "too early" in capsys.readouterr().out


def test_a_revision_of_git_is_a_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", "policies")
    git("commit", "-qm", "first")
    more = Path("policies/default/policy.d")
    more.mkdir()
    (more / "März.csv").write_text("p, role:packer, shop, *, read, allow\n")
    (more / ".#März.csv").write_text("an editor's own")
    git("add", "policies")
    git("commit", "-qm", "second")
    assert main(["policy", "diff", "HEAD:policies/default", "policies/default"]) == 0
    capsys.readouterr()
    with Path("policies/default/policy.csv").open("a") as file:
        file.write(CHANGED)
    assert main(["policy", "diff", "HEAD:policies/default", "policies/default"]) == 3
    assert "role:auditor" in capsys.readouterr().out
    assert main(["policy", "diff", "HEAD~7:policies/default", "policies/default"]) == 4
    assert main(["policy", "diff", "HEAD:nowhere", "policies/default"]) == 4
    assert main(["policy", "can", "role:reader", "shop", "GetOrder", "-b", "HEAD:policies/default"]) == 0


def test_formats_and_merges_for_real(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "format", "untidy"]) == 0
    assert main(["policy", "format", "--check", "untidy"]) == 0
    assert main(["policy", "merge", "policies/default", "pack.csv"]) == 0
    once = Path("policies/default/policy.csv").read_text()
    assert "# --- from the pack pack\n# the new role\np, role:packer" in once
    assert main(["policy", "merge", "policies/default", "pack.csv"]) == 0
    assert Path("policies/default/policy.csv").read_text() == once


def test_junit(folder: Path) -> None:
    assert main(["policy", "test", "wider", "--junit", "out.xml"]) == 3
    from xml.etree import ElementTree

    suite = ElementTree.parse("out.xml").getroot()
    failures = suite.findall("testcase/failure")
    assert int(suite.get("failures", "")) == len(failures) > 0
    assert int(suite.get("tests", "")) == len(suite.findall("testcase"))


def test_a_starter_is_clean_and_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "mine"]) == 0
    assert main(["policy", "check", "mine/policy"]) == 0
    assert main(["policy", "test", "mine/policy", "--min-coverage", "100"]) == 0
    assert main(["policy", "format", "--check", "mine/policy"]) == 0
    before = Path("mine/policy/policy.csv").read_text()
    assert main(["init", "mine"]) == 4
    assert "is there already" in capsys.readouterr().err
    assert Path("mine/policy/policy.csv").read_text() == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "who-can" in script
    assert "fail-on-new-access" in script
    if shell == "bash":
        words = "COMP_WORDS=(authz policy diff --f); COMP_CWORD=3; _authz; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", f"{script}\n{words}"], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["--fail-on-new-access", "--format"]


def test_no_colour_where_nobody_looks(folder: Path) -> None:
    words = [sys.executable, "-m", "authz", "policy", "diff", "policies/default", "changed"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "\x1b" not in done.stdout + done.stderr
