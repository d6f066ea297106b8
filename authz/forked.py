"""Forked: a process that was forked goes on with locks that nobody holds.

A lock that another thread held when the process forked would be held for ever in the child: that thread is not there to
give it back. So whatever is used on in a child makes its locks anew there.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class HasLocks(Protocol):
    """Something that is used on in a child."""

    def renew_locks(self) -> None:
        """Make every lock anew. Called in a child of a fork, before anything else runs there."""
        ...


_known: Final[WeakSet[HasLocks]] = WeakSet()


def renew_in_child(each: HasLocks) -> None:
    """Call ``each.renew_locks`` in every child of a fork, for as long as there is ``each``."""
    _known.add(each)


def _renew() -> None:
    for each in list(_known):
        each.renew_locks()


os.register_at_fork(after_in_child=_renew)
