"""The section ``audit`` of the configuration: where the log is, and how it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from authz.audit.anchor import FileAnchor, OpenTelemetryAnchor, stderr_anchor
from authz.audit.base import AuditSink
from authz.audit.best_effort import QueuedLog
from authz.audit.checkpoint import SigningKey
from authz.audit.closing import close_at_the_end
from authz.audit.masking import HIDEABLE, Masking
from authz.audit.mirrors import FileMirror, HttpMirror, OpenTelemetryMirror, SyslogMirror
from authz.audit.selection import Detail, Selection, SelectionRule
from authz.audit.settings import Durability, LogSettings, Mirror
from authz.audit.several import SeveralSinks
from authz.audit.writer import AuditLog
from authz.config.plugins import AUDIT_SINKS, make_plugin
from authz.document import Section
from authz.errors import AuditError, ConfigError

_DAY: Final = 86_400.0
_MIB: Final = 1024 * 1024
_KEY_BYTES: Final = 16
_MIRRORS: Final = ("file", "syslog", "http", "opentelemetry")


def read_audit(section: Section) -> AuditSink:
    """Open the log that the section describes.

    ::

        audit:
          directory: audit            # or `file: audit.jsonl`, if one process writes
          durability: written         # or synced, best_effort
          checkpoints: {key: keys/audit.key, records: 1000, every: 10s, anchor_file: /mnt/other/anchors.jsonl}
          rotate: {size_mib: 256, every: 24h}
          keep: 400d
          allows:
          - {methods: ["/grpc.health.v1.Health/*"], record: counted}
          subjects: {hmac_key: keys/subjects.key, plain: ["machine:*"]}
          leave_out: [user_agent]
          mirrors:
          - {to: http, url: "https://logs.example/ingest"}

    Raises:
        ConfigError: the section, with the line and what to write instead.
        KeyFileError: a key.
    """
    shared = "directory" in section
    if shared and "file" in section:
        raise section.refuse("file", "`audit.file` and `audit.directory` are both given", "keep one of them")
    path = section.file("directory") if shared else section.file("file", None)
    if path is not None and not shared and (path.suffix != ".jsonl" or path.name.startswith(".")):
        message = f"`{section.name}.file` is {path.name}, which is not found in its folder when the log is verified"
        raise section.refuse("file", message, "write a name that ends in .jsonl, such as `audit.jsonl`")
    entries = section.sections("sinks", ())
    if path is None and not entries:
        remedy = "write `file: audit.jsonl`, or `directory: audit` if several processes write"
        raise section.refuse("", f"`{section.name}` names no place for records", remedy)
    durability = Durability(section.choice("durability", Durability, Durability.WRITTEN.value))
    unsafe = section.boolean("unsafe_allow_unrecorded", False)
    queue = section.integer("queue", 10_000, least=1, most=10_000_000)
    reserve = section.integer("reserve_mib", 1, least=0, most=1024)
    keep = section.duration("keep", None, least=_DAY, most=3650 * _DAY)
    rotate_mib, rotate_seconds = 256, _DAY
    if "rotate" in section:
        rotate = section.section("rotate")
        rotate_mib = rotate.integer("size_mib", 256, least=1, most=65_536)
        rotate_seconds = rotate.duration("every", _DAY, least=1.0, most=365 * _DAY)
        rotate.close()
    records, seconds, key, anchors = _checkpoints(section)
    settings = LogSettings(
        durability=durability,
        checkpoint_records=records,
        checkpoint_seconds=seconds,
        rotate_bytes=rotate_mib * _MIB,
        rotate_seconds=rotate_seconds,
        reserve_bytes=reserve * _MIB,
        keep_seconds=keep,
        key=key,
        anchors=anchors,
        selection=_selection(section),
        masking=_masking(section),
        mirrors=_mirrors(section),
        queue_records=queue,
        unsafe_allow_unrecorded=unsafe,
    )
    section.close(("file", "directory"))
    sinks: list[AuditSink] = []
    try:
        for entry in entries:
            sinks.append(make_plugin(entry, AUDIT_SINKS))
            entry.close()
        if path is not None:
            sinks.append(_open(path, settings, shared=shared))
    except AuditError as exc:
        SeveralSinks(sinks).close()
        named = "directory" if shared else "file"
        remedy = f"name a {named} that this process can write, and no other writes"
        raise section.refuse(named, str(exc), remedy) from None
    except BaseException:
        SeveralSinks(sinks).close()
        raise
    return sinks[0] if len(sinks) == 1 else SeveralSinks(sinks)


def _open(path: Path, settings: LogSettings, *, shared: bool) -> AuditLog | QueuedLog:
    log = AuditLog(path, settings, shared=shared)
    sink = QueuedLog(log, settings.queue_records) if settings.durability is Durability.BEST_EFFORT else log
    close_at_the_end(sink)
    return sink


def _checkpoints(section: Section) -> tuple[int, float, SigningKey | None, tuple[Callable[[bytes], None], ...]]:
    if "checkpoints" not in section:
        return 1000, 10.0, None, ()
    checkpoints = section.section("checkpoints")
    key = checkpoints.file("key", None)
    records = checkpoints.integer("records", 1000, least=1, most=100_000)
    seconds = checkpoints.duration("every", 10.0, least=0.1, most=3600.0)
    file = checkpoints.file("anchor_file", None)
    anchors: list[Callable[[bytes], None]] = [] if file is None else [FileAnchor(file)]
    if checkpoints.boolean("anchor_stderr", False):
        anchors.append(stderr_anchor())
    if checkpoints.boolean("anchor_opentelemetry", False):
        anchors.append(OpenTelemetryAnchor())
    checkpoints.close()
    return records, seconds, None if key is None else SigningKey.read(key), tuple(anchors)


def _selection(section: Section) -> Selection | None:
    rules = []
    for rule in section.sections("allows", ()):
        detail = Detail(rule.choice("record", Detail))
        one_in = 1
        if detail is Detail.SAMPLED:
            one_in = rule.integer("one_in", least=2, most=1_000_000)
        methods = rule.texts("methods")
        rules.append(SelectionRule(methods, detail, rule.texts("namespaces", ()), one_in))
        rule.close(("one_in",))
    return Selection(rules) if rules else None


def _masking(section: Section) -> Masking | None:
    hide = section.texts("leave_out", ())
    for name in hide:
        if name not in HIDEABLE:
            raise section.refuse("leave_out", f"`{name}` cannot be left out", f"write some of: {', '.join(HIDEABLE)}")
    key: bytes | None = None
    plain: tuple[str, ...] = ()
    if "subjects" in section:
        subjects = section.section("subjects")
        key = read_subject_key(subjects.file("hmac_key"))
        plain = subjects.texts("plain", ())
        subjects.close()
    return Masking(key, plain, hide) if key is not None or hide else None


def read_subject_key(path: Path) -> bytes:
    """The secret that subjects are hashed with: the bytes of the file ``path``, blanks around them left out.

    Raises:
        ConfigError: it cannot be read, or is too short.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as exc:
        raise ConfigError.at(path, f"cannot be read: {exc.strerror}") from None
    if len(key) < _KEY_BYTES:
        remedy = "make one with `authz audit keygen --subjects FILE`"
        raise ConfigError.at(path, f"is shorter than {_KEY_BYTES} bytes, so that subjects can be guessed", remedy)
    return key


def _mirrors(section: Section) -> tuple[Mirror, ...]:
    mirrors: list[Mirror] = []
    for mirror in section.sections("mirrors", ()):
        kind = mirror.choice("to", _MIRRORS)
        queue = mirror.integer("queue", 10_000, least=1, most=1_000_000)
        if kind == "file":
            mirrors.append(FileMirror(mirror.file("file"), queue))
        elif kind == "syslog":
            mirrors.append(SyslogMirror(mirror.text("address", "/dev/log"), queue))
        elif kind == "http":
            url = mirror.text("url")
            if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
                raise mirror.refuse("url", f"`{url}` sends the log in the clear", "write an https:// address")
            mirrors.append(HttpMirror(url, queue))
        else:
            mirrors.append(OpenTelemetryMirror(queue))
        mirror.close(("file", "address", "url"))
    return tuple(mirrors)
