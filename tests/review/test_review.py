"""The views of a reviewer, on the recorded incident and on logs that somebody spoiled."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from authz.audit.event import Event, EventName
from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from authz.review.anomalies import anomalies
from authz.review.changes import Change, changes
from authz.review.compact import compact
from authz.review.denied import denied
from authz.review.export import export, write_csv
from authz.review.follow import follow
from authz.review.logs import Logs
from authz.review.replay import replay
from authz.review.report import sections, write_report
from authz.review.search import Search
from authz.review.show import show
from authz.review.unused import unused
from examples.incident.__main__ import OTTO, RITA
from tests.audit.logs import record
from tests.review.world import World, opened

PURGE = "/example.orders.v1.Orders/PurgeNamespace"


def test_a_denial_comes_with_the_smallest_rule_that_would_allow_it(incident: Path, logs: Logs) -> None:
    found = {(d.sub, d.method.rpartition("/")[2], d.reason): d for d in denied(logs)}
    rita = found["user:staff:rita", "CreateOrder", "no_rule"]
    assert rita.remedy == "p, user:staff:rita, acme, /example.orders.v1.Orders/CreateOrder, write, allow"
    assert (rita.count, rita.first < rita.last) == (12, True)
    assert found[None, "GetOrder", "token_expired"].remedy.startswith("none: it was refused before")


def test_the_rule_that_is_told_does_allow_it(incident: Path, logs: Logs, tmp_path: Path) -> None:
    shutil.copytree(incident / "policies" / "default", tmp_path / "new")
    with (tmp_path / "new" / "policy.csv").open("a") as file:
        file.writelines(f"{d.remedy}\n" for d in denied(logs) if d.remedy.startswith("p, "))
    flips = replay(logs, tmp_path / "new").flips
    assert sum(flip.count for flip in flips if flip.after == "allow") == 54


def test_a_change_of_policy_comes_with_what_it_turned(logs: Logs) -> None:
    first, bad, good = changes(logs)
    assert (first.before, bad.before, good.after) == (None, first.after, first.after)
    assert [(t.sub, t.before, t.after) for t in bad.turned] == [("user:staff:otto", "no_opinion", "allow")]
    assert [(t.sub, t.before, t.after) for t in good.turned] == [("user:staff:otto", "allow", "no_opinion")]


def test_a_change_is_told_for_each_process_with_the_decisions_that_it_made(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        with opened(tmp_path / host) as world:
            bundles = [world.bundle("old"), world.bundle("new", f"p, user:staff:rita, *, {PURGE}, *, allow")]
            for at, bundle in enumerate((*bundles, *bundles)):
                world.recorder.at(at)
                world.recorder.load(bundle)
                for namespace in ("acme", "globex")[: at + 1]:
                    world.recorder.call(RITA, "PurgeNamespace", namespace)
    logs_of = [tmp_path / host / "audit.jsonl" for host in ("a", "b")]
    with Logs(logs_of) as logs:
        found = changes(logs)
    counts: dict[str, list[tuple[int, int]]] = {}
    for change in found:
        counts.setdefault(change.writer, []).append((change.allowed, change.denied))
    assert list(counts.values()) == [[(0, 1), (2, 0), (0, 2), (2, 0)]] * 2
    assert [len(change.turned) for change in found if change.turned] == [2, 2], "once there, and once back"


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, None, ""),
        (None, "a" * 64, "none to aaaaaaaaaaaa"),
        ("a" * 64, "a" * 64, "aaaaaaaaaaaa"),
        ("a" * 64, "b" * 64, "aaaaaaaaaaaa to bbbbbbbbbbbb"),
        ("a" * 64, None, "aaaaaaaaaaaa to none"),
    ],
)
def test_a_change_tells_what_became_of_the_shadow(before: str | None, now: str | None, told: str) -> None:
    made = Change(datetime(2026, 11, 20, tzinfo=UTC), "w", "policy.loaded", "r", "r", shadow_before=before, shadow=now)
    assert made.shadows == told


def test_a_replay_finds_every_flip(incident: Path, logs: Logs) -> None:
    result = replay(logs, incident / "policies" / "default")
    assert [(flip.sub, flip.method, flip.before, flip.after, flip.count) for flip in result.flips] == [
        ("user:staff:otto", PURGE, "allow", "no_opinion", 1)
    ]
    assert (result.decided, result.skipped) == (210, 12)


def test_anomalies_are_what_is_new_and_bursts(logs: Logs) -> None:
    found = {(a.kind, a.who) for a in anomalies(logs)}
    assert {("burst", "user:staff:eve"), ("key", "user:staff:eve"), ("client", "user:staff:eve")} <= found
    assert ("first_use", "user:staff:otto") in found
    assert not [a for a in anomalies(logs) if a.who == "user:staff:rita"]


def test_a_report_is_a_page_tables_and_a_manifest(incident: Path, logs: Logs, tmp_path: Path) -> None:
    verified = verify([incident / "audit"])
    usage = unused(logs, incident / "policies" / "default", 30, datetime(2026, 11, 21, tzinfo=UTC))
    written = write_report(logs, tmp_path / "evidence", verified, usage)
    assert [path.name for path in written] == [
        "anomalies.csv", "callers.csv", "changes.csv", "denied.csv", "report.html", "manifest.json",
    ]  # fmt: skip
    manifest = json.loads(written[-1].read_text())
    assert manifest["verified"]["sound"] is True
    assert len(manifest["files"]) == 5
    with pytest.raises(AuditError, match="is not empty"):
        write_report(logs, tmp_path / "evidence", verified)


@pytest.mark.parametrize("form", ["parquet", "ocsf", "csv", "json"])
def test_records_are_exported(logs: Logs, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"out.{form}"
    assert export(logs, path, form, Search.parse("decision:deny")) == 66
    if form == "parquet":
        assert duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchall() == [(66,)]
    elif form == "ocsf":
        event = json.loads(path.read_text().splitlines()[0])
        assert (event["class_uid"], event["type_uid"], event["status"]) == (6003, 600303, "Failure")
    with pytest.raises(AuditError, match="exists"):
        export(logs, path, form)


def test_what_is_no_call_is_neither_allowed_nor_denied_in_an_export(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.lose(3, "disk")
        log.write(Event(EventName.POLICY_REJECTED, {"problems": ["x"]}))
        log.write(record())
    with Logs([tmp_path]) as logs:
        export(logs, tmp_path / "out.ocsf", "ocsf")
    told = {}
    for event in map(json.loads, (tmp_path / "out.ocsf").read_text().splitlines()):
        assert (event["type_uid"], event["api"]["operation"] is None) == (600300 + event["activity_id"], False)
        name = event["unmapped"]["event"]
        told[name] = [event[key] for key in ("activity_name", "action_id", "status_id", "severity_id")]
    assert told.pop("decision") == ["Read", 1, 1, 1]
    assert {"audit.loss", "policy.rejected", "checkpoint", "log.close"} <= set(told)
    assert all(said == [name, 0, 0, 0] for name, said in told.items())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    file = io.StringIO(newline="")
    write_csv(file, ["a"], [{"a": text}])
    assert next(csv.reader(io.StringIO(file.getvalue().split("\n", 1)[1], newline="")))[0] == f"'{text}"


def test_compacted_segments_answer_and_verify_as_before(tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] log"
    folder.mkdir()
    with AuditLog(folder / "audit.jsonl", LogSettings(rotate_bytes=30_000, sync_seconds=0.01)) as log:
        for _ in range(100):
            log.write(record(agent="\ud800<b>"))
            log.tend()
    before = verify([folder])
    with Logs([folder]) as logs:
        count = logs.ask("SELECT count(*) AS n FROM decisions")
    made = compact([folder], delete=True)
    assert made
    assert not list(folder.glob("audit-*.jsonl"))
    after = verify([folder])
    assert after.sound
    assert [(c.last, c.sealed) for c in after.chains] == [(c.last, c.sealed) for c in before.chains]
    with Logs([folder]) as logs:
        assert logs.ask("SELECT count(*) AS n FROM decisions") == count == [{"n": 100}]
        assert logs.left_out() == 0
    assert compact([folder]) == []


def test_what_was_compacted_before_there_was_a_field_still_answers(tmp_path: Path) -> None:
    for name in ("old", "new"):
        path = tmp_path / name / "audit-000000000001.jsonl"
        path.parent.mkdir()
        with AuditLog(path) as log:
            log.write(record())
        compact([path], delete=True)
    old = tmp_path / "old" / "audit-000000000001.parquet"
    duckdb.execute(f"COPY (SELECT * EXCLUDE (asked, logs) FROM '{old}') TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    (tmp_path / "x.parquet").rename(old)
    for folders in (["old"], ["old", "new"]):
        with Logs([tmp_path / name for name in folders]) as logs:
            rows = logs.find(Search.parse("event:decision"))
            assert [(row["sub"], row["asked"]) for row in rows] == [("user:corp:alice", None)] * len(folders)


def test_a_damaged_segment_is_not_compacted(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl", LogSettings(rotate_bytes=10_000, sync_seconds=0.01)) as log:
        for _ in range(30):
            log.write(record())
            log.tend()
    segment = min(tmp_path.glob("audit-*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"allow"', b'"deny"', 1))
    with pytest.raises(AuditError, match="is damaged and stays as it is"):
        compact([tmp_path], delete=True)
    assert segment.exists()


SPOILT = [
    b"\xff\xfe\x00\n",
    b"{\n",
    b"[" * 100_000 + b"\n",
    b'{"v":1,"event":7,"time":"never"}\n',
    b"\x1b[2J\n",
    b"\n",
    b'{"event":"decision","id":"\\ud800"}\n',
    b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
    b"null\n",
]


@pytest.mark.parametrize("seed", range(8))
def test_on_a_spoilt_log_every_view_answers_on_what_is_sound(incident: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = (incident / "audit" / "audit.jsonl").read_bytes().splitlines(keepends=True)
    for _ in range(10):
        lines.insert(rng.randrange(len(lines)), rng.choice(SPOILT))
    del lines[rng.randrange(len(lines))]
    lines[-1] = lines[-1][: rng.randrange(len(lines[-1]))]
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines))
    report = verify([tmp_path])
    assert report.damage
    with Logs([tmp_path]) as logs:
        assert logs.left_out() > 0
        assert len(logs.find(Search.parse("decision:allow"), 1000)) > 100
        assert denied(logs)
        assert changes(logs)
        anomalies(logs)
        assert replay(logs, incident / "policies" / "default").decided > 100
        write_report(logs, tmp_path / "evidence", report)
        assert export(logs, tmp_path / "out", "csv") > 100


def test_logs_of_several_writers_are_one(incident: Path, tmp_path: Path) -> None:
    shutil.copytree(incident / "audit", tmp_path / "one")
    with AuditLog(tmp_path / "two.jsonl") as log:
        log.write(record())
    with Logs([tmp_path]) as logs:
        assert logs.ask("SELECT count(DISTINCT writer) AS n FROM decisions") == [{"n": 2}]


def test_a_reviewer_of_some_namespaces_sees_only_theirs(incident: Path) -> None:
    with Logs([incident / "audit"], namespaces=["globex"]) as logs:
        assert logs.ask("SELECT DISTINCT namespace FROM records") == [{"namespace": "globex"}]
    with Logs([incident / "audit"], namespaces=[]) as logs:
        assert logs.ask("SELECT count(*) AS n FROM records") == [{"n": 0}]


def test_a_call_that_was_also_elsewhere_is_of_no_reviewer_of_some_namespaces(tmp_path: Path) -> None:
    many = tuple(f"ns{number}" for number in range(64))
    calls = [("acme",), ("acme", None), (None, "acme"), (None,), (), ("acme", "globex"), many, (*many, "globex")]
    with AuditLog(tmp_path / "audit.jsonl") as log:
        for namespaces in calls:
            log.write(record(namespaces=namespaces))
    with Logs([tmp_path], namespaces=["acme", *many]) as logs:
        rows = logs.ask("SELECT namespaces FROM records ORDER BY seq")
    assert [tuple(row["namespaces"]) for row in rows] == [("acme",), many]


def test_a_reviewer_of_some_namespaces_is_told_of_no_other(world: World) -> None:
    """Neither by the sentence for operators, nor by the lines around a rule, nor by what changed in the policy."""
    secret = "globex-secret-merger"
    lines = [f"p, user:staff:ceo, {secret}, *, *, allow", f"p, user:staff:rita, acme, {PURGE}, *, allow"]
    world.recorder.load(world.bundle("a", *lines, f"p, role:authenticated, {secret}, {PURGE}, *, allow"))
    for caller in (RITA, OTTO):
        world.recorder.call(caller, "PurgeNamespace", "acme")
    world.recorder.load(world.bundle("b"))
    world.recorder.call(RITA, "PurgeNamespace", "acme")
    world.log.tend()
    for names, seen in ((None, True), (["acme"], False)):
        with Logs([world.folder / "audit.jsonl"], namespaces=names) as logs:
            rows = logs.find(Search.parse("event:decision"))
            shown = [show(logs, row["id"]) for row in rows]
            pages = [str((each.record, each.around)) for each in shown]
            assert [secret in page for page in pages] == [seen, seen, False]
            assert [each.same for each in shown] == [True, True, True]
            assert ("no_opinion" in "".join(sections(logs))) is seen


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="there is no such file"):
        Logs([tmp_path / "absent"])
    with pytest.raises(AuditError, match="there is no log in "):
        Logs([tmp_path])
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(AuditError, match=r"a\.parquet cannot be read"), Logs([tmp_path]) as logs:
        logs.left_out()


def test_without_duckdb_it_says_what_to_install(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(AuditError, match=r"pip install 'grpc-authz\[review\]'"):
        Logs([incident / "audit"])


def test_following_sees_what_is_written_from_now_on_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    seen: list[dict[str, Any]] = []
    done = threading.Event()
    with AuditLog(path, LogSettings(rotate_bytes=20_000, sync_seconds=0.01)) as log:
        log.write(record(audit_id="before"))

        def read() -> None:
            for fields in follow([tmp_path], Search.parse("event:decision"), done.is_set):
                seen.append(fields)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        for number in range(60):
            log.write(record(audit_id=f"after-{number}"))
            time.sleep(0.005)
        deadline = time.monotonic() + 10
        while len(seen) < 60 and time.monotonic() < deadline:
            time.sleep(0.05)
        done.set()
        reader.join()
    assert sorted(fields["id"] for fields in seen) == sorted(f"after-{number}" for number in range(60))


def test_the_incident_is_recorded_by_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.incident", str(tmp_path / "DEMO")]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == 0
    assert verify([tmp_path / "DEMO" / "audit"]).sound
    assert subprocess.run(command, cwd=root, capture_output=True).returncode != 0, "a folder is not written to twice"
