"""The ``audit`` section of the configuration: where the records go."""

from __future__ import annotations

from authz.audit.base import AuditSink
from authz.audit.several import SeveralSinks
from authz.audit.writer import FileSink
from authz.config.plugins import AUDIT_SINKS, make_plugin
from authz.document import Section
from authz.errors import AuditError


def read_audit(section: Section, writer: str = "") -> AuditSink:
    """Read the section ``audit``, and open what it names.

    Args:
        section: the section.
        writer: which of several processes this is: the file ``audit.jsonl`` becomes ``audit.<writer>.jsonl``, because
            one process writes to a file.

    Raises:
        ConfigError: with the place of what cannot be used and what to write instead.
    """
    log = section.file("file", None)
    if log is not None and writer:
        log = log.with_name(f"{log.stem}.{writer}{log.suffix}")
    entries = section.sections("sinks", ())
    section.close()
    if log is None and not entries:
        raise section.refuse("", f"`{section.name}` names no place for records", "write `file: audit.jsonl`")
    sinks: list[AuditSink] = []
    try:
        for entry in entries:
            sinks.append(make_plugin(entry, AUDIT_SINKS))
            entry.close()
        if log is not None:
            sinks.append(FileSink(log))
    except AuditError as exc:
        SeveralSinks(sinks).close()
        remedy = "name a file that this process can write, and no other writes"
        raise section.refuse("file", str(exc), remedy) from None
    except BaseException:
        SeveralSinks(sinks).close()
        raise
    return sinks[0] if len(sinks) == 1 else SeveralSinks(sinks)
