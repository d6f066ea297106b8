"""OpenTelemetry: a line of a log as an OpenTelemetry log record, by the names of the semantic conventions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson

SCOPE: Final = "authz.audit"
"""The name of the instrumentation scope."""
_NAMES: Final = {
    "sub": "enduser.id",
    "peer_ip": "client.address",
    "peer_port": "client.port",
    "user_agent": "user_agent.original",
    "grpc_code": "rpc.grpc.status_code",
    "service": "rpc.service",
}
_OUTSIDE: Final = frozenset({"time", "trace_id", "span_id", "event"})


def attributes(fields: dict[str, Any]) -> dict[str, Any]:
    """The attributes for the ``fields`` of a line: OpenTelemetry's own names where it has one, else ``authz.<field>``.

    Fields without a value are left out.
    """
    named = {
        _NAMES.get(name, f"authz.{name}"): [str(item) for item in value] if isinstance(value, list) else value
        for name, value in fields.items()
        if name not in _OUTSIDE and value not in (None, "", [])
    }
    if fields.get("method"):
        named["rpc.system"] = "grpc"
        named["rpc.method"] = str(fields["method"]).rpartition("/")[2]
    return named


def application_logger() -> Any:
    """The logger of the provider that the application has set; None: it has set none, and what is emitted is lost."""
    from opentelemetry._logs import get_logger, get_logger_provider

    # the API's own providers lead nowhere
    if type(get_logger_provider()).__module__.startswith("opentelemetry._logs"):
        return None
    return get_logger(SCOPE)


def log_record(line: bytes) -> Any:
    """The OpenTelemetry ``LogRecord`` for a line of a log.

    The body of a checkpoint is its line, exactly, so that a verifier finds it in what a collector kept.
    """
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    fields = orjson.loads(line)
    time_ns = None
    if "time" in fields:
        time_ns = int(datetime.fromisoformat(fields["time"]).timestamp() * 1e6) * 1000
    span = SpanContext(
        int(fields.get("trace_id") or "0", 16), int(fields.get("span_id") or "0", 16), is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )  # fmt: skip
    event = fields.get("event", "")
    refused = fields.get("decision") not in (None, "allow")
    return LogRecord(
        timestamp=time_ns,
        context=set_span_in_context(NonRecordingSpan(span)),
        severity_number=SeverityNumber.WARN if refused else SeverityNumber.INFO,
        severity_text="WARN" if refused else "INFO",
        event_name=f"authz.{event or 'line'}",
        body=line.decode().rstrip("\n") if event == "checkpoint" else f"{event} {fields.get('decision', '')}".strip(),
        attributes=attributes(fields),
    )
