"""Relay: one RPC, from the client to the server behind and back: decided first, then passed on as it came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final, NoReturn

import grpc
from grpc._cython import cygrpc

from authz.adapters.admission import Admission
from authz.adapters.answer import AUDIT_ID_KEY, answer
from authz.adapters.messages import Messages, RequestType
from authz.adapters.namespaces import Encoded, Unreadable
from authz.adapters.ongoing import NeverEnded, OngoingOnLoop, Stay
from authz.adapters.outgoing import Outgoing
from authz.adapters.presenting import caller_first
from authz.adapters.proxy.upstream import Channels
from authz.adapters.recognized import Recognized
from authz.decision.base import Decision
from authz.enforcement import Recheck
from authz.engine import Engine

_log = logging.getLogger("authz")
_EOF: Final = grpc.aio.EOF
_FROM_PEER: Final = "received from peer"
_WITHOUT_END: Final = 365 * 86_400.0
_NOT_DESCRIBED: Final = Unreadable("no descriptor set describes the method")


class Relay(grpc.GenericRpcHandler):
    """Handles every method of every service by passing it on, after ``engine`` has allowed it.

    A method of which the descriptor sets say that it has one request and one reply takes a short way; every other is
    passed on message by message, in both directions at once. Each message of a request stream is decided before it is
    passed on. A caller who might as well be nobody is refused before a message is waited for. What was decided before
    its message is decided again with it. When the caller's credential ends, so does its call.

    Args:
        engine: who decides.
        messages: the requests of the API behind.
        channels: the connections to it.
        outgoing: the metadata to send to it.
    """

    def __init__(self, engine: Engine, messages: Messages, channels: Channels, outgoing: Outgoing) -> None:
        self._engine = engine
        self._messages = messages
        self._channels = channels
        self._outgoing = outgoing
        self._handlers: dict[str, tuple[Any, Any]] = {}
        # whether there is a certificate is not seen here: a caller without a token might as well be nobody
        self._recognized = Recognized(without_token=False)
        enforcement = engine.enforcement
        self._ongoing = OngoingOnLoop(enforcement.interval) if enforcement.recheck is Recheck.AT_ONCE else None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for one RPC. See :class:`grpc.GenericRpcHandler`."""
        method = handler_call_details.method
        found = self._handlers.get(method)
        if found is None:
            found = self._handlers_of(method)
            if method in self._messages.methods:
                self._handlers[method] = found
        given, reading = found
        if given is None or caller_first(self._engine, self._recognized, handler_call_details):
            return reading
        return given

    def _handlers_of(self, method: str) -> tuple[Any, Any]:
        """For one RPC: the handler that the server gives the one request to, if there is just one; one that reads."""
        kind = self._messages.find(method)
        if kind is None or kind.client_streaming or kind.server_streaming:

            async def stream(_: Any, context: Any) -> None:
                await _guarded(context, self._stream(method, kind, context))

            return None, grpc.stream_stream_rpc_method_handler(stream)

        async def given(request: bytes, context: Any) -> Any:
            return await _guarded(context, self._unary(method, kind, request, context))

        async def reading(_: Any, context: Any) -> None:
            await _guarded(context, self._unary_caller_first(method, kind, context))

        return grpc.unary_unary_rpc_method_handler(given), grpc.stream_stream_rpc_method_handler(reading)

    async def _unary(self, method: str, kind: RequestType, request: bytes, context: Any) -> bytes:
        admission = Admission(self._engine, method, context)
        decision = await self._let_in(admission, kind.read(request), context)
        return await self._pass_on(method, kind, admission, decision, request, context)

    async def _unary_caller_first(self, method: str, kind: RequestType, context: Any) -> None:
        admission = Admission(self._engine, method, context)
        decision = await self._let_in_caller(admission, context)
        request = await (context.read() if decision is None else self._read_under_way(admission, context))
        if request is _EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request message is missing")
        if decision is None:
            decision = await self._let_in(admission, kind.read(request), context)
        else:
            refused = await admission.refuse_next_async(_read(kind, request))
            if refused is not None:
                await self._refuse(refused, context)
        await context.write(await self._pass_on(method, kind, admission, decision, request, context))

    async def _read_under_way(self, admission: Admission, context: Any) -> Any:
        """The one request of a call that is decided already, which is ended if it is refused meanwhile."""
        if self._ongoing is None:
            return await context.read()
        refused: list[Decision] = []
        task: Any = asyncio.current_task()

        def end(decision: Decision) -> None:
            refused.append(decision)
            task.cancel()

        stay = self._ongoing.enter(admission, end)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if not refused:
                raise
            task.uncancel()
        finally:
            stay.leave()
        return await self._refuse(refused[0], context)

    async def _let_in_caller(self, admission: Admission, context: Any) -> Decision | None:
        """Refuse a caller who is not proven; the decision, if it takes no message to make it."""
        if not admission.needs_message:
            return await self._let_in(admission, None, context)
        refused = admission.refuse_unproven()
        if refused is not None:
            await self._refuse(refused, context)
        self._recognized.add(context.invocation_metadata() or ())
        return None

    async def _let_in(self, admission: Admission, message: object | None, context: Any) -> Decision:
        decision = await admission.decide_async(message)
        if not decision:
            await self._refuse(decision, context)
        return decision

    async def _pass_on(
        self, method: str, kind: RequestType, admission: Admission, decision: Decision, request: bytes, context: Any
    ) -> bytes:
        """Pass one request on; the reply."""
        call = await self._call(self._channels.unary(method), decision, admission, context, request)
        passing = _Passing(admission, kind, context, call)
        stay = self._enter(passing)
        try:
            initial = await call.initial_metadata()
            if initial:
                await context.send_initial_metadata(tuple(initial))
            reply: bytes | None = await call
            trailers = await call.trailing_metadata()
        except asyncio.CancelledError:
            call.cancel()
            if passing.refused is None:
                raise
        except grpc.RpcError as error:
            if passing.refused is None:
                why = error.debug_error_string()
                await _abort(context, decision, error.code(), error.details(), error.trailing_metadata(), why)
        finally:
            stay.leave()
        if passing.refused is not None:
            await self._refuse(passing.refused, context)
        if reply is None:
            await _abort(context, decision, grpc.StatusCode.INTERNAL, "the server behind gave no reply", trailers, None)
        context.set_trailing_metadata(_trailers(trailers, decision))
        return reply

    async def _stream(self, method: str, kind: RequestType | None, context: Any) -> None:
        admission = Admission(self._engine, method, context)
        first = None
        decision = await self._let_in_caller(admission, context)
        if decision is None:
            first = await context.read()
            decision = await self._let_in(admission, None if first is _EOF else _read(kind, first), context)
        call = await self._call(self._channels.stream(method), decision, admission, context)
        passing = _Passing(admission, kind, context, call)
        stay = self._enter(passing)
        requests = asyncio.create_task(passing.requests(first))
        try:
            initial = await call.initial_metadata()
            await context.send_initial_metadata(tuple(initial or ()))
            while (message := await call.read()) is not _EOF and passing.may_go_on():
                await context.write(message)
            code, trailers = await call.code(), await call.trailing_metadata()
            if code is not grpc.StatusCode.OK:
                details, why = await call.details(), await call.debug_error_string()
        except grpc.RpcError as error:
            code, trailers = error.code(), error.trailing_metadata()
            details, why = error.details(), error.debug_error_string()
        except asyncio.CancelledError:
            if passing.refused is None:
                raise
        finally:
            stay.leave()
            requests.cancel()
            call.cancel()
        if passing.refused is not None:
            await self._refuse(passing.refused, context)
        if code is not grpc.StatusCode.OK:
            await _abort(context, decision, code, details, trailers, why)
        context.set_trailing_metadata(_trailers(trailers, decision))

    async def _call(self, make: Any, decision: Decision, admission: Admission, context: Any, *request: bytes) -> Any:
        try:
            metadata = self._outgoing.make(context.invocation_metadata() or (), decision, admission.admitted)
        except ValueError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        remaining = context.time_remaining()
        # the time of a client that waits without end would not fit into what gRPC counts with
        timeout = remaining if remaining is None or remaining < _WITHOUT_END else None
        return make(*request, timeout=timeout, metadata=tuple(metadata))

    def _enter(self, passing: _Passing) -> Stay:
        if self._ongoing is None:
            return NeverEnded()
        # to end a call is to cancel the one to the server behind: what handles it is the one to give a status
        return self._ongoing.enter(passing.admission, passing.refuse)

    async def _refuse(self, decision: Decision, context: Any) -> NoReturn:
        """End the call with the answer to ``decision``."""
        told = answer(decision, show_reasons=self._engine.enforcement.show_reasons)
        await context.abort(told.code, told.text, told.trailers)
        raise AssertionError("abort returned")  # pragma: no cover


class _Passing:
    """A call on its way: the client's messages, each decided, and whether the call may go on.

    Attributes:
        refused: the denial, once there is one; the call to the server behind is cancelled then.
        stay: of the call among those under way.
    """

    def __init__(self, admission: Admission, kind: RequestType | None, context: Any, call: Any) -> None:
        self.admission = admission
        self._kind = kind
        self._context = context
        self._call = call
        self.refused: Decision | None = None
        self.stay: Stay = NeverEnded()

    async def requests(self, message: Any) -> None:
        """Pass the client's messages on, the first being ``message``, which is decided; None: it is still to come."""
        try:
            await self._call.wait_for_connection()
            if message is None:
                message = await self._next()
            while self.refused is None and message is not _EOF:
                await self._write(message)
                message = await self._next()
            if self.refused is None:
                await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError, cygrpc.InternalError):
            return  # the server has answered and hears no more: its status is on its way to the client
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("the requests of a call could not be passed on")
            self._call.cancel()

    async def _next(self) -> Any:
        """The next message, or the end of them all; the call is refused if it is not to be passed on."""
        message = await self._context.read()
        if message is _EOF:
            refused = self.admission.refuse_now()
        else:
            refused = await self.admission.refuse_next_async(_read(self._kind, message))
        if refused is not None:
            self.refuse(refused)
        return message

    async def _write(self, message: bytes) -> None:
        # `call.write` would put an error of its own in the place of the status that the server has ended the call with
        await self._call._cython_call.send_serialized_message(message)  # noqa: SLF001 - there is no public way

    def may_go_on(self) -> bool:
        """Whether a reply may be passed on: the credential has not ended, and no new policy takes the call back."""
        if self.refused is None:
            refused = self.admission.refuse_now()
            if refused is not None:
                self.refuse(refused)
        return self.refused is None

    def refuse(self, decision: Decision) -> None:
        """End the call, with ``decision`` as the reason."""
        self.refused = decision
        self._call.cancel()


def _read(kind: RequestType | None, data: bytes) -> object:
    return _NOT_DESCRIBED if kind is None else Encoded(kind.read, data)


async def _guarded(context: Any, work: Awaitable[Any]) -> Any:
    """Run ``work``: what nobody foresaw becomes INTERNAL, and its text stays in the log."""
    try:
        return await work
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception as error:
        # what the client is sent fails when it is gone: that is nothing to fill a log with
        if not isinstance(error, cygrpc.ExecuteBatchError):
            _log.exception("a call could not be passed on")
        try:
            return await context.abort(grpc.StatusCode.INTERNAL, "the call could not be passed on")
        except (grpc.aio.UsageError, cygrpc.ExecuteBatchError):
            raise asyncio.CancelledError from None  # there is nobody to be told


async def _abort(
    context: Any, decision: Decision, code: Any, details: str | None, trailers: Any, why: str | None
) -> NoReturn:
    """End the call with the status of the server behind, or of the way to it."""
    if _FROM_PEER not in (why or "") and code is grpc.StatusCode.UNAVAILABLE:
        # the library's own words name addresses that are not the client's business
        _log.warning("the server behind is not available (audit id %s): %s", decision.audit_id, details)
        details = f"the server behind is not available (audit id {decision.audit_id})"
    await context.abort(code, details or "", _trailers(trailers, decision))
    raise AssertionError("abort returned")  # pragma: no cover


def _trailers(trailers: Any, decision: Decision) -> tuple[tuple[str, str | bytes], ...]:
    passed = [(key, value) for key, value in trailers or () if key != AUDIT_ID_KEY]
    return (*passed, (AUDIT_ID_KEY, decision.audit_id))
