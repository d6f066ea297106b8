"""A call that has ended is not touched again: the races that a real server shows only sometimes, one step at a time."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from authz.adapters.grpc import Guards
from authz.adapters.grpc_aio import AuthorizationInterceptor
from authz.adapters.ongoing import Ongoing
from authz.adapters.plain import PlainContext, PlainRequests
from authz.decision.base import Decision, Effect
from authz.enforcement import Enforcement
from authz.reason import Reason

DENIED = Decision(Effect.DENY, Reason.NO_RULE, None, "", None, None, "id")


class Engine:
    """As much of an engine as an interceptor takes when it is made."""

    enforcement = Enforcement()
    reads_certificates = False


class SyncContext:
    """The state that a sync server keeps of a call."""

    def __init__(self) -> None:
        self._state = SimpleNamespace(condition=threading.Condition(), aborted=True, rpc_errors=[])


@pytest.mark.parametrize("kind", ["returning", "streaming"])
@pytest.mark.parametrize("handler", ["returns", "fails"])
def test_a_handler_whose_call_was_ended_tells_the_server_nothing(kind: str, handler: str) -> None:
    """A second status would keep the server from ever stopping."""
    ongoing = Ongoing(1.0)
    guards = Guards(Engine(), ongoing)  # type: ignore[arg-type]
    admission: Any = Unrefused()

    def behaviour(request: Any, context: Any) -> Any:
        ongoing._calls.clear()  # as it is when the call has been ended from elsewhere
        if handler == "fails":
            raise ValueError("of the handler's own")
        return []

    context = SyncContext()
    make = guards._returning if kind == "returning" else guards._streaming
    guard = make(lambda argument, _: (admission, argument), behaviour)
    with pytest.raises(grpc.RpcError) as raised:
        list(guard("request", context) or ())
    assert raised.value in context._state.rpc_errors, "the server takes it for its own news"
    assert not context._state.aborted


class Unrefused:
    """As much of an admission as a guard takes, of a call that no message was refused in."""

    refused = None

    def refuse_now(self) -> None:
        """Nothing is."""


class AioContext:
    """A context that notes how the call is touched."""

    def __init__(self) -> None:
        self.touched: list[str] = []

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def abort(self, *_: Any) -> None:
        self.touched.append("abort")
        raise RuntimeError("aborted")

    async def read(self) -> Any:
        self.touched.append("read")
        return "message"


async def test_a_plain_function_does_not_touch_a_call_that_is_over() -> None:
    context = AioContext()
    loop = asyncio.get_running_loop()
    plain = PlainContext(context, loop)
    requests = PlainRequests(context.read, plain)
    assert await asyncio.to_thread(next, requests) == "message"
    plain.ended()
    for touch in (lambda: next(requests), lambda: plain.abort(grpc.StatusCode.ABORTED)):
        with pytest.raises(grpc.RpcError):
            await asyncio.to_thread(touch)
    assert context.touched == ["read"]
    assert plain.peer() == "ipv4:127.0.0.1:1", "what was read while the call was there is still there"


@pytest.mark.parametrize("over", [False, True])
async def test_a_call_on_the_asyncio_server_is_ended_only_while_it_is_there(over: bool) -> None:
    interceptor = AuthorizationInterceptor(Engine())  # type: ignore[arg-type]
    context = AioContext()
    task = asyncio.create_task(asyncio.sleep(0 if over else 30))
    await asyncio.sleep(0.01)
    interceptor._end(DENIED, context, task)
    await asyncio.wait([task], timeout=5)
    await asyncio.sleep(0.01)
    assert context.touched == ([] if over else ["abort"])
    assert task.cancelled() is not over
