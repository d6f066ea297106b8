"""The processes of an example: real servers on free ports of loopback, ended by their own pid, their logs kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class NotReadyError(RuntimeError):
    """A part did not come up; the text has its log."""


def binary(name: str) -> str | None:
    """A program that a Python package has brought along, or that is on the path; None: neither."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    arguments: Sequence[str], log: Path, folder: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in ``folder`` whose output goes to ``log``, ended by its own pid."""
    with log.open("wb") as file:
        started = subprocess.Popen(arguments, cwd=folder, stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def await_port(port: int, what: str, part: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    """Wait until somebody listens on ``port``.

    Raises:
        NotReadyError: nobody does in time, or ``part`` has ended.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and part.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        time.sleep(0.05)
    raise NotReadyError(f"{what} did not come up:\n{log.read_text(errors='replace')[-4000:]}")
