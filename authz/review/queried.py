"""Queried: who looked at a log is itself recorded, in a log of its own, before anything is shown."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from authz import document
from authz.audit.event import Event, EventName
from authz.config.audit import read_audit
from authz.errors import ConfigError


def record_query(config: Path, asked: str, logs: Iterable[Path]) -> None:
    """Record in the audit log of the configuration ``config`` that somebody looks at ``logs``.

    Only the configuration's section ``audit`` is read. The one who looks is the user of this process as the operating
    system knows them, which proves less than the token that the web page asks for.

    Args:
        config: a YAML file; best one whose log is a ``directory``, so that several may look at once.
        asked: what they ask, in words.
        logs: what they look at.

    Raises:
        ConfigError: the configuration cannot be used.
        AuditError: that they look cannot be recorded, so that nothing must be shown.
    """
    sink = read_audit(document.load(config, ConfigError).section("audit"))
    try:
        details = {"asked": asked, "by": _user(), "logs": [str(path) for path in logs]}
        sink.write(Event(EventName.LOG_QUERIED, details))
    finally:
        close = getattr(sink, "close", None)
        if close is not None:
            close()


def _user() -> str:
    number = os.getuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except KeyError:
        return f"uid {number}"
