"""The interceptor for ``grpc.aio.server``: no handler runs before its call is allowed.

engine = authz.load_config("authz.yaml")
server = grpc.aio.server(interceptors=[authz.adapters.grpc_aio.AuthorizationInterceptor(engine)])
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from authz.adapters.admission import AUDIT_ID_KEY, Admission, answer
from authz.adapters.grpc import Handler, guarded
from authz.decision.base import Decision
from authz.decision.current import enter
from authz.engine import Engine


class AuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """Authorizes every call of a ``grpc.aio.server``, of all four kinds and every form of handler.

    Put it first in the list of interceptors, so that nothing runs for a call that is refused.

    Args:
        engine: who decides; closing it remains with whoever made it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call. See :class:`grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        engine, method = self._engine, handler_call_details.method
        if handler.request_streaming and handler.response_streaming:
            wrap, behaviour = grpc.stream_stream_rpc_method_handler, handler.stream_stream
        elif handler.request_streaming:
            wrap, behaviour = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        elif handler.response_streaming:
            wrap, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        else:
            wrap, behaviour = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        # the server looks at the form of a handler to know how to run it, so the wrapper has to have the same
        if inspect.isasyncgenfunction(behaviour):
            guard = _generator(engine, method, behaviour, handler.request_streaming)
        elif inspect.iscoroutinefunction(behaviour):
            guard = _coroutine(engine, method, behaviour, handler.request_streaming)
        else:
            # a plain function runs in a thread, with the context and the iterator of the sync server
            return guarded(engine, method, handler)
        return wrap(guard, handler.request_deserializer, handler.response_serializer)


def _coroutine(engine: Engine, method: str, behaviour: Any, streaming: bool) -> Any:
    async def admit(request: Any, context: Any) -> Any:
        request, context = await _admit(engine, method, request, context, streaming)
        return await behaviour(request, context)

    return admit


def _generator(engine: Engine, method: str, behaviour: Any, streaming: bool) -> Any:
    async def admit(request: Any, context: Any) -> AsyncIterator[Any]:
        request, context = await _admit(engine, method, request, context, streaming)
        async for response in behaviour(request, context):
            yield response

    return admit


async def _admit(engine: Engine, method: str, request: Any, context: Any, streaming: bool) -> tuple[Any, Any]:
    """Decide the opening of a call, and return what its handler is to be called with."""
    admission = Admission(engine, method, context)
    if not streaming:
        await _let_in(admission.decide(request), context)
        return request, context
    first = await context.read() if admission.needs_message else grpc.aio.EOF
    await _let_in(admission.decide(None if first is grpc.aio.EOF else first), context)
    guarded_context = AuthorizedContext(admission, context, first if admission.needs_message else _UNREAD)
    return _messages(guarded_context), guarded_context


async def _let_in(decision: Decision, context: Any) -> None:
    if not decision:
        await _refuse(decision, context)
    enter(decision)
    context.set_trailing_metadata(((AUDIT_ID_KEY, decision.audit_id),))


async def _refuse(decision: Decision, context: Any) -> NoReturn:
    told = answer(decision)
    await context.abort(told.code, told.text, told.trailers)
    raise AssertionError("abort returned")  # pragma: no cover


_UNREAD = object()


class AuthorizedContext:
    """The context of a call with a request stream, of which every message is allowed before the handler reads it.

    The request iterator is made from it, so that a handler cannot get at an undecided message in either way.
    """

    def __init__(self, admission: Admission, context: Any, first: Any) -> None:
        self._admission = admission
        self._context = context
        self._first = first
        self._refused: Decision | None = None

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``. A message that is refused ends the call."""
        if self._refused is None:
            if self._first is not _UNREAD:
                message, self._first = self._first, _UNREAD
                return message
            message = await self._context.read()
            decision = None if message is grpc.aio.EOF else self._admission.decide_next(message)
            if decision is None or decision:
                return message
            self._refused = decision
        return await _refuse(self._refused, self._context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _messages(context: AuthorizedContext) -> AsyncIterator[Any]:
    while (message := await context.read()) is not grpc.aio.EOF:
        yield message
