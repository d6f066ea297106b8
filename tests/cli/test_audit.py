"""The commands of ``authz audit``, as an auditor types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.claims.base import Claims
from authz.cli import Exit, main
from authz.cli.audit import NOTICES
from examples.incident.__main__ import record as record_incident
from tests.audit.logs import ALICE, record


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incident")
    record_incident(folder)
    return folder


@pytest.fixture(autouse=True)
def there(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(incident)


def test_verify_has_a_code_for_each_answer(incident: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proven = ["audit", "verify", "audit", "--key", "audit.pub", "--anchors", "anchors.jsonl"]
    assert main(proven) == Exit.OK
    assert main(["audit", "verify", "audit"]) == NOTICES
    assert main(["audit", "verify", "absent"]) == Exit.INVALID
    assert main(["audit", "verify", "audit", "--key", "anchors.jsonl"]) == Exit.INVALID
    data = (incident / "audit" / "audit.jsonl").read_bytes()
    (tmp_path / "audit.jsonl").write_bytes(data.replace(b"user:staff:otto", b"user:staff:rita", 1))
    capsys.readouterr()
    assert main(["audit", "verify", str(tmp_path)]) == Exit.FINDING
    assert "the log is DAMAGED" in capsys.readouterr().out
    assert main(["audit", "verify", str(tmp_path), "--json"]) == Exit.FINDING
    assert json.loads(capsys.readouterr().out)["sound"] is False


def test_what_is_not_shown_is_counted_by_its_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).close()
    with path.open("ab") as file:
        file.write(b"{}\n" * 201)
    assert main(["audit", "verify", str(path)]) == Exit.FINDING
    assert "and 1 more: 1 no_line\nthe log is DAMAGED" in capsys.readouterr().out
    assert main(["audit", "verify", str(path), "--json"]) == Exit.FINDING
    assert json.loads(capsys.readouterr().out)["more"] == {"no_line": 1}
    assert main(["audit", "report", str(path), "--to", str(tmp_path / "out")]) == Exit.FINDING
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["verified"]["more"] == {"no_line": 1}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The log is damaged: 201 findings." in page
    assert "and 1 more: 1 no_line" in page


def test_verify_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    command = ["audit", "verify", "audit", "--key", "audit.pub", "--state", str(state), "--json"]
    assert main(command) == Exit.OK
    first = json.loads(capsys.readouterr().out)
    assert main(command) == Exit.OK
    second = json.loads(capsys.readouterr().out)
    assert (first["chains"][0]["last"], second["chains"][0]["lines"]) == (second["chains"][0]["last"], 0)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"5f2d1c3b4a59": 5}', '{"5f2d1c3b4a59": {"seq": 1}}', "[" * 100_000, "\0"]
)
def test_a_state_that_cannot_be_used_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    state.write_text(text)
    assert main(["audit", "verify", "audit", "--state", str(state)]) == Exit.INVALID
    assert f"{state} is not the state of a verification: " in capsys.readouterr().err
    for path in (tmp_path / "absent" / "state.json", tmp_path):
        assert main(["audit", "verify", "audit", "--state", str(path)]) == Exit.INVALID
    assert "cannot be written" in capsys.readouterr().err


def test_the_state_of_a_log_that_is_gone_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, state = tmp_path / "log" / "audit.jsonl", tmp_path / "state.json"
    path.parent.mkdir()
    command = ["audit", "verify", str(path.parent), "--state", str(state)]
    assert main(command) == Exit.INVALID
    assert "there is no log in" in capsys.readouterr().err
    AuditLog(path).close()
    assert main(command) == NOTICES
    before = state.read_text()
    path.unlink()
    assert main(command) == Exit.FINDING
    assert "nothing is left of the chain" in capsys.readouterr().out
    assert state.read_text() == before


def test_keys_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.key"
    assert main(["audit", "keygen", str(path)]) == Exit.OK
    assert (path.stat().st_mode & 0o777, path.with_suffix(".pub").exists()) == (0o600, True)
    assert main(["audit", "keygen", str(path)]) == Exit.INVALID
    assert "exists; name another file" in capsys.readouterr().err
    assert main(["audit", "keygen", "--subjects", str(tmp_path / "subjects.key")]) == Exit.OK
    assert len((tmp_path / "subjects.key").read_text()) == 65
    assert main(["audit", "keygen", "--subjects", str(tmp_path / "subjects.key")]) == Exit.INVALID


COMMANDS = [
    (["query", "sub:staff:otto", "audit"], 0, "user:staff:otto"),
    (["query", "sub:nobody", "audit"], 3, "nothing found"),
    (["query", "nothing:x", "audit"], 4, "is no field to search"),
    (["query", "", "audit", "--columns", "time,secret"], 4, "`secret` is no field of a record"),
    (["show", "01", "audit"], 4, "several records have the id"),
    (["denied", "audit", "-q", "sub:staff:otto"], 0, "p, user:staff:otto, globex"),
    (["denied", "audit", "-q", "sub:nobody"], 0, "nothing was denied"),
    (["who-did", "*PurgeNamespace", "audit"], 0, "user:staff:otto"),
    (["changes", "audit"], 0, "no_opinion to allow"),
    (["replay", "audit", "--policy", "policies/default"], 3, "allow   no_opinion"),
    (["replay", "audit", "--policy", "policies/absent"], 4, "is no folder"),
    (["unused", "audit", "--policy", "policies/default", "--days", "3650"], 0, "role:worker"),
    (["suggest", "staff:walt", "audit"], 0, "p, user:staff:walt, acme"),
    (["suggest", "staff:nobody", "audit"], 3, "was allowed nothing"),
    (["anomalies", "audit"], 3, "denials within a minute"),
    (["compact", "audit"], 0, "no closed segment"),
]


@pytest.mark.parametrize(("words", "code", "said"), COMMANDS)
def test_a_command_answers(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["audit", *words]) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


@pytest.mark.parametrize("words", [words for words, code, _ in COMMANDS if code != 4])
def test_every_table_can_be_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", *words, "--json"])
    for line in capsys.readouterr().out.splitlines():
        assert json.loads(line)


def test_hostile_text_leaves_the_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.write(record(method="\x1b[2J\u202e", agent="\x07"))
    with (tmp_path / "other.jsonl").open("wb") as file:
        file.write(b'{"event":"decision","id":"x","method":"\\u001b[31m","time":"2026-01-01T00:00:00Z"}\n')
    assert main(["audit", "query", "", str(tmp_path), "--columns", "method,user_agent"]) == Exit.OK
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_hashed_subjects_are_found_by_whoever_has_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "subjects.key"
    key.write_text("k" * 32)
    with AuditLog(tmp_path / "audit.jsonl", LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(record())
    query = ["audit", "query", "sub:corp:alice event:decision", str(tmp_path / "audit.jsonl")]
    assert main(query) == Exit.FINDING
    assert main([*query, "--subject-key", str(key)]) == Exit.OK
    key.write_text("short")
    assert main([*query, "--subject-key", str(key)]) == Exit.INVALID


HASHED = [
    ("sub:corp:alice", 1),
    ("'sub:corp:alice'", 1),
    ("sub:user:corp:alice,corp:nobody", 1),
    ("sub:corp:alice,corp:backup", 2),
    ("-sub:corp:alice event:decision", 2),
    ("-sub:corp:alice,corp:backup event:decision", 1),
    ("sub:corp:backup", 1),
    ("sub:corp:hmac-*", 2),
    ("sub:corp:nobody", 0),
]


@pytest.mark.parametrize(("words", "count"), HASHED)
def test_who_has_the_key_searches_as_if_nothing_were_hashed(
    tmp_path: Path, words: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "subjects.key"
    key.write_text("k" * 32)
    (tmp_path / "looks.yaml").write_text("audit:\n  file: looks.jsonl\n")
    (tmp_path / "log").mkdir()
    with AuditLog(tmp_path / "log" / "audit.jsonl", LogSettings(masking=Masking(b"k" * 32, ["corp:backup"]))) as log:
        for name in ("alice", "bob", "backup"):
            log.write(record(claims=Claims(replace(ALICE, subject=name))))
    query = ["audit", "query", words, str(tmp_path / "log"), "--subject-key", str(key), "--json"]
    assert main([*query, "--config", str(tmp_path / "looks.yaml")]) == (Exit.OK if count else Exit.FINDING)
    assert len(capsys.readouterr().out.splitlines()) == count
    assert "alice" not in (tmp_path / "looks.jsonl").read_text()


def test_lines_that_are_left_out_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"event":"decision","id":"x"}\nnothing\n')
    main(["audit", "query", "", str(tmp_path)])
    assert "1 lines are no records and were left out" in capsys.readouterr().err


def test_a_report_and_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "report", "audit", "--to", str(tmp_path / "e"), "--key", "audit.pub"]) == Exit.OK
    assert (tmp_path / "e" / "report.html").exists()
    assert main(["audit", "export", "audit", "--to", str(tmp_path / "o.csv"), "--format", "csv"]) == Exit.OK
    assert main(["audit", "export", "audit", "--to", str(tmp_path / "o.csv"), "--format", "csv"]) == Exit.INVALID


def test_a_log_with_rare_checkpoints_is_compacted_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now)
    folder = tmp_path / "log"
    folder.mkdir()
    settings = LogSettings(sync_seconds=60, reserve_bytes=0, rotate_bytes=1000, checkpoint_seconds=300)
    with AuditLog(folder / "audit.jsonl", settings) as log:
        log.write(record())
        now += 200 * 10**9
        log.write(record())
        log.tend()
    command = ["audit", "report", str(folder), "--to"]
    assert main([*command, str(tmp_path / "late")]) == Exit.FINDING
    assert main([*command, str(tmp_path / "fine"), "--seconds", "300"]) == Exit.OK
    assert main(["audit", "compact", str(folder), "--delete"]) == Exit.OK
    assert [path.suffix for path in sorted(folder.glob("audit-*"))] == [".parquet"]


def test_start_up_loads_no_more_than_is_needed() -> None:
    program = (
        "import sys; from authz.cli import main\n"
        "try: main(['audit', 'verify', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'duckdb', 'casbin', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.splitlines()[-1] == "[]"


READS = [
    (["query", "decision:deny", "LOG"], "audit query decision:deny"),
    (["show", "01a1f9465b08", "LOG"], "audit show 01a1f9465b08"),
    (["denied", "LOG", "-q", "sub:staff:rita"], "audit denied sub:staff:rita"),
    (["who-did", "*Purge*", "LOG"], "audit who-did *Purge*"),
    (["changes", "LOG"], "audit changes"),
    (["replay", "LOG", "--policy", "policies/default"], "audit replay"),
    (["unused", "LOG", "--policy", "policies/default"], "audit unused"),
    (["suggest", "staff:walt", "LOG"], "audit suggest staff:walt"),
    (["anomalies", "LOG"], "audit anomalies"),
    (["report", "LOG", "--to", "OUT"], "audit report"),
    (["export", "LOG", "--to", "OUT", "--format", "json"], "audit export"),
]


@pytest.mark.parametrize(("words", "asked"), READS, ids=[words[0] for words, _ in READS])
def test_that_somebody_looked_is_recorded_in_a_log_of_its_own(
    tmp_path: Path, incident: Path, words: list[str], asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "reviews.yaml"
    config.write_text("audit:\n  directory: looks\n")
    places = {"LOG": str(incident / "audit"), "OUT": str(tmp_path / "out")}
    before = (incident / "audit" / "audit.jsonl").read_bytes()
    assert main(["audit", *(places.get(word, word) for word in words), "--config", str(config)]) in (0, 3)
    assert (incident / "audit" / "audit.jsonl").read_bytes() == before, "a reader needs no right to write there"
    log = next((tmp_path / "looks").rglob("audit.jsonl"))
    told = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "log.queried"]
    assert [(line["code"], line["asked"], line["logs"]) for line in told] == [("AZ2007", asked, [places["LOG"]])]
    assert f"uid {os.getuid()}" in told[0]["by"]
    capsys.readouterr()
    assert main(["audit", "verify", str(tmp_path / "looks")]) == NOTICES
    columns = ["--columns", "event,asked,by,logs"]
    assert main(["audit", "query", "event:log.queried", str(tmp_path / "looks"), *columns]) == Exit.OK
    assert asked in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("audit:\n  file: folder/that/is/not/there/log.jsonl\n", "cannot be opened"),
        ("policy: {}\n", "audit"),
        ("audit:\n  file: busy.jsonl\n", "another process writes to it"),
    ],
)
def test_who_cannot_be_recorded_sees_nothing(
    tmp_path: Path, section: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "reviews.yaml"
    config.write_text(section)
    with AuditLog(tmp_path / "busy.jsonl"):
        for words in (["query", "", "audit"], ["report", "audit", "--to", str(tmp_path / "out")]):
            assert main(["audit", *words, "--config", str(config)]) == Exit.INVALID
            told = capsys.readouterr()
            assert (told.out, said in told.err) == ("", True)
    assert not (tmp_path / "out").exists()


def test_what_was_asked_about_a_hashed_subject_is_recorded_hashed(tmp_path: Path) -> None:
    (tmp_path / "subjects.key").write_text("k" * 32)
    (tmp_path / "reviews.yaml").write_text("audit:\n  file: looks.jsonl\n")
    with AuditLog(tmp_path / "audit.jsonl", LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(record())
    query = ["audit", "query", "sub:corp:alice", str(tmp_path / "audit.jsonl")]
    options = ["--subject-key", str(tmp_path / "subjects.key"), "--config", str(tmp_path / "reviews.yaml")]
    assert main([*query, *options]) == Exit.OK
    looks = (tmp_path / "looks.jsonl").read_text()
    assert "audit query sub:*hmac-" in looks
    assert "alice" not in looks
