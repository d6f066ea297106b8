"""LogSettings: how a log is kept, with defaults that lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from authz.audit.checkpoint import SigningKey
from authz.audit.masking import Masking
from authz.audit.selection import Selection


class Durability(StrEnum):
    """What holds of a record when the answer to its call is enforced."""

    WRITTEN = "written"
    """It is in the kernel: it survives the death of the process; a power cut may take the last 100 ms."""
    SYNCED = "synced"
    """It is on the disk; calls that wait at the same time share one sync."""
    BEST_EFFORT = "best_effort"
    """It is in a bounded queue; what is dropped is counted in the log."""


class Mirror(Protocol):
    """A second place for the lines of a log, which never makes a call wait."""

    def offer(self, line: bytes) -> None:
        """Take a line, or drop and count it. Returns at once."""
        ...

    def close(self) -> None:
        """Send what is left, within a moment, and stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a log is kept.

    Attributes:
        durability: what a write promises on return.
        sync_seconds: for ``written``, the most that a power cut can take.
        checkpoint_records: the most records between two checkpoints.
        checkpoint_seconds: the longest that a record waits for the checkpoint that seals it.
        rotate_bytes: size at which a segment is closed and the next begun.
        rotate_seconds: age at which it is.
        reserve_bytes: kept free beside the log, for the time when the disk is full; 0: nothing is.
        keep_seconds: age at which a closed segment may be deleted; None: never.
        key: what signs the checkpoints; None: they are not signed.
        anchors: called with each checkpoint's line, beside the calls.
        mirrors: offered every line.
        selection: which allows are recorded, at which detail; None: all, whole.
        masking: what is left out or replaced; None: nothing.
        queue_records: for ``best_effort``, the most records that wait.
        unsafe_allow_unrecorded: break-glass: an allow that cannot be recorded is let through, and counted as lost.
    """

    durability: Durability = Durability.WRITTEN
    sync_seconds: float = 0.1
    checkpoint_records: int = 1000
    checkpoint_seconds: float = 10.0
    rotate_bytes: int = 256 * 1024 * 1024
    rotate_seconds: float = 86_400.0
    reserve_bytes: int = 1024 * 1024
    keep_seconds: float | None = None
    key: SigningKey | None = None
    anchors: tuple[Callable[[bytes], None], ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    selection: Selection | None = None
    masking: Masking | None = None
    queue_records: int = 10_000
    unsafe_allow_unrecorded: bool = False
