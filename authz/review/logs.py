"""Logs: some files and folders of logs, of any number of writers and hosts, as one table to ask."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from authz.audit.printable import LIST_LIMIT
from authz.audit.segment import find_segments, no_log, plain
from authz.errors import AuditError
from authz.review.outcome import LET_IN
from authz.review.search import Search

Row: TypeAlias = dict[str, Any]

COLUMNS: Final = {
    "v": "BIGINT", "writer": "VARCHAR", "seq": "BIGINT", "prev": "VARCHAR", "event": "VARCHAR", "id": "VARCHAR",
    "time": "TIMESTAMP", "code": "VARCHAR", "decision": "VARCHAR", "reason": "VARCHAR", "reason_text": "VARCHAR",
    "sub": "VARCHAR", "iss": "VARCHAR", "authn": "VARCHAR", "key_id": "VARCHAR", "cert_fp": "VARCHAR",
    "roles": "VARCHAR[]", "claims_used": "VARCHAR[]", "namespace": "VARCHAR", "namespaces": "VARCHAR[]",
    "service": "VARCHAR", "method": "VARCHAR", "stream": "BIGINT", "request": "VARCHAR[]", "unreadable": "VARCHAR",
    "rule": "VARCHAR", "rule_src": "VARCHAR", "rule_chain": "VARCHAR[]", "policy_version": "VARCHAR",
    "peer": "VARCHAR", "peer_ip": "VARCHAR", "peer_port": "BIGINT", "user_agent": "VARCHAR", "trace_id": "VARCHAR",
    "span_id": "VARCHAR", "grpc_code": "VARCHAR", "eval_us": "BIGINT", "redacted": "VARCHAR[]", "truncated": "BOOLEAN",
    "before": "VARCHAR", "bundle": "VARCHAR", "problems": "VARCHAR[]", "count": "BIGINT", "from": "BIGINT",
    "to": "BIGINT", "cause": "VARCHAR", "host": "VARCHAR", "let_through": "BOOLEAN",
    "enforced": "BOOLEAN", "shadow_decision": "VARCHAR", "shadow_reason": "VARCHAR", "shadow_rule": "VARCHAR",
    "shadow_rule_src": "VARCHAR", "shadow_version": "VARCHAR", "shadow_before": "VARCHAR",
    "asked": "VARCHAR", "by": "VARCHAR", "logs": "VARCHAR[]",
}  # fmt: skip
"""The fields of records and events, flat, and their types in DuckDB."""
ORDER: Final = "time, writer, seq"
"""The order of records: of those of one time, by chain and number."""
_OBJECT_LIMIT: Final = 16 * 1024 * 1024
_MEMORY: Final = "512MB"
"""What DuckDB may take; the rest of a question waits on disk."""
THREADS: Final = min(4, os.cpu_count() or 1)
"""That DuckDB works with: each of them needs memory of its own."""
_ROWS: Final = 1000
ROW_GROUP: Final = 20_480
"""Rows that a Parquet file is written by: small groups take little memory, and read as fast."""


class Logs:
    """What is asked. A context manager.

    Lines that are no records (damaged, torn, foreign) are left out of every answer, and :attr:`left_out` counts them.

    Args:
        paths: logs, or folders of logs.
        load: read everything once into a table on disk, for many questions; else each question reads the files.
        namespaces: if given, only decisions of calls in these namespaces are there, and of none that was in another, or
            outside namespaces, besides; without ``reason_text``, which names where else a caller may do something.

    Attributes:
        limited: whether only some namespaces' decisions are there.

    Raises:
        AuditError: a path does not exist, holds no log, or DuckDB is not installed.
    """

    def __init__(self, paths: Iterable[Path], *, load: bool = False, namespaces: Sequence[str] | None = None) -> None:
        try:
            import duckdb
        except ImportError:
            raise AuditError("reviewing a log needs DuckDB: pip install 'grpc-authz[review]'") from None
        self._duckdb = duckdb
        self._error = duckdb.Error
        named = list(paths)
        # in one place for all commands: which files are a log, and which of two with the same lines is taken
        self.files = [segment.path.resolve() for segment in find_segments(named)]
        if not self.files:
            raise no_log(named)
        self._folder = tempfile.TemporaryDirectory(prefix="authz-review-")
        self._connection = duckdb.connect(f"{self._folder.name}/review.duckdb" if load else ":memory:")
        self._connection.execute(f"SET memory_limit = '{_MEMORY}'")
        self._connection.execute(f"SET threads = {THREADS}")
        self._connection.execute(f"SET temp_directory = '{self._folder.name}/spill'")
        self._connection.execute("SET preserve_insertion_order = false")
        kind = "TABLE" if load else "VIEW"
        try:
            self._connection.execute(f"CREATE {kind} lines AS {self._union()}")
        except duckdb.Error as exc:
            self.close()
            raise AuditError(f"the log cannot be read: {_first_line(exc)}") from None
        self.limited = namespaces is not None
        seen = "SELECT * FROM lines WHERE event IS NOT NULL"
        if namespaces is not None:
            self._connection.execute("CREATE TABLE reviewed (name VARCHAR)")
            if namespaces:
                self._connection.executemany("INSERT INTO reviewed VALUES (?)", [[name] for name in namespaces])
            # a list that was cut may have named more; list_has_all passes over what is NULL
            seen = (
                "SELECT * REPLACE (CAST(NULL AS VARCHAR) AS reason_text, CAST(NULL AS VARCHAR) AS file) FROM lines "
                "WHERE event = 'decision' AND namespace IS NOT NULL AND len(namespaces) > 0 "
                f"AND (len(namespaces) < {LIST_LIMIT} OR NOT coalesce(truncated, true)) "
                "AND list_count(namespaces) = len(namespaces) "
                "AND list_has_all((SELECT coalesce(list(name), []) FROM reviewed), namespaces)"
            )
        self._connection.execute(f"CREATE VIEW records AS {seen}")
        self._connection.execute(
            f"CREATE VIEW decisions AS SELECT *, {LET_IN} AS let_in FROM records WHERE event = 'decision'"
        )

    def _union(self) -> str:
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        parts = []
        lines = [file for file in self.files if file.suffix == ".jsonl"]
        if lines:
            types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
            parts.append(
                f"SELECT {columns}, filename AS file FROM read_json({_list(lines)}, format='newline_delimited', "
                f"columns={{{types}}}, ignore_errors=true, maximum_object_size={_OBJECT_LIMIT}, filename=true, "
                "compression='uncompressed', hive_partitioning=false)"
            )
        packed = [file for file in self.files if file.suffix == ".parquet"]
        if packed:
            parts.append(self._packed(_list(packed)))
        return " UNION ALL ".join(parts)

    def _packed(self, files: str) -> str:
        """What was compacted, also before there were fields that there are now."""
        found = self._connection.execute(f"SELECT DISTINCT name FROM parquet_schema({files})").fetchall()
        there = {name for (name,) in found}
        columns = ", ".join(
            f'"{name}"' if name in there else f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in COLUMNS.items()
        )
        return (
            f"SELECT {columns}, filename AS file FROM read_parquet({files}, filename=true, union_by_name=true, "
            "hive_partitioning=false)"
        )

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The answer to a question in SQL, about ``decisions`` or ``records``: one dictionary for each row.

        A decision has the column ``let_in`` besides those of a record.

        Raises:
            AuditError: it cannot be answered.
        """
        return list(self.each(sql, parameters))

    def each(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """As :meth:`ask`, a few rows at a time: for an answer of any length, if its SQL does not sort."""
        try:
            yield from _rows(self._connection.cursor().execute(sql, list(parameters)))
        except self._error as exc:
            raise AuditError(f"the log cannot be asked: {_first_line(exc)}") from None

    def find(self, search: Search, limit: int = 100) -> list[Row]:
        """The newest ``limit`` records that a search finds, oldest first."""
        return list(self.scan(search, limit))

    def scan(self, search: Search, limit: int | None = None) -> Iterator[Row]:
        """The records that a search finds, by time, then by writer and number: the newest ``limit``; None: all.

        However many there are, few are in memory: they are sorted into a file in the folder for temporary files.
        """
        where, parameters = search.sql()
        found = f"SELECT * FROM records WHERE {where}"
        if limit is not None:
            found = f"SELECT * FROM ({found} ORDER BY time DESC, writer DESC, seq DESC LIMIT ?)"
            parameters.append(limit)
        ordered = f"{found} ORDER BY {ORDER}"
        if limit is not None and limit <= _ROWS:
            yield from self.each(ordered, parameters)
            return
        path = Path(self._folder.name) / f"{secrets.token_hex(8)}.parquet"
        try:
            self.write_parquet(ordered, parameters, path)
            # a connection of its own, for this one keeps no order
            with self._duckdb.connect() as connection:
                connection.execute(f"SET memory_limit = '{_MEMORY}'")
                yield from _rows(connection.execute("SELECT * FROM read_parquet(?)", [str(path)]))
        finally:
            path.unlink(missing_ok=True)

    def write_parquet(self, sql: str, parameters: Sequence[Any], path: Path) -> int:
        """Write the answer to a question in SQL to the file ``path``; how many rows it has.

        Raises:
            AuditError: it cannot be answered or written.
        """
        form = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        literal = "'" + str(path).replace("'", "''") + "'"
        try:
            done = self._connection.cursor().execute(f"COPY ({sql}) TO {literal} {form}", list(parameters))
            return int(done.fetchall()[0][0])
        except self._error as exc:
            raise AuditError(f"{path} cannot be written: {_first_line(exc)}") from None

    def left_out(self) -> int:
        """How many lines are in no answer, because they are no records."""
        return int(self.ask("SELECT count(*) AS n FROM lines WHERE event IS NULL")[0]["n"])

    def close(self) -> None:
        """Let everything go."""
        self._connection.close()
        self._folder.cleanup()

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(result: Any) -> Iterator[Row]:
    names = [column[0] for column in result.description or ()]
    while rows := result.fetchmany(_ROWS):
        for row in rows:
            yield dict(zip(names, row, strict=True))


def _first_line(failure: Exception) -> str:
    return str(failure).splitlines()[0]


def _list(files: Iterable[Path]) -> str:
    return f"[{', '.join(map(literal, files))}]"


def literal(path: Path) -> str:
    """The name of a file in SQL, where DuckDB takes no parameters."""
    return "'" + plain(path).replace("'", "''") + "'"
