"""What a reviewer asks for may be of any length: it passes through a memory that does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from authz.audit.settings import LogSettings
from authz.audit.verify import verify
from authz.audit.writer import AuditLog
from authz.review.compact import compact
from tests.audit.logs import record

RECORDS = 100_000
MOST_MB = 400
"""The 256 MB that DuckDB may take here, and the process itself. As dictionaries, the rows alone would take more."""
PROGRAM = """
import sys
from pathlib import Path
from authz.audit.segment import find_segments
from authz.cli import main
from authz.review import logs
from authz.review.export import export
from authz.review.search import Search
logs._MEMORY = "256MB"
what, log, to = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if what == "query":
    sys.stdout = to.open("w")
    assert main(["audit", "query", "decision:allow", str(log), "--limit", "1000000"]) == 0
elif what == "lines":
    assert sum(1 for segment in find_segments([log]) for _ in segment.lines())
else:
    with logs.Logs([log]) as opened:
        assert export(opened, to, what, Search()) > 0
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the most memory of a process is read from /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log as lines, in the folder ``lines``, and compacted, in ``compacted``."""
    folder = tmp_path_factory.mktemp("memory")
    path = folder / "lines" / "audit-000000000001.jsonl"
    path.parent.mkdir()
    with AuditLog(path, LogSettings(sync_seconds=60)) as log:
        for _ in range(RECORDS):
            log.write(record())
    (folder / "compacted").mkdir()
    compact([path])[0].path.rename(folder / "compacted" / "audit.parquet")
    return folder


def peak(what: str, log: Path, to: Path) -> float:
    """The most memory, in MB, of a process that does ``what`` with ``log``."""
    to.unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, what, str(log), str(to)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stderr) / 1024


@pytest.mark.parametrize("what", ["query", "csv", "json", "ocsf", "parquet"])
def test_the_memory_does_not_grow_with_the_answer(folder: Path, tmp_path: Path, what: str) -> None:
    assert peak(what, folder / "lines", tmp_path / "out") < MOST_MB


def test_the_memory_does_not_grow_with_what_is_verified(folder: Path, tmp_path: Path) -> None:
    assert verify([folder / "compacted"]).sound
    assert peak("lines", folder / "compacted", tmp_path / "out") < MOST_MB / 2


def test_what_is_exported_is_in_the_order_of_the_log(folder: Path, tmp_path: Path) -> None:
    peak("parquet", folder / "lines", tmp_path / "out")
    found = duckdb.execute("SELECT seq FROM read_parquet(?) WHERE event = 'decision'", [str(tmp_path / "out")])
    rows = found.fetchall()
    assert len(rows) == RECORDS
    assert rows == sorted(rows)
