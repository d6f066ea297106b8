"""The interceptor for ``grpc.aio.server``: no handler runs before its call is allowed.

    engine = authz.load_config("authz.yaml")
    server = grpc.aio.server(interceptors=[authz.adapters.grpc_aio.AuthorizationInterceptor(engine)])

Methods are presented message first or caller first, see :mod:`authz.adapters.presenting`. The server looks at the form
of a handler to know how to run it, so a guard has the form of what it guards: a coroutine or an asynchronous generator.
A plain function is run in a thread by a guard of the one form or the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NoReturn

import grpc

from authz.adapters.admission import Admission
from authz.adapters.answer import AUDIT_ID_KEY, Answer, answer
from authz.adapters.ongoing import NeverEnded, OngoingOnLoop, Stay
from authz.adapters.plain import as_coroutine, as_generator
from authz.adapters.presenting import Handler, Presenting
from authz.decision.base import Decision
from authz.enforcement import Recheck
from authz.engine import Engine
from authz.errors import RefusedError

_log = logging.getLogger("authz")
_NEVER_ENDED = NeverEnded()
Admit = Callable[[Any, Any], Awaitable[tuple[Admission, Any, Any]]]


class AuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """Authorizes every call of a ``grpc.aio.server``, of all four kinds and every form of handler.

    Put it first in the list of interceptors, so that nothing runs for a call that is refused.

    Args:
        engine: who decides; closing it remains with whoever made it.
        pool: where handlers run that are plain functions; None: in the event loop's own pool. The server's
            ``migration_thread_pool`` is not used for them: see :mod:`authz.adapters.plain`.
    """

    def __init__(self, engine: Engine, pool: Executor | None = None) -> None:
        enforcement = engine.enforcement
        at_once = enforcement.recheck is Recheck.AT_ONCE
        self._engine = engine
        self._pool = pool
        self._ongoing = OngoingOnLoop(enforcement.interval) if at_once else None
        self._presenting = Presenting(engine, self._guard)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call. See :class:`grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._presenting.present(handler, handler_call_details)

    def _guard(self, handler: Handler, method: str, early: bool) -> Handler:
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        generator = inspect.isasyncgenfunction(behaviour)
        if not generator and not inspect.iscoroutinefunction(behaviour):
            generator = handler.response_streaming
            make = as_generator if generator else as_coroutine
            behaviour = make(behaviour, self._pool, streaming=handler.request_streaming)
        admit: Admit
        if handler.request_streaming:
            admit = partial(self._admit_stream, method)
        elif early:
            admit = partial(self._admit_caller_first, method)
        else:
            admit = partial(self._admit_message_first, method)
        if handler.request_streaming or early:
            response_streaming, response = grpc.stream_stream_rpc_method_handler, grpc.stream_unary_rpc_method_handler
        else:
            response_streaming, response = grpc.unary_stream_rpc_method_handler, grpc.unary_unary_rpc_method_handler
        wrap = response_streaming if handler.response_streaming else response
        guard = self._generating(admit, behaviour) if generator else self._returning(admit, behaviour)
        return wrap(guard, handler.request_deserializer, handler.response_serializer)

    # --- three ways to open a call: each gives the admission, and the argument and the context for the handler

    async def _admit_message_first(self, method: str, request: Any, context: Any) -> tuple[Admission, Any, Any]:
        admission = await self._admission(method, context)
        await self._let_in(admission, request, context)
        return admission, request, AuthorizedContext(admission, context, None, self._refuse)

    async def _admit_caller_first(self, method: str, _requests: Any, context: Any) -> tuple[Admission, Any, Any]:
        admission, request = await self._open(method, context)
        if request is None:
            request = await context.read()
            refused = await admission.refuse_next_async(request)
            if refused is not None:
                await self._refuse(refused, context)
        if request is None or request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request message is missing")
        return admission, request, AuthorizedContext(admission, context, None, self._refuse)

    async def _admit_stream(self, method: str, _requests: Any, context: Any) -> tuple[Admission, Any, Any]:
        admission, first = await self._open(method, context)
        authorized = AuthorizedContext(admission, context, first, self._refuse)
        return admission, _messages(authorized), authorized

    async def _open(self, method: str, context: Any) -> tuple[Admission, Any]:
        """Refuse an unproven caller; then wait for the first message, if it takes one to decide, and decide."""
        admission = await self._admission(method, context)
        first = None
        if admission.needs_message:
            refused = admission.refuse_unproven()
            if refused is not None:
                await self._refuse(refused, context)
            self._presenting.recognized.add(context.invocation_metadata() or ())
            first = await context.read()
        await self._let_in(admission, None if first is grpc.aio.EOF else first, context)
        return admission, first

    async def _admission(self, method: str, context: Any) -> Admission:
        try:
            return Admission(self._engine, method, context)
        except Exception:
            # the text of an exception would be sent to the caller
            _log.exception("a call to %.256r could not be read", method)
            await context.abort(grpc.StatusCode.INTERNAL, "authorization failed")
            raise AssertionError("abort returned") from None  # pragma: no cover

    async def _let_in(self, admission: Admission, message: Any, context: Any) -> None:
        waits = self._engine.waits
        decision = await admission.decide_async(message) if waits else admission.decide(message)
        if not decision:
            await self._refuse(decision, context)
        context.set_trailing_metadata(((AUDIT_ID_KEY, decision.audit_id),))

    # --- two ways to answer one

    def _returning(self, admit: Admit, behaviour: Any) -> Any:
        async def guard(argument: Any, context: Any) -> Any:
            admission, argument, authorized = await admit(argument, context)
            stay = self._enter(admission, context)
            try:
                return await behaviour(argument, authorized)
            except RefusedError as refusal:
                if stay.leave():
                    await self._refuse(refusal.decision, context)
                raise
            finally:
                stay.leave()

        return guard

    def _generating(self, admit: Admit, behaviour: Any) -> Any:
        async def guard(argument: Any, context: Any) -> AsyncIterator[Any]:
            admission, argument, authorized = await admit(argument, context)
            stay = self._enter(admission, context)
            try:
                async for response in behaviour(argument, authorized):
                    refused = admission.refuse_now()
                    if refused is not None:
                        raise RefusedError(refused)
                    yield response
            except RefusedError as refusal:
                if stay.leave():
                    await self._refuse(refusal.decision, context)
                raise
            finally:
                stay.leave()

        return guard

    def _enter(self, admission: Admission, context: Any) -> Stay:
        if self._ongoing is None:
            return _NEVER_ENDED
        return self._ongoing.enter(admission, partial(self._end, context=context, task=asyncio.current_task()))

    # --- two ways to end one

    def _told(self, decision: Decision) -> Answer:
        return answer(decision, show_reasons=self._engine.enforcement.show_reasons)

    async def _refuse(self, decision: Decision, context: Any) -> NoReturn:
        """End the call from the task that handles it."""
        told = self._told(decision)
        await context.abort(told.code, told.text, told.trailers)
        raise AssertionError("abort returned")  # pragma: no cover

    def _end(self, decision: Decision, context: Any, task: asyncio.Task[Any] | None) -> None:
        """End the call from elsewhere, and then the task that handles it, which may be waiting for something."""

        async def end() -> None:
            if task is None or task.done():
                return  # the call has ended by itself: it is freed, and must not be touched
            with contextlib.suppress(
                Exception
            ):  # abort raises when it has done its work, or if the call has just ended
                await self._refuse(decision, context)
            task.cancel()

        ending = asyncio.get_running_loop().create_task(end())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)


_endings: set[asyncio.Task[None]] = set()  # the loop holds tasks weakly


class AuthorizedContext:
    """The context of a call, for its handler: every message is allowed before it is read or written through it.

    The request iterator is made from it, so that a handler cannot get at an undecided message in either way.

    Args:
        admission: of the call, opened.
        context: gRPC's own.
        first: the message of a request stream that it was opened with; None if it was opened without one.
        refuse: ends the call.
    """

    def __init__(
        self, admission: Admission, context: Any, first: Any, refuse: Callable[[Decision, Any], Awaitable[NoReturn]]
    ) -> None:
        self._admission = admission
        self._context = context
        self._first = first
        self._refuse = refuse
        self._refused: Decision | None = None

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``. A message that is refused ends the call."""
        if self._refused is None:
            first, self._first = self._first, None
            if first is not None:
                return first
            message = await self._context.read()
            if message is grpc.aio.EOF:
                return message
            self._refused = await self._admission.refuse_next_async(message)
            if self._refused is None:
                return message
        return await self._refuse(self._refused, self._context)

    async def write(self, message: Any) -> None:
        """Send a response, unless the call is refused by now."""
        refused = self._admission.refuse_now()
        if refused is not None:
            await self._refuse(refused, self._context)
        await self._context.write(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _messages(context: AuthorizedContext) -> AsyncIterator[Any]:
    while (message := await context.read()) is not grpc.aio.EOF:
        yield message
