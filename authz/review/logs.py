"""Logs: some files and folders of logs, of any number of writers and hosts, as one table to ask."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from authz.audit.segment import SUFFIXES
from authz.errors import AuditError
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
    "shadow_version": "VARCHAR", "shadow_before": "VARCHAR",
}  # fmt: skip
"""The fields of records and events, flat, and their types in DuckDB."""
_OBJECT_LIMIT: Final = 16 * 1024 * 1024
_MEMORY: Final = "2GB"


class Logs:
    """What is asked. A context manager.

    Lines that are no records (damaged, torn, foreign) are left out of every answer, and :attr:`left_out` counts them.

    Args:
        paths: logs, or folders of logs.
        load: read everything once into a table on disk, for many questions; else each question reads the files.
        namespaces: if given, only decisions of calls in these namespaces are there, and none outside namespaces.

    Raises:
        AuditError: a path does not exist, holds no log, or DuckDB is not installed.
    """

    def __init__(self, paths: Iterable[Path], *, load: bool = False, namespaces: Sequence[str] | None = None) -> None:
        try:
            import duckdb
        except ImportError:
            raise AuditError("reviewing a log needs DuckDB: pip install 'grpc-authz[review]'") from None
        self._error = duckdb.Error
        self.files = _files(paths)
        self._folder = tempfile.TemporaryDirectory(prefix="authz-review-")
        self._connection = duckdb.connect(f"{self._folder.name}/review.duckdb" if load else ":memory:")
        self._connection.execute(f"SET memory_limit = '{_MEMORY}'")
        self._connection.execute(f"SET temp_directory = '{self._folder.name}/spill'")
        self._connection.execute("SET preserve_insertion_order = false")
        kind = "TABLE" if load else "VIEW"
        try:
            self._connection.execute(f"CREATE {kind} lines AS {self._union()}")
        except duckdb.Error as exc:
            self.close()
            raise AuditError(f"the log cannot be read: {str(exc).splitlines()[0]}") from None
        allowed = ""
        if namespaces is not None:
            self._connection.execute("CREATE TABLE reviewed (name VARCHAR)")
            if namespaces:
                self._connection.executemany("INSERT INTO reviewed VALUES (?)", [[name] for name in namespaces])
            allowed = (
                " AND event = 'decision' AND namespace IS NOT NULL AND len(namespaces) > 0"
                " AND list_has_all((SELECT coalesce(list(name), []) FROM reviewed), namespaces)"
            )
        self._connection.execute(f"CREATE VIEW records AS SELECT * FROM lines WHERE event IS NOT NULL{allowed}")
        self._connection.execute("CREATE VIEW decisions AS SELECT * FROM records WHERE event = 'decision'")

    def _union(self) -> str:
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        parts = []
        lines = [file for file in self.files if file.suffix == ".jsonl"]
        if lines:
            types = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
            parts.append(
                f"SELECT {columns}, filename AS file FROM read_json({_literals(lines)}, format='newline_delimited', "
                f"columns={{{types}}}, ignore_errors=true, maximum_object_size={_OBJECT_LIMIT}, filename=true, "
                "compression='uncompressed')"
            )
        packed = [file for file in self.files if file.suffix == ".parquet"]
        if packed:
            parts.append(f"SELECT {columns}, filename AS file FROM read_parquet({_literals(packed)}, filename=true)")
        return " UNION ALL ".join(parts)

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The answer to a question in SQL, about ``decisions`` or ``records``: one dictionary for each row.

        Raises:
            AuditError: it cannot be answered.
        """
        try:
            result = self._connection.cursor().execute(sql, list(parameters))
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except self._error as exc:
            raise AuditError(f"the log cannot be asked: {str(exc).splitlines()[0]}") from None

    def find(self, search: Search, limit: int = 100, *, newest: bool = True) -> list[Row]:
        """The records that a search finds, by time, then by writer and number."""
        where, parameters = search.sql()
        direction = "DESC" if newest else "ASC"
        order = f"ORDER BY time {direction}, writer, seq {direction} LIMIT ?"
        rows = self.ask(f"SELECT * FROM records WHERE {where} {order}", [*parameters, limit])
        return rows[::-1] if newest else rows

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


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise AuditError(f"{path}: there is no such file or folder; name a log, or a folder of logs")
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix in SUFFIXES and not file.name.startswith("."):
                found[file.resolve()] = None
    # a segment and the Parquet file that was made of it hold the same records
    kept = [file for file in found if file.suffix != ".parquet" or file.with_suffix(".jsonl") not in found]
    if not kept:
        raise AuditError("there is no log in what was named; a log is a .jsonl or a compacted .parquet file")
    return kept


def _literals(files: Iterable[Path]) -> str:
    # a path is data: DuckDB takes no parameters here, and would take a star for a pattern
    quoted = ["'" + str(file).replace("'", "''").replace("[", "[[]").replace("*", "[*]") + "'" for file in files]
    return f"[{', '.join(quoted)}]"
