"""Report: a folder for the evidence of an audit: one HTML page, tables in CSV, and a manifest with the verification."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from authz.audit.verify import VerifyReport
from authz.errors import AuditError
from authz.review import page
from authz.review.anomalies import anomalies
from authz.review.changes import changes
from authz.review.denied import denied
from authz.review.export import write_csv
from authz.review.logs import Logs, Row
from authz.review.page import Html
from authz.review.unused import Idle, Unused

_BARS = 96


def summary(logs: Logs) -> Row:
    """The figures of a log: how many decisions, by whom, from when to when."""
    return logs.ask(
        "SELECT count(*) AS decisions, count(*) FILTER (decision = 'allow') AS allowed, "
        "count(*) FILTER (decision <> 'allow' AND let_in) AS unenforced, "
        "count(*) FILTER (NOT let_in) AS refused, count(DISTINCT sub) AS callers, "
        "count(DISTINCT policy_version) AS policies, min(time) AS first, max(time) AS last FROM decisions"
    )[0]


def over_time(logs: Logs, bars: int = _BARS) -> list[tuple[datetime, int, int]]:
    """Calls that were let in and calls that were not, in equal spans of time."""
    ends = logs.ask("SELECT min(time) AS first, max(time) AS last FROM decisions")[0]
    if ends["first"] is None:
        return []
    span = max((ends["last"] - ends["first"]).total_seconds() / bars, 1.0)
    rows = logs.ask(
        "SELECT CAST(floor(epoch(time - CAST(? AS TIMESTAMP)) / ?) AS BIGINT) AS bar, "
        "count(*) FILTER (let_in) AS let_in, count(*) FILTER (NOT let_in) AS refused FROM decisions GROUP BY bar",
        [ends["first"], span],
    )
    found = {row["bar"]: (row["let_in"], row["refused"]) for row in rows}
    begin = ends["first"].timestamp()
    return [
        (datetime.fromtimestamp(begin + bar * span), *found.get(bar, (0, 0)))
        for bar in range(min(max(found) + 1, bars + 1))
    ]


def verification(report: VerifyReport | None) -> Html:
    """The section that says whether the log is whole."""
    if report is None:
        return page.section("Verification", Html("<p>The log was not verified for this page.</p>"))
    count = len(report.damage) + sum(count for kind, count in report.more.items() if kind.is_damage)
    said = (
        '<p class="allow">The log is what its writers wrote.</p>'
        if report.sound
        else f'<p class="bad">The log is damaged: {count} findings.</p>'
    )
    chains = page.table(
        ["chain", "#lines", "#from", "#to", "#sealed to", "#anchored to", "#records lost", "end"],
        [
            [page.code(c.writer), c.lines, c.first, c.last, c.sealed, c.anchored, c.lost, _end(c.closed)]
            for c in report.chains
        ],
    )  # fmt: skip
    findings = page.table(
        ["kind", "where", "what"],
        [
            [
                Html(f'<span class="bad">{page.text(f.kind)}</span>') if f.kind.is_damage else str(f.kind),
                page.code(f"{f.path}:{f.line}" if f.line else f.path),
                f.message,
            ]
            for f in report.findings
        ],
        "no findings",
    )
    more = Html(f'<p class="soft">and {page.text(report.not_shown)}</p>' if report.more else "")
    edge = "verdict" if report.sound else "verdict bad-edge"
    return page.section("Verification", Html(said), chains, Html("<br>"), findings, more, extra=edge)


def sections(logs: Logs, usage: Unused | None = None) -> list[Html]:
    """The views of a log that the report and the web page share."""
    whole = summary(logs)
    made = [
        page.figures(
            [
                ("decisions", whole["decisions"]),
                ("allowed", whole["allowed"]),
                *([("let in, not enforced", whole["unenforced"])] if whole["unenforced"] else []),
                ("refused", whole["refused"]),
                ("callers", whole["callers"]),
                ("policy revisions", whole["policies"]),
            ]
        ),
        page.section("Timeline", page.timeline(over_time(logs))),
        page.section(
            "Denied most often",
            page.table(
                ["#count", "subject", "method", "namespace", "reason", "first", "last", "smallest rule that allows it"],
                [
                    [d.count, page.code(d.sub), page.code(d.method), d.namespace,
                     f"{d.reason} (let in)" if d.let_in else d.reason, d.first, d.last,
                     page.code(d.remedy) if d.remedy.startswith("p, ") else d.remedy]
                    for d in denied(logs, limit=25)
                ],
                "nothing was denied",
            ),
        ),
        page.section("Rules that decided", page.table(["#count", "rule", "where", "last"], _used(logs), "no rule did")),
    ]  # fmt: skip
    if usage is not None:
        made.append(
            page.section(
                "Grants not used",
                Html(f'<p class="soft">since {page.text(usage.since)}, revision {page.code(usage.policy[:16])}</p>'),
                page.table(
                    ["line", "where", "in force"],
                    [
                        [page.code(idle.text), page.code(idle.place), in_force(idle)]
                        for idle in (*usage.rules, *usage.grants)
                    ],
                    "every line was used",
                ),
            )
        )
    if not logs.limited:
        made.append(
            page.section(
                "Policy changes",
                page.table(
                    ["time", "process", "event", "from", "to", "shadow", "#allowed", "#denied", "turned"],
                    [
                        [c.time, page.code(c.writer), c.event, page.code((c.before or "")[:12]),
                         page.code((c.after or "")[:12]), page.code(c.shadows), c.allowed, c.denied,
                         "; ".join(c.problems) or "; ".join(
                             f"{t.sub} {t.method} in {t.namespace}: {t.before} to {t.after}"
                             for t in c.turned[:3]
                         )]
                        for c in changes(logs)
                    ],
                    "none in this log",
                ),
            )
        )  # fmt: skip
    made.append(
        page.section(
            "Worth a look",
            page.table(
                ["time", "kind", "who", "what", "#count", "audit id"],
                [[a.time, a.kind, page.code(a.who), a.what, a.count, page.code(a.example)] for a in anomalies(logs)],
                "nothing out of the ordinary in the last 24 hours of the log",
            ),
        )
    )
    return made


def in_force(idle: Idle) -> str:
    """How long a line that was not used was in force."""
    if idle.since is None:
        return "not by this log"
    return f"{'' if idle.whole else 'only '}since {idle.since:%Y-%m-%d %H:%M:%S}"


def _end(closed: object) -> str:
    return "closed" if closed else "open"


def _used(logs: Logs) -> list[list[object]]:
    rows = logs.ask(
        "SELECT rule, rule_src, count(*) AS n, max(time) AS last FROM decisions WHERE rule IS NOT NULL "
        "GROUP BY rule, rule_src ORDER BY n DESC, rule LIMIT 50"
    )
    return [[row["n"], page.code(row["rule"]), page.code(row["rule_src"]), row["last"]] for row in rows]


def write_report(
    logs: Logs,
    folder: Path,
    verified: VerifyReport,
    usage: Unused | None = None,
    *,
    paths: Iterable[Path] = (),
    now: datetime | None = None,
) -> list[Path]:
    """Write ``report.html``, CSV tables and ``manifest.json`` into the new folder ``folder``; what was written.

    The manifest has the SHA-256 of each of them and of each file of the log, and the result of the verification.

    Raises:
        AuditError: the folder exists and is not empty, or cannot be written.
    """
    made = now or datetime.now(UTC)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AuditError(f"{folder} is not empty; name a new folder")
        left = logs.left_out()
        subtitle = f"made {made:%Y-%m-%d %H:%M:%S} UTC from {len(logs.files)} files" + (
            f"; {left} lines are no records and are in no figure" if left else ""
        )
        html = page.page("Audit report", subtitle, verification(verified), *sections(logs, usage))
        (folder / "report.html").write_text(html, "utf-8")
        _csv(folder / "denied.csv", [_row(each) for each in denied(logs, limit=10_000)])
        _csv(folder / "changes.csv", [_row(each) for each in changes(logs)])
        _csv(folder / "anomalies.csv", [_row(each) for each in anomalies(logs)])
        _csv(
            folder / "callers.csv",
            logs.ask(
                "SELECT sub, iss, count(*) FILTER (decision = 'allow') AS allowed, "
                "count(*) FILTER (decision <> 'allow' AND let_in) AS unenforced, "
                "count(*) FILTER (NOT let_in) AS refused, min(time) AS first, max(time) AS last "
                "FROM decisions GROUP BY sub, iss ORDER BY allowed DESC, sub"
            ),
        )
        written = sorted(folder.iterdir())
        manifest = {
            "made": f"{made:%Y-%m-%dT%H:%M:%SZ}",
            "log": [{"file": str(file), "sha256": _sha256(file)} for file in logs.files],
            "named": [str(path) for path in paths],
            "lines_left_out": left,
            "verified": {
                "sound": verified.sound,
                "findings": [str(finding) for finding in verified.findings],
                "more": verified.more,
                "chains": [_row(chain) for chain in verified.chains],
            },
            "files": [{"file": file.name, "sha256": _sha256(file)} for file in written],
        }
        path = folder / "manifest.json"
        path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    except OSError as exc:
        raise AuditError(f"{folder} cannot be written: {exc.strerror}") from None
    return [*written, path]


def _row(each: Any) -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__slots__}


def _csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        write_csv(file, list(rows[0]) if rows else ["nothing"], rows)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
