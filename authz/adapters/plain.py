"""Plain functions on the asyncio server: handlers that block, run in threads, behind a guard that does not.

The asyncio server would run such a handler in a thread by itself, and give it a context that reads from the call. When
the client has gone, the call is freed, and reading from it from a thread ends the process. So whatever is read from the
call is read on the event loop, while the call is certainly there, and a handler gets a context that holds the values.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Any, NoReturn

import grpc

_END = object()


class PlainContext:
    """The context of a call, for a plain function in a thread, as :class:`grpc.ServicerContext` has it."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._metadata = tuple(context.invocation_metadata() or ())
        self._peer = context.peer()
        self._auth_context = context.auth_context()
        self._callbacks: list[Callable[[], None]] = []
        self._over = False

    def wait_for(self, begin: Callable[[], Any]) -> Any:
        """What the coroutine that ``begin`` makes gives, awaited on the event loop by the calling thread.

        Raises:
            grpc.RpcError: the call is over, and must not be touched any more.
        """

        async def guarded() -> Any:
            if self._over:
                raise grpc.RpcError("the call is over")
            return await begin()

        return asyncio.run_coroutine_threadsafe(guarded(), self._loop).result()

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The metadata that came with the call."""
        return self._metadata

    def peer(self) -> str:
        """The address of the caller."""
        return str(self._peer)

    def auth_context(self) -> Any:
        """The transport's properties."""
        return self._auth_context

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with a status."""
        self.wait_for(lambda: self._context.abort(code, details, tuple(trailing_metadata)))
        raise AssertionError("abort returned")  # pragma: no cover

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata."""
        self.wait_for(lambda: self._context.send_initial_metadata(initial_metadata))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call ``callback`` when the handler has ended."""
        self._callbacks.append(callback)
        return True

    def ended(self) -> None:
        """The call is over: touch it no more, and call what was asked to be called back. On the event loop."""
        self._over = True
        for callback in self._callbacks:
            callback()

    def __getattr__(self, name: str) -> Any:
        # the rest keeps values for later, or looks at the deadline, and does not touch the call
        if name in ("set_trailing_metadata", "set_code", "set_details", "code", "details", "trailing_metadata",
                    "set_compression", "disable_next_message_compression", "time_remaining"):  # fmt: skip
            return getattr(self._context, name)
        raise AttributeError(f"the context of a plain function on the asyncio server has no {name}")


class PlainRequests:
    """A stream of requests, for a plain function in a thread: each message is read on the event loop."""

    def __init__(self, read: Callable[[], Any], plain: PlainContext) -> None:
        self._read = read
        self._plain = plain

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = self._plain.wait_for(self._read)
        if message is grpc.aio.EOF:
            raise StopIteration
        return message

    def next(self) -> Any:
        """The next message, as gRPC's own request iterator spells it."""
        return self.__next__()


def as_coroutine(behaviour: Any, pool: Executor | None, *, streaming: bool) -> Any:
    """``behaviour``, a plain function with one response, as a coroutine with the same arguments.

    Args:
        behaviour: the handler.
        pool: where it runs; None: in the event loop's own.
        streaming: it takes a stream of requests.
    """

    async def handle(request: Any, context: Any) -> Any:
        loop = asyncio.get_running_loop()
        plain = PlainContext(context, loop)
        argument = PlainRequests(context.read, plain) if streaming else request
        try:
            return await loop.run_in_executor(pool, contextvars.copy_context().run, behaviour, argument, plain)
        finally:
            plain.ended()

    return handle


def as_generator(behaviour: Any, pool: Executor | None, *, streaming: bool) -> Any:
    """``behaviour``, a plain function with a stream of responses, as an asynchronous generator; see above."""

    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        plain = PlainContext(context, loop)
        argument = PlainRequests(context.read, plain) if streaming else request
        values = contextvars.copy_context()
        try:
            responses = await loop.run_in_executor(pool, values.run, lambda: iter(behaviour(argument, plain)))
            while (response := await loop.run_in_executor(pool, values.run, lambda: next(responses, _END))) is not _END:
                yield response
        finally:
            plain.ended()

    return handle
