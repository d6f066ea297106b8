"""Segment: one file of a chain, as a reviewer finds it: JSON lines, or the Parquet file they were compacted into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from authz.audit.chain import HEAD
from authz.errors import AuditError

LINES: Final = ".jsonl"
PACKED: Final = ".parquet"
_LOOK: Final = 1000
_LINE_LIMIT: Final = 64 * 1024 * 1024
_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a chain.

    Attributes:
        path: the file.
        writer: id of the chain; empty: none of its first lines belongs to one.
        first: number of its first line.
        size: in bytes.
    """

    path: Path
    writer: str
    first: int
    size: int

    @property
    def is_packed(self) -> bool:
        """Whether it is a Parquet file."""
        return self.path.suffix == PACKED

    def is_torn(self, line: bytes) -> bool:
        """Whether a line of it, as :meth:`lines` gave it, is the beginning of one, at the end of the file."""
        return not (self.is_packed or line.endswith(b"\n") or len(line) == _LINE_LIMIT)

    def lines(self, offset: int = 0) -> Iterator[bytes]:
        """Its lines, exactly as they were written, each with its line feed; of a file of lines, from ``offset`` on.

        If the file ends in the middle of a line, that is the last one, whatever is added meanwhile.

        Raises:
            AuditError: the file cannot be read.
        """
        if self.is_packed:
            yield from _parquet_lines(self.path)
            return
        try:
            with self.path.open("rb", buffering=1 << 20) as file:
                file.seek(offset)
                while True:
                    # a file without line feeds does not become one line of any size
                    line = file.readline(_LINE_LIMIT)
                    if line:
                        yield line
                    if not line or self.is_torn(line):
                        return
        except OSError as exc:
            raise AuditError(f"{self.path} cannot be read: {exc.strerror}") from None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files in some files and folders that hold lines of logs: what ends in .jsonl or .parquet, and is not hidden.

    Raises:
        AuditError: a path does not exist, or is a file of another kind.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise AuditError(f"{path}: there is no such file or folder; name a log, or a folder of logs")
        files = sorted(filter(_may_be, path.rglob("*"))) if path.is_dir() else [path]
        if files == [path] and not _may_be(path):
            raise no_log([path])
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _may_be(file: Path) -> bool:
    return file.suffix in (LINES, PACKED) and not file.name.startswith(".") and file.is_file()


def find_segments(paths: Iterable[Path]) -> list[Segment]:
    """The segments in some files and folders, also of several chains and hosts, in the order of their chains.

    A Parquet file stands for the lines that it was made from: where both are there, the lines are taken.

    Raises:
        AuditError: a path does not exist or cannot be read.
    """
    files = find_files(paths)
    with connected() if any(file.suffix == PACKED for file in files) else nullcontext() as connection:
        found = [_look(file, connection) for file in files]
    lines = {(segment.writer, segment.first) for segment in found if segment.writer and not segment.is_packed}
    kept = [segment for segment in found if not segment.is_packed or (segment.writer, segment.first) not in lines]
    return sorted(kept, key=lambda segment: (segment.writer, segment.first, str(segment.path)))


def no_log(paths: Iterable[Path]) -> AuditError:
    """The error to raise where there should be a log."""
    named = ", ".join(map(str, paths)) or "what was named"
    return AuditError(
        f"there is no log in {named}; a log is a .jsonl or a compacted .parquet file: name one, or its folder"
    )


def plain(path: Path) -> str:
    """The name of a file for DuckDB, which would take some characters in it for a pattern."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))


@contextmanager
def connected() -> Iterator[Any]:
    """A connection to DuckDB that takes little memory.

    Raises:
        AuditError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise AuditError("reading a .parquet file needs DuckDB: pip install 'grpc-authz[review]'") from None
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '512MB'")
        # in the order of the file, which a verifier holds to be the chain's: so that few lines are in memory
        connection.execute("SET threads = 1")
        yield connection


def _look(path: Path, connection: Any) -> Segment:
    try:
        segment = Segment(path, "", 0, path.stat().st_size)
    except OSError as exc:
        raise AuditError(f"{path} cannot be read: {exc.strerror}") from None
    lines = _parquet_lines(path, connection) if segment.is_packed else segment.lines()
    for line in islice(lines, _LOOK):
        head = HEAD.match(line)
        if head is not None:
            return Segment(path, head[1].decode(), int(head[2]), segment.size)
    return segment


def _parquet_lines(path: Path, connection: Any = None) -> Iterator[bytes]:
    with connected() if connection is None else nullcontext(connection) as connection:
        import duckdb

        try:
            result = connection.execute("SELECT line FROM read_parquet(?, hive_partitioning=false)", [plain(path)])
            while rows := result.fetchmany(_ROWS):
                for (line,) in rows:
                    if not isinstance(line, bytes):
                        raise AuditError(
                            f"{path} is no compacted log: its column `line` holds something else than bytes"
                        )
                    yield line
        except duckdb.Error as exc:
            raise AuditError(f"{path} cannot be read: {str(exc).splitlines()[0]}") from None
