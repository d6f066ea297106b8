"""Enforcement: what of an adapter's behaviour is the operator's to choose, in the section of that name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Recheck(StrEnum):
    """When a call under way is looked at again: whether its credential has ended, or a new policy takes it back.

    AT_ONCE: at each message, and within one interval also when none comes; an idle stream is ended.
    NEXT_MESSAGE: at each message, in both directions.
    """

    AT_ONCE = "at_once"
    NEXT_MESSAGE = "next_message"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """The operator's choices.

    Attributes:
        recheck: when calls under way are looked at again.
        interval: for AT_ONCE, seconds between looks.
        show_reasons: tell a refused caller the reason code, and not its category alone. A code helps an honest caller
            and a prober alike.
    """

    recheck: Recheck = Recheck.AT_ONCE
    interval: float = 1.0
    show_reasons: bool = False
