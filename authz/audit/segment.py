"""Segment: one file of a chain, as a reviewer finds it: JSON lines, or the Parquet file they were compacted into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.audit.chain import HEAD
from authz.errors import AuditError

SUFFIXES: Final = (".jsonl", ".parquet")
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
        return self.path.suffix == ".parquet"

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


def find_segments(paths: Iterable[Path]) -> list[Segment]:
    """The segments in some files and folders, also of several chains and hosts, in the order of their chains.

    A Parquet file stands for the lines that it was made from: where both are there, the lines are taken.

    Raises:
        AuditError: a path does not exist or cannot be read.
    """
    found: dict[Path, Segment] = {}
    for path in paths:
        if not path.exists():
            raise AuditError(f"{path}: there is no such file or folder; name a log, or a folder of logs")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in SUFFIXES]
        for file in files:
            if file.is_file() and not file.name.startswith("."):
                found[file.resolve()] = _look(file)
    lines = {(segment.writer, segment.first) for segment in found.values() if segment.path.suffix == ".jsonl"}
    kept = [
        segment
        for segment in found.values()
        if segment.path.suffix == ".jsonl" or (segment.writer, segment.first) not in lines
    ]
    return sorted(kept, key=lambda segment: (segment.writer, segment.first, str(segment.path)))


def no_log(paths: Iterable[Path]) -> AuditError:
    """The error to raise where there should be a log."""
    named = ", ".join(map(str, paths)) or "what was named"
    return AuditError(
        f"there is no log in {named}; a log is a .jsonl or a compacted .parquet file: name one, or its folder"
    )


def _look(path: Path) -> Segment:
    segment = Segment(path, "", 0, path.stat().st_size)
    for number, line in enumerate(segment.lines()):
        head = HEAD.match(line)
        if head is not None:
            return Segment(path, head[1].decode(), int(head[2]), segment.size)
        if number >= _LOOK:
            break
    return segment


def _parquet_lines(path: Path) -> Iterator[bytes]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            # in the order of the file, which a verifier holds to be the chain's: so that few lines are in memory
            connection.execute("SET memory_limit = '512MB'")
            connection.execute("SET threads = 1")
            result = connection.execute("SELECT line FROM read_parquet(?)", [str(path)])
            while rows := result.fetchmany(_ROWS):
                yield from (row[0] for row in rows)
    except duckdb.Error as exc:
        raise AuditError(f"{path} cannot be read: {str(exc).splitlines()[0]}") from None
