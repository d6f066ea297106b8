"""Table: a benchmark's table, printed and written to benchmarks/results/ with the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


def machine(note: str) -> str:
    """One line that says where and with what a run was measured."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "pyjwt", "cryptography", "pycasbin"))
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    cores = os.cpu_count()
    return f"{when}, {cores} cores, {platform.machine()}, Python {platform.python_version()}, {packages}; {note}"


def write(name: str, explanation: str, header: Sequence[str], rows: Sequence[Sequence[str]], where: str) -> None:
    """Print a table, and write it to ``benchmarks/results/<name>.md``."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in [header]]
    lines.append("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    lines += ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    table = "\n".join(lines)
    print(f"{table}\n\n{where}\n")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.md").write_text(f"# {name}\n\n{explanation.strip()}\n\n{table}\n\nMeasured {where}.\n")
