"""Whether a call was let in: every view says it of decisions that did not count, as of those that did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.cli import Exit, main
from authz.review.anomalies import anomalies
from authz.review.denied import denied
from authz.review.export import export, ocsf
from authz.review.logs import Logs
from authz.review.outcome import LET_IN, told, was_let_in
from authz.review.report import over_time, summary, write_report
from authz.review.search import Search
from authz.review.serve import ReviewServer
from authz.review.usage import suggest, who_did
from tests.audit.logs import METHOD, record
from tests.review.test_pages import ask, sign_in
from tests.review.world import DEFAULT

OUTCOMES = [("allow", True, True), ("allow", False, True), ("no_opinion", True, False), ("no_opinion", False, True)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of each decision, enforced and not: two were allowed, one more was let in, one was refused."""
    (tmp_path / "log").mkdir()
    with AuditLog(tmp_path / "log" / "audit.jsonl") as log:
        for number, (decision, enforced, _) in enumerate(OUTCOMES):
            entry = record(allow=decision == "allow", audit_id=f"{number:028x}")
            log.write(entry._replace(call=entry.call._replace(enforced=enforced)))
    return tmp_path / "log"


@pytest.fixture
def logs(folder: Path) -> Iterator[Logs]:
    with Logs([folder]) as opened:
        yield opened


def test_sql_and_single_records_agree(logs: Logs) -> None:
    rows = logs.ask(f"SELECT *, {LET_IN} AS holds FROM decisions ORDER BY seq")
    assert [(row["decision"], row["enforced"] is not False, row["let_in"]) for row in rows] == OUTCOMES
    assert [row["holds"] for row in rows] == [was_let_in(row) for row in rows] == [each[2] for each in OUTCOMES]
    assert [told(row) for row in rows] == ["allow", "allow", "no_opinion", "no_opinion (let in)"]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("let:in", [0, 1, 3]),
        ("let:out", [2]),
        ("-let:in event:decision", [2]),
        ("let:in,out", [0, 1, 2, 3]),
        ("enforced:false", [1, 3]),
        ("enforced:true", [0, 2]),
        ("decision:deny enforced:false", [3]),
    ],
)
def test_it_can_be_asked_for(folder: Path, logs: Logs, words: str, numbers: list[int]) -> None:
    search = Search.parse(words)
    assert [int(row["id"], 16) for row in logs.find(search)] == numbers
    lines = map(json.loads, (folder / "audit.jsonl").read_text().splitlines())
    assert [int(line["id"], 16) for line in lines if search.matches(line)] == numbers


def test_who_was_let_in_did_it(logs: Logs) -> None:
    (doer,) = who_did(logs, METHOD)
    assert (doer.did, doer.unenforced, doer.refused) == (3, 1, 1)


def test_a_denial_that_did_not_count_is_told_apart(logs: Logs) -> None:
    found = denied(logs, bundle=DEFAULT)
    assert sorted((each.count, each.let_in) for each in found) == [(1, False), (1, True)]
    (burst,) = [each for each in anomalies(logs, burst=2) if each.kind == "burst"]
    assert burst.what == "2 denials within a minute, of 1 methods; 1 of them were let in, since nothing was enforced"


def test_what_nobody_allowed_is_not_suggested(logs: Logs) -> None:
    assert [each.count for each in suggest(logs, "user:corp:alice", bundle=DEFAULT)] == [2]


def test_the_figures_of_a_report_add_up(logs: Logs, folder: Path, tmp_path: Path) -> None:
    whole = summary(logs)
    assert (whole["decisions"], whole["allowed"], whole["unenforced"], whole["refused"]) == (4, 2, 1, 1)
    bars = over_time(logs)
    assert (sum(bar[1] for bar in bars), sum(bar[2] for bar in bars)) == (3, 1)
    write_report(logs, tmp_path / "evidence", verify([folder]))
    assert "let in, not enforced" in (tmp_path / "evidence" / "report.html").read_text()
    assert (tmp_path / "evidence" / "callers.csv").read_text().splitlines()[1].split(",")[:5] == [
        "user:corp:alice", "corp", "2", "1", "1",
    ]  # fmt: skip


def test_an_export_says_what_became_of_a_call(logs: Logs, tmp_path: Path) -> None:
    rows = logs.find(Search.parse("event:decision"))
    events = [ocsf(row) for row in rows]
    assert [(e["action"], e["status"], e["severity"]) for e in events] == [
        ("Allowed", "Success", "Informational"),
        ("Allowed", "Success", "Informational"),
        ("Denied", "Failure", "Low"),
        ("Allowed", "Success", "Low"),
    ]
    assert [e["unmapped"]["enforced"] for e in events] == [None, False, None, False]
    export(logs, tmp_path / "out.json", "json", Search.parse("enforced:false"))
    assert [json.loads(line)["enforced"] for line in (tmp_path / "out.json").read_text().splitlines()] == [False] * 2


def test_what_a_shadow_policy_said_can_be_asked_for(tmp_path: Path) -> None:
    fields = {
        "event": "decision",
        "id": "x",
        "decision": "allow",
        "shadow_decision": "no_opinion",
        "shadow_rule": "p, x",
    }
    (tmp_path / "audit.jsonl").write_text(
        json.dumps(fields) + "\n" + json.dumps({"event": "decision", "id": "y"}) + "\n"
    )
    with Logs([tmp_path]) as logs:
        assert [(row["id"], row["shadow_rule"]) for row in logs.find(Search.parse("shadow:deny"))] == [("x", "p, x")]
    assert Search.parse("shadow:deny").matches(fields)
    assert not Search.parse("shadow:allow").matches(fields)


def test_no_command_takes_it_for_a_refusal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    last = f"{3:028x}"
    assert main(["audit", "query", f"id:{last}", str(folder), "--columns", "decision,reason"]) == Exit.OK
    assert "no_opinion (let in)  no_rule" in capsys.readouterr().out
    assert main(["audit", "show", last, str(folder)]) == Exit.OK
    assert "enforced        False" in capsys.readouterr().out
    assert main(["audit", "who-did", METHOD, str(folder)]) == Exit.OK
    assert "did  unenforced  refused" in capsys.readouterr().out
    assert main(["audit", "denied", str(folder)]) == Exit.OK
    assert "reason   let_in" in capsys.readouterr().out
    with ReviewServer([folder]) as server:
        html = ask(server, "GET", "/records", **sign_in(server, server.token))[1]
        assert html.count("no_opinion (let in)") == 1
        assert html.count('<span class="no_opinion">') == 2
