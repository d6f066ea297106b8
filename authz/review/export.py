"""Export: records for other tools: Parquet, OCSF API Activity events, CSV, or plain JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from authz.errors import AuditError
from authz.review.logs import COLUMNS, ORDER, Logs, Row
from authz.review.outcome import was_let_in
from authz.review.search import Search

FORMATS: Final = ("parquet", "ocsf", "csv", "json")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_ACTIVITIES: Final = {"read": (2, "Read"), "write": (3, "Update"), "admin": (99, "Admin")}
_OUTCOMES: Final = {True: (1, "Success", "Allowed"), False: (2, "Failure", "Denied"), None: (0, "Unknown", "Unknown")}


def export(logs: Logs, path: Path, form: str, search: Search | None = None) -> int:
    """Write the records that a search finds to the new file ``path``; how many there were.

    Raises:
        AuditError: the file exists, or cannot be written.
    """
    if path.exists():
        raise AuditError(f"{path} exists; name another file")
    found = search or Search()
    if form == "parquet":
        where, parameters = found.sql()
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        return logs.write_parquet(f"SELECT {columns} FROM records WHERE {where} ORDER BY {ORDER}", parameters, path)
    rows = logs.scan(found)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            if form == "csv":
                return write_csv(file, list(COLUMNS), rows)
            count = 0
            for row in rows:
                file.write(json.dumps(ocsf(row) if form == "ocsf" else plain(row)) + "\n")
                count += 1
            return count
    except OSError as exc:
        raise AuditError(f"{path} cannot be written: {exc.strerror}") from None


def write_csv(file: TextIO, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a table that no spreadsheet takes for formulas; how many rows there were."""
    writer = csv.writer(file)
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
        count += 1
    return count


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain(row: Row) -> Row:
    """A row as JSON can say it: times in RFC 3339, and without the fields that have no value."""
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%S.%f}Z" if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None
    }


def ocsf(row: Row) -> dict[str, Any]:
    """A record as an OCSF event of the class API Activity (6003), schema 1.3.

    Its status and action are what became of the call, and ``unmapped`` has the decision where that did not count. Of an
    event of the system itself they are Unknown (0), and its name is the activity.
    """
    request, decision, event = row.get("request") or [], row.get("decision"), row.get("event")
    called = event == "decision"
    activity, activity_name = _ACTIVITIES.get(
        request[3] if len(request) > 3 else "", (99, "Other" if called else event)
    )
    outcome, status, action = _OUTCOMES[was_let_in(row) if called else None]
    severity, severity_name = (
        (0, "Unknown") if not called else (1, "Informational") if decision == "allow" else (2, "Low")
    )
    time = row.get("time")
    return {
        "class_uid": 6003, "class_name": "API Activity", "category_uid": 6, "category_name": "Application Activity",
        "activity_id": activity, "activity_name": activity_name, "type_uid": 600300 + activity,
        "severity_id": severity, "severity": severity_name, "status_id": outcome, "status": status,
        "status_code": row.get("grpc_code"), "status_detail": row.get("reason"),
        "time": int(time.replace(tzinfo=UTC).timestamp() * 1000) if isinstance(time, datetime) else None,
        "metadata": {
            "version": "1.3.0", "uid": row.get("id"), "sequence": row.get("seq"), "log_name": row.get("writer"),
            "product": {"name": "authz", "vendor_name": "grpc-authz"}, "event_code": row.get("code"),
        },
        "actor": {"user": {"uid": row.get("sub"), "groups": [{"name": role} for role in row.get("roles") or ()]},
                  "idp": {"name": row.get("iss")}},
        "api": {"operation": row.get("method") if called else event, "service": {"name": row.get("service")},
                "group": {"name": row.get("namespace")}},
        "src_endpoint": {"ip": row.get("peer_ip"), "port": row.get("peer_port")},
        "http_request": {"user_agent": row.get("user_agent")},
        "action_id": outcome, "action": action,
        "policy": {"uid": row.get("policy_version"), "name": row.get("rule_src"), "desc": row.get("rule")},
        "unmapped": {"reason_text": row.get("reason_text"), "event": event, "trace_id": row.get("trace_id"),
                     "decision": decision, "enforced": row.get("enforced"),
                     "shadow_decision": row.get("shadow_decision"), "shadow_rule": row.get("shadow_rule")},
    }  # fmt: skip
