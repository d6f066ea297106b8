"""The commands of ``authz audit`` that search and judge: each a thin one over a function of ``authz.review``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from authz.cli import Exit, Subparsers
from authz.cli.table import cell, table, table_lines
from authz.errors import AuditError
from authz.review.logs import Logs
from authz.review.outcome import told
from authz.review.search import Search

_COLUMNS = ("time", "decision", "sub", "method", "namespaces", "reason", "id")


def register_review(commands: Subparsers) -> None:
    """Add the commands."""
    query = _command(
        commands, "query", "find records: sub:corp:alice decision:deny since:24h", _query, first="search", search=False
    )
    query.add_argument("--limit", type=int, default=100, help="the newest so many (default 100)")
    query.add_argument("--follow", action="store_true", help="go on with what is written from now on")
    query.add_argument("--columns", default=",".join(_COLUMNS), help="fields to show, separated by commas")
    query.add_argument("--subject-key", type=Path, help="the secret of a log whose subjects are hashed")

    show = _command(commands, "show", "explain one record", _show, first="id", search=False)
    show.add_argument("--policy", type=Path, action="append", default=[], help="folder of a policy bundle; repeatable")

    refused = _command(commands, "denied", "what was refused, and the smallest rule that would allow it", _denied)
    refused.add_argument(
        "--policy", type=Path, help="the bundle that is to allow it (default: the one that refused it)"
    )

    who = _command(commands, "who-did", "who called a method, and who can", _who_did, first="method", search=False)
    who.add_argument("--namespace", help="only calls that name it")
    who.add_argument("--policy", type=Path, help="tell who of the known callers can, by this bundle")

    _command(commands, "changes", "each policy that came into force, and what it turned", _changes, search=False)

    replay = _command(commands, "replay", "what would another policy have said?", _replay)
    replay.add_argument("--policy", type=Path, required=True, help="folder of the policy bundle")

    unused = _command(commands, "unused", "rules and grants that decided nothing", _unused, search=False)
    unused.add_argument("--policy", type=Path, required=True, help="folder of the policy bundle")
    unused.add_argument("--days", type=float, default=90.0, help="how far to look back (default 90)")

    least = _command(commands, "suggest", "the least policy that covers what somebody did", _suggest, first="subject")
    least.add_argument("--policy", type=Path, help="the bundle that is to hold it (default: the one that decided last)")

    odd = _command(commands, "anomalies", "what is there for the first time, and bursts of denials", _odd, search=False)
    odd.add_argument("--hours", type=float, default=24.0, help="the end of the log to look at (default 24)")
    odd.add_argument("--burst", type=int, default=20, help="denials within a minute that are a burst (default 20)")

    report = _command(commands, "report", "a folder for the evidence of an audit", _report, search=False, rows=False)
    report.add_argument("--to", type=Path, required=True, help="the new folder")
    report.add_argument("--key", type=Path, action="append", default=[], help="public key of the checkpoints")
    report.add_argument("--anchors", type=Path, action="append", default=[], help="file of checkpoints kept elsewhere")
    report.add_argument("--cadence", type=int, default=1000, help="most lines between checkpoints (default 1000)")
    report.add_argument("--seconds", type=float, default=10.0, help="longest wait for a checkpoint (default 10)")
    report.add_argument("--policy", type=Path, help="tell what of this bundle was not used")
    report.add_argument("--days", type=float, default=90.0, help="in so many days (default 90)")

    export = _command(commands, "export", "records for other tools", _export, rows=False)
    export.add_argument("--to", type=Path, required=True, help="the new file")
    export.add_argument("--format", choices=("parquet", "ocsf", "csv", "json"), required=True)

    compact = _command(commands, "compact", "turn closed segments into Parquet", _compact, search=False)
    compact.add_argument("--delete", action="store_true", help="delete what was turned, and came back byte for byte")

    serve = _command(
        commands, "serve", "the report as a local, live, read-only web page", _serve, search=False, rows=False
    )
    serve.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: a free one)")
    serve.add_argument("--config", type=Path, help="who may review what: a configuration of authz of its own")


def _command(
    commands: Subparsers, name: str, purpose: str, run: Any, *, first: str = "", search: bool = True, rows: bool = True
) -> argparse.ArgumentParser:
    """A command with the arguments that many have: ``first`` stands before the logs."""
    parser = commands.add_parser(name, help=purpose, description=purpose)
    if first:
        parser.add_argument(first)
    parser.add_argument("logs", type=Path, nargs="+", help="logs, or folders of logs of any writers and hosts")
    if search:
        parser.add_argument("-q", "--search", default="", help="only what this search finds; see docs/for-auditors.md")
    if rows:
        parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    if name not in ("compact", "serve"):
        parser.add_argument("--config", type=Path, help="record in this configuration's audit log that you looked")
    parser.set_defaults(run=run, asked=name)
    return parser


def _note(options: argparse.Namespace) -> None:
    """Record what is asked, if the command says where."""
    if options.config is not None:
        from authz.review.queried import record_query

        words = [getattr(options, name, "") for name in ("id", "method", "subject", "search")]
        record_query(options.config, " ".join(["audit", options.asked, *filter(None, words)]), options.logs)


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Logs]:
    _note(options)
    with Logs(options.logs) as logs:
        yield logs
        left = logs.left_out()
        if left:
            print(f"{left} lines are no records and were left out: run `authz audit verify`", file=sys.stderr)


def _out(options: argparse.Namespace, columns: Sequence[str], rows: Iterable[Any], empty: str) -> bool:
    """Print rows (objects or dictionaries) as a table or as JSON; whether there were any."""
    count = 0

    def made() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row if isinstance(row, dict) else {name: getattr(row, name) for name in row.__slots__}

    if options.json:
        for row in made():
            print(json.dumps(row, default=_json))
    else:
        for line in table_lines(columns, ([row.get(name) for name in columns] for row in made()), empty):
            print(line)
    return count > 0


def _json(value: object) -> object:
    names = getattr(value, "__slots__", None)
    return {name: getattr(value, name) for name in names} if names and not hasattr(value, "isoformat") else str(value)


def _query(options: argparse.Namespace) -> int:
    search = Search.parse(options.search)
    if options.subject_key is not None:
        search, options.search = _hashed(search, options.subject_key)
    columns = [name.strip() for name in options.columns.split(",")]
    from authz.review.export import plain
    from authz.review.logs import COLUMNS

    for name in columns:
        if name not in COLUMNS:
            raise AuditError(f"`{name}` is no field of a record; write some of: {', '.join(COLUMNS)}")
    with _opened(options) as logs:
        rows = logs.scan(search, options.limit)
        found = _out(options, columns, map(plain if options.json else _told, rows), "nothing found")
    if options.follow:
        from authz.review.follow import follow

        for record in follow(options.logs, search):
            shown = _told(record)
            print(
                json.dumps(record) if options.json else "  ".join(cell(shown.get(name)) for name in columns),
                flush=True,
            )
    return Exit.OK if found or options.follow else Exit.FINDING


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """A record for a table, where a decision that did not count must not look like one that did."""
    return {**record, "decision": told(record)}


def _hashed(search: Search, key: Path) -> tuple[Search, str]:
    """A search about subjects, for a log in which some or all are hashed; and its words, without their names."""
    from authz.audit.masking import Masking
    from authz.config.audit import read_subject_key

    masking = Masking(read_subject_key(key))
    asked, written = [], []
    for term in search.terms:
        names = [value for value in term.values if term.name == "sub" and not {"*", "?"} & set(value)]
        hashes = [f"*{masking.subject(name).removeprefix('user:')}" for name in names]
        # there are settings by which some subjects stay readable
        asked.append(replace(term, values=(*term.values, *hashes)))
        written.append(replace(term, values=(*(value for value in term.values if value not in names), *hashes)))
    return Search(tuple(asked)), " ".join(map(str, written))


def _show(options: argparse.Namespace) -> int:
    from authz.review.export import plain
    from authz.review.show import show

    with _opened(options) as logs:
        shown = show(logs, options.id, options.policy)
    record = plain(shown.record)
    if options.json:
        print(json.dumps({"record": record, "same": shown.same, "why": shown.why}, default=str))
        return Exit.OK if shown.same is not False else Exit.FINDING
    print(table(["field", "value"], [(name, value) for name, value in record.items() if value not in ("", [])]))
    if shown.around:
        print(f"\nthe policy as it was then ({cell(shown.bundle)}):")
        number = int(str(shown.record["rule_src"]).rpartition(":")[2])
        for line, text in shown.around:
            print(f"{'>' if line == number else ' '} {line:5d}  {cell(text) if text else ''}")
    if shown.why:
        print(f"\nnot asked again: {cell(shown.why)}")
    if shown.verdict is not None:
        said = f"{shown.verdict.effect.value} ({shown.verdict.reason.value})"
        print(f"\nasked again, it says {said}: {'the same' if shown.same else 'NOT THE SAME'}")
    return Exit.OK if shown.same is not False else Exit.FINDING


def _denied(options: argparse.Namespace) -> int:
    from authz.review.denied import denied

    with _opened(options) as logs:
        rows = denied(logs, Search.parse(options.search), bundle=options.policy)
        columns = ["count", "sub", "method", "namespace", "reason", "first", "last", "remedy"]
        if any(row.let_in for row in rows):
            columns.insert(5, "let_in")
        _out(options, columns, rows, "nothing was denied")
    return Exit.OK


def _who_did(options: argparse.Namespace) -> int:
    from authz.review.usage import who_did

    with _opened(options) as logs:
        rows = who_did(logs, options.method, options.namespace, options.policy)
        columns = ["sub", "did", "refused", "last", "can", "roles"]
        if any(row.unenforced for row in rows):
            columns.insert(2, "unenforced")
        _out(options, columns, rows, "nobody who was proven called it")
    return Exit.OK


def _changes(options: argparse.Namespace) -> int:
    from authz.review.changes import changes

    with _opened(options) as logs:
        found = changes(logs)
    if options.json:
        _out(options, [], found, "")
        return Exit.OK
    rows = [
        [c.time, c.writer, c.event, (c.before or "")[:12], (c.after or "")[:12], c.shadows, c.allowed, c.denied,
         "; ".join(c.problems)]
        for c in found
    ]  # fmt: skip
    columns = ["time", "writer", "event", "before", "after", "shadow", "allowed", "denied", "problems"]
    print(table(columns, rows, "no policy in this log"))
    for change in found:
        for turn in change.turned:
            where = f"{cell(turn.method)} in {cell(turn.namespace)}"
            print(f"{cell(change.time)}  {cell(turn.sub)}: {where}: {turn.before} to {turn.after}, {turn.count} times")
    return Exit.OK


def _replay(options: argparse.Namespace) -> int:
    from authz.review.replay import replay

    with _opened(options) as logs:
        result = replay(logs, options.policy, Search.parse(options.search))
    columns = ["before", "after", "count", "sub", "method", "namespaces", "rule_before", "rule_after", "example"]
    _out(options, columns, result.flips, "no decision comes out otherwise")
    if not options.json:
        print(f"{result.decided} decisions made again by {result.policy[:12]}, {result.skipped} could not be")
    return Exit.FINDING if result.flips else Exit.OK


def _unused(options: argparse.Namespace) -> int:
    from authz.review.report import in_force
    from authz.review.unused import unused

    with _opened(options) as logs:
        found = unused(logs, options.policy, options.days)
    rows: list[dict[str, Any]] = [
        {"what": what, "line": idle.text, "where": str(idle.place), "in force": in_force(idle), "whole": idle.whole}
        for what, lines in (("rule", found.rules), ("grant", found.grants))
        for idle in lines
    ]
    rows += [{"what": "role", "line": f"{sub} has {role}", "where": "by its credential"} for sub, role in found.roles]
    _out(options, ["what", "line", "where", "in force"], rows, "every rule and grant was used")
    if not options.json:
        since = (
            "the log does not show it in force" if found.in_force is None else f"in force since {cell(found.in_force)}"
        )
        print(f"revision {found.policy[:12]}, {since}; {found.decided} decisions since {cell(found.since)}")
        if found.alone:
            print(f"of {found.alone} of them only the rule is known that the record names: their policy is not at hand")
        if any(not idle.whole for idle in (*found.rules, *found.grants)):
            print("what was not in force all the time may be too young to be judged")
    return Exit.FINDING if found.any else Exit.OK


def _suggest(options: argparse.Namespace) -> int:
    from authz.review.usage import suggest

    subject = options.subject if options.subject.startswith("user:") else f"user:{options.subject}"
    with _opened(options) as logs:
        lines = suggest(logs, subject, Search.parse(options.search), options.policy)
    if options.json:
        _out(options, [], lines, "")
    elif not lines:
        print(f"# {cell(subject)} was allowed nothing")
    else:
        print(f"# what {cell(subject)} was allowed, and nothing more")
    for line in () if options.json else lines:
        print(f"# {line.count} times, last {cell(line.last)}")
        print(cell(line.line) if line.is_rule else f"# {cell(line.method)} in {cell(line.namespace)}: {line.line}")
    return Exit.OK if any(line.is_rule for line in lines) else Exit.FINDING


def _odd(options: argparse.Namespace) -> int:
    from authz.review.anomalies import anomalies

    with _opened(options) as logs:
        found = anomalies(logs, options.hours, burst=options.burst)
        _out(options, ["time", "kind", "who", "what", "count", "example"], found, "nothing out of the ordinary")
    return Exit.FINDING if found else Exit.OK


def _report(options: argparse.Namespace) -> int:
    from authz.audit.checkpoint import VerifyingKey
    from authz.audit.verify import verify
    from authz.review.report import write_report
    from authz.review.unused import unused

    _note(options)
    keys = [VerifyingKey.read(path) for path in options.key]
    verified = verify(options.logs, keys, options.anchors, cadence=options.cadence, seconds=options.seconds)
    with Logs(options.logs, load=True) as logs:
        usage = None if options.policy is None else unused(logs, options.policy, options.days)
        for path in write_report(logs, options.to, verified, usage, paths=options.logs):
            print(path)
    return Exit.OK if verified.sound else Exit.FINDING


def _export(options: argparse.Namespace) -> int:
    from authz.review.export import export

    with _opened(options) as logs:
        count = export(logs, options.to, options.format, Search.parse(options.search))
    print(f"{options.to}: {count} records")
    return Exit.OK


def _compact(options: argparse.Namespace) -> int:
    from authz.review.compact import compact

    rows = compact(options.logs, delete=options.delete)
    _out(options, ["path", "lines", "before", "after", "deleted"], rows, "no closed segment to compact")
    return Exit.OK


def _serve(options: argparse.Namespace) -> int:
    from authz.review.serve import serve

    serve(options.logs, options.port, options.config)
    return Exit.OK
