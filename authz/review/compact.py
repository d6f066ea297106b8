"""Compact: closed segments become Parquet, with the exact bytes of every line, so that they still verify."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.audit.segment import Segment, connected, find_segments
from authz.audit.verify import verify
from authz.errors import AuditError
from authz.review.logs import COLUMNS, ROW_GROUP, THREADS, literal

_OBJECT_LIMIT: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Compacted:
    """One segment that became Parquet.

    Attributes:
        source: the lines it was made of.
        path: the Parquet file.
        lines: how many lines it holds.
        before, after: sizes in bytes.
        deleted: whether the source was deleted.
    """

    source: Path
    path: Path
    lines: int
    before: int
    after: int
    deleted: bool


def compact(paths: Iterable[Path], *, delete: bool = False) -> list[Compacted]:
    """Make Parquet files of the closed segments in some files and folders. What is written to is left alone.

    A segment is only compacted if its own lines are sound, and only deleted when the Parquet file gave back the very
    same bytes.

    Args:
        paths: logs, or folders of logs.
        delete: whether to delete the segments that were compacted.

    Raises:
        AuditError: a segment is damaged, or cannot be read or written.
    """
    return [
        _compact(segment, delete=delete)
        for segment in find_segments(paths)
        if segment.writer and segment.path.suffix == ".jsonl" and _is_closed(segment)
    ]


def _is_closed(segment: Segment) -> bool:
    """A closed segment has its first number in its name."""
    return segment.path.stem.endswith(f"-{segment.first:012d}")


def _compact(segment: Segment, *, delete: bool) -> Compacted:
    source = segment.path
    # what came before and after is in other segments; here only the lines themselves count
    lone = ("beginning", "anchor")
    damage = [
        finding for finding in verify([source], cadence=2**62, seconds=math.inf).damage if finding.kind not in lone
    ]
    if damage:
        raise AuditError(f"{source} is damaged and stays as it is: {damage[0]}")
    path = source.with_suffix(".parquet")
    try:
        if not path.exists():
            making = source.with_name(f".making-{path.name}")
            _make(source, making)
            lines = _same(source, making)
            making.rename(path)
        else:
            lines = _same(source, path)
        if delete:
            # first the disk has the one, and then it may forget the other
            _sync(path)
            _sync(path.parent)
            source.unlink()
        return Compacted(source, path, lines, segment.size, path.stat().st_size, delete)
    except OSError as exc:
        raise AuditError(f"{source} cannot be compacted: {exc.strerror}") from None


def _make(source: Path, making: Path) -> None:
    """Write the Parquet file ``making``, which nobody else may read, as nobody else may read the log."""
    types = ", ".join(f'"{name}": "{kind}"' for name, kind in COLUMNS.items())
    making.unlink(missing_ok=True)
    os.close(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with connected() as connection:
        import duckdb

        try:
            connection.execute(f"SET threads = {THREADS}")
            connection.execute(
                f"COPY (SELECT unnest(json_transform(json, '{{{types}}}')), encode(json::VARCHAR || chr(10)) AS line "
                f"FROM read_json_objects({literal(source)}, format='newline_delimited', hive_partitioning=false, "
                f"maximum_object_size={_OBJECT_LIMIT})) TO '{str(making).replace(chr(39), chr(39) * 2)}' "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}, USE_TMP_FILE false)"
            )
        except duckdb.Error as exc:
            making.unlink(missing_ok=True)
            raise AuditError(f"{source} cannot be compacted: {str(exc).splitlines()[0]}") from None


def _same(source: Path, path: Path) -> int:
    """How many lines the Parquet file ``path`` gives back, if they are those of ``source``, byte for byte."""
    given_back = hashlib.sha256()
    count = 0
    for line in Segment(path, "", 0, 0).lines():
        given_back.update(line)
        count += 1
    with source.open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() == given_back.digest():
            return count
    if path.name.startswith("."):
        path.unlink()
        raise AuditError(f"{source} did not come back from Parquet as it was, and stays as it is")
    raise AuditError(f"{path} has other lines than {source}: find out which of them were written, and keep that file")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
