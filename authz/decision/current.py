"""The decision that let the running handler run."""

from __future__ import annotations

from contextvars import ContextVar, Token

from authz.decision.base import Decision

_current: ContextVar[Decision | None] = ContextVar("authz_current", default=None)


def current() -> Decision:
    """The decision of the call that is being handled: its ``principal``, ``claims``, ``rule`` and ``audit_id``.

    Raises:
        LookupError: no authorization interceptor let the running code run.
    """
    decision = _current.get()
    if decision is None:
        raise LookupError("authz.current() is for code that an authorization interceptor let run, in its thread")
    return decision


def enter(decision: Decision) -> Token[Decision | None]:
    """Make ``decision`` the current one. For adapters."""
    return _current.set(decision)
