"""The interceptor for ``grpc.server``: no handler runs before its call is allowed.

    engine = authz.load_config("authz.yaml")
    server = grpc.server(pool, interceptors=[authz.adapters.grpc.AuthorizationInterceptor(engine)])

Methods are presented message first or caller first, see :mod:`authz.adapters.presenting`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import grpc

from authz.adapters.admission import Admission
from authz.adapters.answer import AUDIT_ID_KEY, answer
from authz.adapters.ongoing import NeverEnded, Ongoing, OngoingInThread, Stay
from authz.adapters.presenting import Handler, Presenting
from authz.decision.base import Decision
from authz.enforcement import Recheck
from authz.engine import Engine
from authz.errors import RefusedError

_log = logging.getLogger("authz")
_NEVER_ENDED = NeverEnded()

Admit = Callable[[Any, Any], tuple[Admission, Any]]
"""Decides the opening of a call: from what the server gives to a handler, and the context, to what the handler gets."""


class AuthorizationInterceptor(grpc.ServerInterceptor):
    """Authorizes every call of a ``grpc.server``, of all four kinds.

    The serving thread only wraps the handler; the deciding is done in the pool's thread that would run the handler.
    Put it first in the list of interceptors, so that nothing runs for a call that is refused.

    Args:
        engine: who decides; closing it remains with whoever made it.
    """

    def __init__(self, engine: Engine) -> None:
        enforcement = engine.enforcement
        ongoing = OngoingInThread(enforcement.interval) if enforcement.recheck is Recheck.AT_ONCE else None
        self._guards = Guards(engine, ongoing)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call. See :class:`grpc.ServerInterceptor`."""
        handler = continuation(handler_call_details)
        return None if handler is None else self._guards.guarded(handler, handler_call_details)


class Guards:
    """Puts handlers behind checks by ``engine``.

    Args:
        engine: who decides.
        ongoing: the calls under way; None: they are looked at again with their messages alone.
    """

    def __init__(self, engine: Engine, ongoing: Ongoing | None) -> None:
        self._engine = engine
        self._ongoing = ongoing
        self._presenting = Presenting(engine, self._guard)
        self.guarded = self._presenting.present
        """A handler, and the details of a call -> the handler behind a check, with the same requests and responses."""

    def _guard(self, handler: Handler, method: str, early: bool) -> Handler:
        admit: Admit
        if handler.request_streaming:
            admit = partial(self._admit_stream, method)
        elif early:
            admit = partial(self._admit_caller_first, method)
        else:
            admit = partial(self._admit_message_first, method)
        streaming = handler.request_streaming or early
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            wrap = grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_stream_rpc_method_handler
            if getattr(behaviour, "experimental_non_blocking", False):
                guard = self._calling_back(admit, behaviour)
            else:
                guard = self._streaming(admit, behaviour)
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            wrap = grpc.stream_unary_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
            guard = self._returning(admit, behaviour)
        return wrap(guard, handler.request_deserializer, handler.response_serializer)

    # --- three ways to open a call

    def _admit_message_first(self, method: str, request: Any, context: Any) -> tuple[Admission, Any]:
        admission = self._admission(method, context)
        self._let_in(admission, request, context)
        return admission, request

    def _admit_caller_first(self, method: str, requests: Iterator[Any], context: Any) -> tuple[Admission, Any]:
        admission, request = self._open(method, requests, context)
        if request is None:
            request = next(requests, None)
            refused = admission.refuse_next(request)
            if refused is not None:
                self._refuse(refused, context)
        if request is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request message is missing")
        return admission, request

    def _admit_stream(self, method: str, requests: Iterator[Any], context: Any) -> tuple[Admission, Any]:
        admission, first = self._open(method, requests, context)
        return admission, AuthorizedRequests(admission, first, requests)

    def _open(self, method: str, requests: Iterator[Any], context: Any) -> tuple[Admission, Any]:
        """Refuse an unproven caller; then wait for the first message, if it takes one to decide, and decide."""
        admission = self._admission(method, context)
        first = None
        if admission.needs_message:
            refused = admission.refuse_unproven()
            if refused is not None:
                self._refuse(refused, context)
            self._presenting.recognized.add(context.invocation_metadata() or ())
            first = next(requests, None)
        self._let_in(admission, first, context)
        return admission, first

    def _admission(self, method: str, context: Any) -> Admission:
        try:
            return Admission(self._engine, method, context)
        except Exception:
            # the text of an exception would be sent to the caller
            _log.exception("a call to %.256r could not be read", method)
            context.abort(grpc.StatusCode.INTERNAL, "authorization failed")
            raise AssertionError("abort returned") from None  # pragma: no cover

    def _let_in(self, admission: Admission, message: Any, context: Any) -> None:
        decision = admission.decide(message)
        if not decision:
            self._refuse(decision, context)
        context.set_trailing_metadata(((AUDIT_ID_KEY, decision.audit_id),))

    # --- three ways to answer one

    def _returning(self, admit: Admit, behaviour: Any) -> Any:
        def guard(argument: Any, context: Any) -> Any:
            admission, argument = admit(argument, context)
            stay = self._enter(admission, context)
            try:
                response = behaviour(argument, context)
                if admission.refused is not None:
                    raise RefusedError(admission.refused)
                return response
            except Exception as error:
                self._failed(error, admission, stay, context)
                raise
            finally:
                self._leave(stay, context)

        return guard

    def _streaming(self, admit: Admit, behaviour: Any) -> Any:
        def guard(argument: Any, context: Any) -> Iterator[Any]:
            admission, argument = admit(argument, context)
            stay = self._enter(admission, context)
            try:
                for response in behaviour(argument, context):
                    refused = admission.refuse_now()
                    if refused is not None:
                        raise RefusedError(refused)
                    yield response
                if admission.refused is not None:
                    raise RefusedError(admission.refused)
            except Exception as error:
                self._failed(error, admission, stay, context)
                raise
            finally:
                self._leave(stay, context)

        return guard

    def _calling_back(self, admit: Admit, behaviour: Any) -> Any:
        """For a handler that returns at once and calls back with its responses, as the health service's Watch does."""

        def guard(argument: Any, context: Any, send_response_callback: Callable[[Any], None]) -> Any:
            admission, argument = admit(argument, context)
            stay = self._enter(admission, context)
            context.add_callback(stay.leave)

            def send(response: Any) -> None:
                refused = admission.refused if response is None else admission.refuse_now()
                if refused is not None:
                    if stay.leave():
                        self._end(refused, context)
                elif response is not None or stay.leave():  # None is the end of the responses
                    send_response_callback(response)

            try:
                return behaviour(argument, context, send)
            except Exception as error:
                self._failed(error, admission, stay, context)
                self._leave(stay, context)
                raise

        vars(guard)["experimental_non_blocking"] = True
        vars(guard)["experimental_thread_pool"] = getattr(behaviour, "experimental_thread_pool", None)
        return guard

    def _enter(self, admission: Admission, context: Any) -> Stay:
        if self._ongoing is None:
            return _NEVER_ENDED
        return self._ongoing.enter(admission, partial(self._end, context=context))

    def _leave(self, stay: Stay, context: Any) -> None:
        """Leave before the server is told how the handler ended; should the call be ended already, tell it nothing."""
        if not stay.leave():
            raise _ended(context)

    def _failed(self, error: Exception, admission: Admission, stay: Stay, context: Any) -> None:
        """Answer a handler's failure with a denial, if there was one: also if the handler made something else of it."""
        refused = error.decision if isinstance(error, RefusedError) else admission.refused
        if refused is not None and stay.leave():
            self._refuse(refused, context)

    # --- two ways to end one

    def _refuse(self, decision: Decision, context: Any) -> NoReturn:
        """End the call from the thread that handles it."""
        told = answer(decision, show_reasons=self._engine.enforcement.show_reasons)
        context.set_trailing_metadata(told.trailers)
        context.abort(told.code, told.text)
        raise AssertionError("abort returned")  # pragma: no cover

    def _end(self, decision: Decision, context: Any) -> None:
        """End the call from another thread than the one that handles it, which may be waiting for something."""
        told = answer(decision, show_reasons=self._engine.enforcement.show_reasons)
        try:
            context.set_trailing_metadata(told.trailers)
            context.set_code(told.code)
            context.set_details(told.text)
            _send_status(context)
        except Exception:
            # without a way to send a status the call is cancelled: the client sees CANCELLED, and no more messages
            context.cancel()


def _send_status(context: Any) -> None:
    """Send the code, details and trailers that ``context`` has been given, now, whatever its handler does.

    gRPC has no public way to do that from another thread; this is what the server itself does when a handler aborts.
    """
    from grpc import _server
    from grpc._cython import cygrpc

    state, event = context._state, context._rpc_event  # noqa: SLF001
    with state.condition:
        if _server._is_rpc_state_active(state):  # noqa: SLF001
            _server._abort(state, event.call, cygrpc.StatusCode.unknown, b"")  # noqa: SLF001
            state.condition.notify_all()


def _ended(context: Any) -> grpc.RpcError:
    """What a handler's thread raises where the call has been ended already: the server takes it for its own news.

    Anything else would have the server send a second status, wait for its completion, and never stop.
    """
    error = grpc.RpcError()
    with contextlib.suppress(AttributeError):
        state = context._state  # noqa: SLF001 - private: only needed where sending a status by private means has worked
        with state.condition:
            state.aborted = False
            state.rpc_errors.append(error)
    return error


class AuthorizedRequests:
    """A request stream of which every message is allowed before the handler sees it.

    A message that is refused is a :class:`RefusedError`, with which the guard ends the call. A handler that swallows it
    gets no message after it either, and cannot end the call otherwise.

    Args:
        admission: of the call, opened.
        first: the message that it was opened with; None if it was opened without one.
        requests: gRPC's own stream.
    """

    def __init__(self, admission: Admission, first: Any, requests: Iterator[Any]) -> None:
        self._admission = admission
        self._first = first
        self._requests = requests
        self._lock = threading.Lock()

    def __iter__(self) -> AuthorizedRequests:
        return self

    def __next__(self) -> Any:
        with self._lock:
            refused = self._admission.refused
            if refused is None:
                first, self._first = self._first, None
                if first is not None:
                    return first
                message = next(self._requests)
                refused = self._admission.refuse_next(message)
                if refused is None:
                    return message
        raise RefusedError(refused)

    def next(self) -> Any:
        """The next message, as gRPC's own request iterator spells it."""
        return self.__next__()
