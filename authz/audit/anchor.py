"""Anchor: a copy of each checkpoint, kept where the log's owner cannot change it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from authz.audit.chain import HEAD
from authz.errors import AuditError

_CHECKPOINT: Final = b'"event":"checkpoint"'


class FileAnchor:
    """Appends checkpoints to a file, best on another machine's disk.

    Args:
        path: the file; made if it does not exist. A device such as ``/dev/stderr`` will do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, line: bytes) -> None:
        """Append the checkpoint ``line``.

        Raises:
            OSError: it could not be.
        """
        # opened each time: the file may be rotated, or its disk may come and go
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(f"took {written} of {len(line)} bytes")
        finally:
            os.close(descriptor)


class _Stderr(FileAnchor):
    def __call__(self, line: bytes) -> None:
        sys.stderr.write(line.decode("utf-8", "replace"))
        sys.stderr.flush()


def stderr_anchor() -> FileAnchor:
    """An anchor on the process's standard error, for whoever collects that."""
    return _Stderr(Path("<stderr>"))


class OpenTelemetryAnchor:
    """Emits checkpoints as OpenTelemetry log records, through the logger provider that the application has set.

    Args:
        logger: where to, instead.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger

    def __call__(self, line: bytes) -> None:
        """Emit the checkpoint ``line``.

        Raises:
            OSError: no SDK would take it.
        """
        from authz.audit.otel import application_logger, log_record

        if self._logger is None:
            # asked for now: an application sets its provider when it likes
            self._logger = application_logger()
            if self._logger is None:
                raise OSError("the application has set no OpenTelemetry logger provider")
        self._logger.emit(log_record(line))


def read_anchors(paths: Iterable[Path]) -> dict[str, dict[int, list[bytes]]]:
    """The checkpoints in some files: by chain, and by number: the first, and another one if one differs.

    A file holds them as an anchor wrote them, or as the file exporter of an OpenTelemetry collector did: OTLP as JSON
    lines. Whatever else is in it is passed over.

    Raises:
        AuditError: a file cannot be read, or holds no checkpoint.
    """
    held: dict[str, dict[int, list[bytes]]] = {}
    for path in paths:
        found = 0
        try:
            with path.open("rb") as file:
                for each in file:
                    for line in (each,) if HEAD.match(each) else _exported(each):
                        head = HEAD.match(line)
                        if head is not None and _CHECKPOINT in line and line.endswith(b"}\n"):
                            kept = held.setdefault(head[1].decode(), {}).setdefault(int(head[2]), [])
                            if len(kept) < 2 and line not in kept:
                                kept.append(line)
                            found += 1
        except OSError as exc:
            raise AuditError(f"{path} cannot be read: {exc.strerror}") from None
        if not found:
            remedy = "name the file that the log's anchor wrote, or a collector's file exporter"
            raise AuditError(f"{path} holds no checkpoint; {remedy}")
    return held


def _exported(line: bytes) -> Iterator[bytes]:
    """The checkpoints in a line of OTLP: the bodies of its log records."""
    if b'"resourceLogs"' not in line:
        return
    try:
        batch = orjson.loads(line)
    except ValueError:
        return
    for resource in _items(batch, "resourceLogs"):
        for scope in _items(resource, "scopeLogs"):
            for record in _items(scope, "logRecords"):
                body = record.get("body")
                text = body.get("stringValue") if isinstance(body, dict) else None
                if isinstance(text, str) and _CHECKPOINT in (data := text.encode()):
                    yield data + b"\n"


def _items(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = value.get(name) if isinstance(value, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
