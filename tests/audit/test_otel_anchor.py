"""Checkpoints kept by OpenTelemetry: emitted through the real SDK, kept as a collector keeps them, verified."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from authz.audit.anchor import OpenTelemetryAnchor, read_anchors
from authz.audit.finding import Kind
from authz.audit.mirrors import OpenTelemetryMirror
from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from tests.audit.logs import record

sdk = pytest.importorskip("opentelemetry.sdk._logs")
export = pytest.importorskip("opentelemetry.sdk._logs.export")


def any_value(value: Any) -> dict[str, Any]:
    """A value in OTLP's JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    return {"stringValue": str(value)}


class Collector:
    """What an SDK exports, as the file exporter of a collector writes it: a line for each batch."""

    def __init__(self) -> None:
        self.exporter = export.InMemoryLogRecordExporter()
        self.provider = sdk.LoggerProvider()
        self.provider.add_log_record_processor(export.SimpleLogRecordProcessor(self.exporter))

    def write(self, path: Path) -> Path:
        batches = []
        for each in self.exporter.get_finished_logs():
            made = each.log_record
            attributes = [{"key": name, "value": any_value(value)} for name, value in (made.attributes or {}).items()]
            entry = {"timeUnixNano": str(made.timestamp), "severityNumber": 9, "severityText": made.severity_text,
                     "body": any_value(made.body), "attributes": attributes, "eventName": made.event_name,
                     "traceId": "", "spanId": ""}  # fmt: skip
            scope = {"scope": {"name": each.instrumentation_scope.name}, "logRecords": [entry]}
            service = {"attributes": [{"key": "service.name", "value": {"stringValue": "orders"}}]}
            batches.append({"resourceLogs": [{"resource": service, "scopeLogs": [scope]}]})
        path.write_text("".join(json.dumps(batch, separators=(",", ":")) + "\n" for batch in batches))
        return path


@pytest.fixture
def collector() -> Collector:
    return Collector()


def write(folder: Path, *, calls: int = 25, **settings: Any) -> Path:
    path = folder / "audit.jsonl"
    with AuditLog(path, LogSettings(checkpoint_records=10, sync_seconds=0.01, **settings)) as log:
        for _ in range(calls):
            log.write(record(agent="é\u202e"))
    return path


def test_a_log_is_proven_by_what_a_collector_kept(tmp_path: Path, collector: Collector) -> None:
    path = write(tmp_path, anchors=(OpenTelemetryAnchor(collector.provider.get_logger("authz.audit")),))
    kept = collector.write(tmp_path / "collected.json")
    (tmp_path / "collected.json").write_text(
        kept.read_text()
        + '{"resourceMetrics":[]}\n{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":'
        '"a \\"event\\":\\"checkpoint\\" of somebody else"}},{"body":7},7]}]}]}\n{"resourceLogs":['
    )
    report = verify([path], anchors=[kept], cadence=10)
    assert report.sound
    assert report.chains[0].anchored == report.chains[0].last
    assert len(next(iter(read_anchors([kept]).values()))) == sum(
        b'"event":"checkpoint"' in line for line in path.read_bytes().splitlines()
    )


def test_a_log_that_was_made_anew_is_found_by_it(tmp_path: Path, collector: Collector) -> None:
    path = write(tmp_path, anchors=(OpenTelemetryAnchor(collector.provider.get_logger("authz.audit")),))
    kept = collector.write(tmp_path / "collected.json")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-8]))
    assert Kind.ANCHOR in {finding.kind for finding in verify([path], anchors=[kept], cadence=10).damage}


def test_a_mirror_of_every_line_is_an_anchor_too(tmp_path: Path, collector: Collector) -> None:
    path = write(tmp_path, mirrors=(OpenTelemetryMirror(1000, collector.provider.get_logger("authz.audit")),))
    report = verify([path], anchors=[collector.write(tmp_path / "collected.json")], cadence=10)
    assert report.sound
    assert report.chains[0].anchored == report.chains[0].last


def test_the_provider_of_the_application_is_used_and_its_absence_told(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "authz"):
        write(tmp_path, anchors=(OpenTelemetryAnchor(),))
    assert "no OpenTelemetry logger provider" in caplog.text
    monkeypatch.setattr("opentelemetry._logs.get_logger_provider", lambda: collector.provider)
    monkeypatch.setattr("opentelemetry._logs._internal.get_logger_provider", lambda: collector.provider)
    anchor = OpenTelemetryAnchor()
    anchor(b'{"event":"checkpoint"}\n')
    anchor(b'{"event":"checkpoint"}\n')
    assert [each.log_record.body for each in collector.exporter.get_finished_logs()] == ['{"event":"checkpoint"}'] * 2


@pytest.mark.parametrize(
    "text", ["", "x\n", '{"resourceLogs":7}\n', '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}\n']
)
def test_a_file_without_checkpoints_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "anchors").write_text(text)
    with pytest.raises(AuditError, match="holds no checkpoint"):
        read_anchors([tmp_path / "anchors"])
