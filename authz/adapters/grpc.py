"""The interceptor for ``grpc.server``: no handler runs before its call is allowed.

engine = authz.load_config("authz.yaml")
server = grpc.server(pool, interceptors=[authz.adapters.grpc.AuthorizationInterceptor(engine)])
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from authz.adapters.admission import AUDIT_ID_KEY, Admission, answer
from authz.decision.base import Decision
from authz.decision.current import enter
from authz.engine import Engine

Handler = Any  # a grpc.RpcMethodHandler


class AuthorizationInterceptor(grpc.ServerInterceptor):
    """Authorizes every call of a ``grpc.server``, of all four kinds.

    The serving thread only wraps the handler; the deciding is done in the pool's thread that would run the handler.
    Put it first in the list of interceptors, so that nothing runs for a call that is refused.

    Args:
        engine: who decides; closing it remains with whoever made it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call. See :class:`grpc.ServerInterceptor`."""
        handler = continuation(handler_call_details)
        return None if handler is None else guarded(self._engine, handler_call_details.method, handler)


def guarded(engine: Engine, method: str, handler: Handler) -> Handler:
    """``handler`` behind a check by ``engine``: of the same kind, with the same serializers."""
    if handler.request_streaming and handler.response_streaming:
        wrap, guard = grpc.stream_stream_rpc_method_handler, _both(engine, method, handler.stream_stream)
    elif handler.request_streaming:
        wrap, guard = grpc.stream_unary_rpc_method_handler, _requests(engine, method, handler.stream_unary)
    elif handler.response_streaming:
        wrap, guard = grpc.unary_stream_rpc_method_handler, _responses(engine, method, handler.unary_stream)
    else:
        wrap, guard = grpc.unary_unary_rpc_method_handler, _unary(engine, method, handler.unary_unary)
    return wrap(guard, handler.request_deserializer, handler.response_serializer)


# A guard for streamed responses is a generator, so that calling it does nothing yet: the asyncio server calls plain
# functions on its event loop, and only iterates over what they return in a thread.


def _unary(engine: Engine, method: str, behaviour: Any) -> Any:
    def admit(request: Any, context: Any) -> Any:
        let_in(Admission(engine, method, context).decide(request), context)
        return behaviour(request, context)

    return admit


def _responses(engine: Engine, method: str, behaviour: Any) -> Any:
    def admit(request: Any, context: Any) -> Iterator[Any]:
        let_in(Admission(engine, method, context).decide(request), context)
        yield from behaviour(request, context)

    return admit


def _requests(engine: Engine, method: str, behaviour: Any) -> Any:
    def admit(requests: Iterator[Any], context: Any) -> Any:
        return behaviour(AuthorizedRequests(Admission(engine, method, context), requests, context), context)

    return admit


def _both(engine: Engine, method: str, behaviour: Any) -> Any:
    def admit(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        yield from behaviour(AuthorizedRequests(Admission(engine, method, context), requests, context), context)

    return admit


def let_in(decision: Decision, context: Any) -> None:
    """Enforce the decision on the opening of a call: return with it as the current one, or abort the call."""
    if not decision:
        refuse(decision, context)
    enter(decision)
    context.set_trailing_metadata(((AUDIT_ID_KEY, decision.audit_id),))


def refuse(decision: Decision, context: Any) -> NoReturn:
    """End the call with the answer to ``decision``."""
    told = answer(decision)
    context.set_trailing_metadata(told.trailers)
    context.abort(told.code, told.text)
    raise AssertionError("abort returned")  # pragma: no cover


class AuthorizedRequests:
    """A request stream of which every message is allowed before the handler sees it. Made when the opening is decided.

    A message that is refused ends the call. A handler that swallows the end gets no message after it either.
    """

    def __init__(self, admission: Admission, requests: Iterator[Any], context: Any) -> None:
        self._admission = admission
        self._requests = requests
        self._context = context
        self._first: list[Any] = []
        self._refused: Decision | None = None
        self._lock = threading.Lock()
        if admission.needs_message:
            self._first = [message for message in (next(requests, None),) if message is not None]
        let_in(admission.decide(self._first[0] if self._first else None), context)

    def __iter__(self) -> AuthorizedRequests:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if self._refused is None:
                if self._first:
                    return self._first.pop()
                message = next(self._requests)
                decision = self._admission.decide_next(message)
                if decision is None or decision:
                    return message
                self._refused = decision
        refuse(self._refused, self._context)

    def next(self) -> Any:
        """The next message, as gRPC's own request iterator spells it."""
        return self.__next__()
