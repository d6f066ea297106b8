"""The call that is being handled: who makes it, and finer questions about it, asked from inside its handler."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

from authz.call import Call, Scope
from authz.credentials import Credentials
from authz.decision.base import Decision
from authz.engine import Engine
from authz.errors import RefusedError


class UnderWay(NamedTuple):
    """A call that was let in, with what it takes to decide more about it. Adapters :meth:`enter` it."""

    decision: Decision
    call: Call
    credentials: Credentials
    engine: Engine

    def enter(self) -> None:
        """Make this the current call of the running context: of the thread, or of the asyncio task."""
        _current.set(self)


_current: ContextVar[UnderWay | None] = ContextVar("authz_current", default=None)


def current() -> Decision:
    """The decision that let the running handler run: its ``principal``, ``claims``, ``rule`` and ``audit_id``.

    Raises:
        LookupError: no authorization interceptor let the running code run.
    """
    return _under_way().decision


def require(namespace: str | None, method: str | None = None) -> Decision:
    """Go on only if the caller may do this: a check of what only the handler knows, recorded like any other.

    Args:
        namespace: the namespace of what the handler is about to touch; None: outside every namespace.
        method: gRPC full method whose right is asked for; by default the method that is being handled. In a namespace
            it has to be of scope namespace: a method of scope cluster touches none.

    Returns:
        the decision, an allow.

    Raises:
        RefusedError: the caller may not; if it leaves the handler, the caller is answered accordingly.
        ValueError: the method that is being handled touches no namespace, and no other one is named.
        LookupError: no authorization interceptor let the running code run.
    """
    under_way = _under_way()
    call = under_way.call if namespace is None else _in_namespaces(under_way, method)
    call = call._replace(method=method or call.method, namespaces=(namespace,))
    decision = under_way.engine.check(call, under_way.credentials)
    if not decision:
        raise RefusedError(decision)
    return decision


def permitted(namespaces: Iterable[str], method: str | None = None) -> list[str]:
    """Those of ``namespaces`` in which the caller may do this: for a listing that shows each caller its own.

    One audit record is written, with the namespaces that are returned.

    Args:
        namespaces: what there is.
        method: gRPC full method whose right is asked for, of scope namespace; by default the method that is being
            handled. A method that lists namespaces is of scope cluster itself: name the one that reads in them.

    Raises:
        ValueError: the method that is being handled touches no namespace, and no other one is named.
        LookupError: no authorization interceptor let the running code run.
    """
    under_way = _under_way()
    call = _in_namespaces(under_way, method)
    return under_way.engine.permitted(call, under_way.credentials, namespaces)


def _in_namespaces(under_way: UnderWay, method: str | None) -> Call:
    """The call as it is asked about in a namespace: of ``method``, or of the one that is being handled."""
    call = under_way.call
    if method:
        return call._replace(method=method)
    api = under_way.engine.policy.revision.catalogue.find(call.method)
    if api is not None and api.scope is Scope.CLUSTER:
        raise ValueError(
            f"{call.method} touches no namespace; give the `method` whose right in a namespace is asked for"
        )
    return call


def _under_way() -> UnderWay:
    under_way = _current.get()
    if under_way is None:
        raise LookupError("this is for code that an authorization interceptor let run, in its thread or task")
    return under_way
