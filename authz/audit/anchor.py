"""Anchor: a copy of each checkpoint, kept where the log's owner cannot change it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class FileAnchor:
    """Appends checkpoints to a file, best on another machine's disk.

    Args:
        path: the file; made if it does not exist. A device such as ``/dev/stderr`` will do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, line: bytes) -> None:
        """Append the checkpoint ``line``.

        Raises:
            OSError: it could not be.
        """
        # opened each time: the file may be rotated, or its disk may come and go
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(f"took {written} of {len(line)} bytes")
        finally:
            os.close(descriptor)


class _Stderr(FileAnchor):
    def __call__(self, line: bytes) -> None:
        sys.stderr.write(line.decode("utf-8", "replace"))
        sys.stderr.flush()


def stderr_anchor() -> FileAnchor:
    """An anchor on the process's standard error, for whoever collects that."""
    return _Stderr(Path("<stderr>"))
