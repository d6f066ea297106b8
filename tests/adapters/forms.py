"""Every form that a handler can have on the two servers, each noting that it ran, for whom, and what it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

import authz
from authz.engine import Engine
from examples.orders import orders_pb2 as pb
from examples.orders.keys import Keys
from tests.adapters.orders import async_port, records, sync_port

SERVICE = "example.orders.v1.Orders"
UNARY, RESPONSES, REQUESTS, BOTH = "GetOrder", "ListOrders", "ImportOrders", "TrackOrders"
KINDS = (UNARY, RESPONSES, REQUESTS, BOTH)
Message = pb.TrackOrdersRequest  # the same fields as the other requests: namespace = 1, id = 2
Behaviours = dict[str, Callable[..., Any]]


class Ran(list[str]):
    """Which handlers ran, and for whom; and each message that one was given."""

    def note(self, what: str) -> None:
        principal = authz.current().principal
        assert principal is not None
        self.append(f"{what} for {principal.id}")


def sync_behaviours(ran: Ran) -> Behaviours:
    """Plain functions and generators."""

    def unary(request: Any, context: Any) -> Any:
        ran.note("unary")
        return pb.Order(id=request.id)

    def responses(request: Any, context: Any) -> Iterator[Any]:
        ran.note("responses")
        yield pb.Order(id=request.id)

    def requests(iterator: Iterator[Any], context: Any) -> Any:
        ran.note("requests")
        ids = []
        for request in iterator:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    def both(iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        ran.note("both")
        for request in iterator:
            ran.note(f"message {request.namespace}")
            yield pb.Order(id=request.id)

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


def iterator_behaviours(ran: Ran) -> Behaviours:
    """Plain functions that return an iterator, and use ``next()`` as gRPC's own request iterator has it."""

    def responses(request: Any, context: Any) -> Iterator[Any]:
        ran.note("responses")
        return iter([pb.Order(id=request.id)])

    def both(iterator: Any, context: Any) -> Iterator[Any]:
        ran.note("both")

        def replies() -> Iterator[Any]:
            while True:
                try:
                    request = iterator.next()
                except StopIteration:
                    return
                ran.note(f"message {request.namespace}")
                yield pb.Order(id=request.id)

        return replies()

    return {**sync_behaviours(ran), RESPONSES: responses, BOTH: both}


def calling_back_behaviours(ran: Ran) -> Behaviours:
    """Responses through a callback, without holding a thread (``experimental_non_blocking``)."""

    def responses(request: Any, context: Any, send: Any) -> None:
        ran.note("responses")
        send(pb.Order(id=request.id))
        send(None)

    def both(iterator: Iterator[Any], context: Any, send: Any) -> None:
        ran.note("both")
        for request in iterator:
            ran.note(f"message {request.namespace}")
            send(pb.Order(id=request.id))
        send(None)

    for behaviour in (responses, both):
        vars(behaviour)["experimental_non_blocking"] = True
    return {**sync_behaviours(ran), RESPONSES: responses, BOTH: both}


def async_behaviours(ran: Ran) -> Behaviours:
    """Coroutines and asynchronous generators."""

    async def unary(request: Any, context: Any) -> Any:
        ran.note("unary")
        return pb.Order(id=request.id)

    async def responses(request: Any, context: Any) -> AsyncIterator[Any]:
        ran.note("responses")
        yield pb.Order(id=request.id)

    async def requests(iterator: AsyncIterator[Any], context: Any) -> Any:
        ran.note("requests")
        ids = []
        async for request in iterator:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    async def both(iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        ran.note("both")
        async for request in iterator:
            ran.note(f"message {request.namespace}")
            yield pb.Order(id=request.id)

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


def read_write_behaviours(ran: Ran) -> Behaviours:
    """Coroutines that use ``context.read`` and ``context.write`` and never look at the request iterator."""

    async def responses(request: Any, context: Any) -> None:
        ran.note("responses")
        await context.write(pb.Order(id=request.id))

    async def requests(iterator: Any, context: Any) -> Any:
        ran.note("requests")
        ids = []
        while (request := await context.read()) is not grpc.aio.EOF:
            ran.note(f"message {request.namespace}")
            ids.append(request.id)
        return pb.Order(id=",".join(ids))

    async def both(iterator: Any, context: Any) -> None:
        ran.note("both")
        while (request := await context.read()) is not grpc.aio.EOF:
            ran.note(f"message {request.namespace}")
            await context.write(pb.Order(id=request.id))

    return {**async_behaviours(ran), RESPONSES: responses, REQUESTS: requests, BOTH: both}


class BareHandler:
    """A handler that is no named tuple: it has the attributes and nothing else, not even ``_replace``."""

    def __init__(self, handler: Any) -> None:
        for name in ("request_streaming", "response_streaming", "request_deserializer", "response_serializer"):
            setattr(self, name, getattr(handler, name))
        for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            setattr(self, name, getattr(handler, name))


class BareService(grpc.GenericRpcHandler):
    """A generic handler that makes a :class:`BareHandler` for each call."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self._methods = methods

    def service(self, handler_call_details: Any) -> Any:
        handler = self._methods.get(handler_call_details.method.rpartition("/")[2])
        return None if handler is None else BareHandler(handler)


def methods(behaviours: Behaviours) -> dict[str, Any]:
    """A gRPC handler for each behaviour, and for some methods that are odd."""
    wrap = {
        UNARY: grpc.unary_unary_rpc_method_handler,
        RESPONSES: grpc.unary_stream_rpc_method_handler,
        REQUESTS: grpc.stream_unary_rpc_method_handler,
        BOTH: grpc.stream_stream_rpc_method_handler,
    }
    made = {name: wrap[name](f, Message.FromString, pb.Order.SerializeToString) for name, f in behaviours.items()}
    # in the catalogue as cluster scope, and not in it at all
    made["ListNamespaces"] = wrap[UNARY](behaviours[UNARY], Message.FromString, pb.Order.SerializeToString)
    made["Unlisted"] = wrap[UNARY](behaviours[UNARY], Message.FromString, pb.Order.SerializeToString)
    # raw bytes: a namespace cannot be read from them
    made["CreateOrder"] = wrap[UNARY](behaviours[UNARY])
    return made


def generic(behaviours: Behaviours) -> tuple[Any, ...]:
    """As ``method_handlers_generic_handler`` makes them."""
    return (grpc.method_handlers_generic_handler(SERVICE, methods(behaviours)),)


def bare(behaviours: Behaviours) -> tuple[Any, ...]:
    """Handlers without ``_replace``, of a generic handler of a user's own."""
    return (BareService(methods(behaviours)),)


@dataclass(frozen=True)
class Form:
    """A server, the form of its handlers, and how they are put into the server."""

    serve: Callable[..., AbstractContextManager[int]]
    behaviours: Callable[[Ran], Behaviours]
    handlers: Callable[[Behaviours], tuple[Any, ...]] = generic
    registered: bool = False

    def serving(self, engine: Engine, ran: Ran) -> AbstractContextManager[int]:
        """The server, while the block runs: its port."""
        behaviours = self.behaviours(ran)
        registered = {SERVICE: methods(behaviours)} if self.registered else {}
        return self.serve(engine, *(() if registered else self.handlers(behaviours)), registered=registered)


FORMS = {
    "sync": Form(sync_port, sync_behaviours),
    "sync registered": Form(sync_port, sync_behaviours, registered=True),
    "sync iterators": Form(sync_port, iterator_behaviours),
    "sync callbacks": Form(sync_port, calling_back_behaviours),
    "sync bare handlers": Form(sync_port, sync_behaviours, bare),
    "aio": Form(async_port, async_behaviours),
    "aio registered": Form(async_port, async_behaviours, registered=True),
    "aio read and write": Form(async_port, read_write_behaviours),
    "aio plain functions": Form(async_port, sync_behaviours),
    "aio bare handlers": Form(async_port, async_behaviours, bare),
}


@dataclass
class Server:
    """A running server, and how to call it."""

    port: int
    ran: Ran
    keys: Keys
    folder: Path
    engine: Engine

    def call(self, method: str, *namespaces: str, metadata: Any = (), raw: bytes | None = None) -> Any:
        """(Code, ids of the replies, details, trailers) of one call with a message for each of ``namespaces``."""
        messages = [Message(namespace=name, id=f"{number}") for number, name in enumerate(namespaces)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            kind = {REQUESTS: channel.stream_unary, RESPONSES: channel.unary_stream, BOTH: channel.stream_stream}.get(
                method, channel.unary_unary
            )
            serialize = None if raw is not None else Message.SerializeToString
            stub = kind(f"/{SERVICE}/{method}", serialize, pb.Order.FromString)
            argument: Any = iter(messages) if method in (REQUESTS, BOTH) else raw if raw is not None else messages[0]
            try:
                if method in (RESPONSES, BOTH):
                    reply = stub(argument, metadata=metadata, timeout=10)
                    ids = [order.id for order in reply]
                else:
                    order, reply = stub.with_call(argument, metadata=metadata, timeout=10)
                    ids = [order.id]
            except grpc.RpcError as error:
                reply, ids = error, []
            return reply.code().name, ids, reply.details(), dict(reply.trailing_metadata() or ())

    def token(self, **claims: Any) -> list[tuple[str, str]]:
        """Metadata with a token of these claims."""
        return [("authorization", f"Bearer {self.keys.rsa.mint(**claims)}")]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The audit records so far."""
        return records(self.folder)
