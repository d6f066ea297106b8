"""The trace context that came with a call is in its record, on both servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest

import authz
from examples.orders import orders_pb2 as pb
from tests.adapters.orders import async_port, configure, records, sync_port

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = ("traceparent", f"00-{TRACE}-{SPAN}-01")


@pytest.mark.parametrize("serve", [sync_port, async_port])
@pytest.mark.parametrize(
    ("metadata", "expected"),
    [([GOOD], (TRACE, SPAN)), ([("traceparent", "00-x-y-z")], ("", "")), ([], ("", ""))],
)
def test_the_callers_span_is_in_the_record(
    serve: Callable[..., AbstractContextManager[int]],
    metadata: list[tuple[str, str]],
    expected: tuple[str, str],
    tmp_path: Path,
) -> None:
    path, _ = configure(tmp_path)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: pb.Order(), pb.GetOrderRequest.FromString)
    handlers = grpc.method_handlers_generic_handler("example.orders.v1.Orders", {"GetOrder": handler})
    with (
        authz.load_config(path) as engine,
        serve(engine, handlers) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        pytest.raises(grpc.RpcError),
    ):
        channel.unary_unary("/example.orders.v1.Orders/GetOrder")(b"", metadata=metadata, timeout=20)
    assert [(record["trace_id"], record["span_id"]) for record in records(tmp_path)] == [expected]
