"""A server in another language (Node, @grpc/grpc-js) behind the proxy: all four kinds, its trailers and its errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from tests.adapters.behind import Front, Heard, proxy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def missing(message: str) -> Any:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The Node server: its port."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        missing("there is no Node on this machine: apt install nodejs npm")
    assert program is not None
    assert npm is not None
    if not (HERE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        done = subprocess.run(install, cwd=HERE, capture_output=True, text=True, timeout=100)
        if done.returncode:
            missing(f"the packages of tests/node/package.json cannot be installed: {done.stderr[-2000:]}")
    log = tmp_path_factory.mktemp("node") / "log"
    with log.open("wb") as file:
        server = subprocess.Popen([program, "server.js", str(ROOT)], cwd=HERE, stdout=subprocess.PIPE, stderr=file)
    assert server.stdout is not None
    line = server.stdout.readline()
    try:
        assert line.strip().isdigit(), log.read_text()
        yield int(line)
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


@pytest.fixture(scope="module")
def front(node: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with proxy(tmp_path_factory.mktemp("front"), node, Heard()) as running:
        yield running


@pytest.fixture
def stub(front: Front) -> Iterator[rpc.OrdersStub]:
    with front.channel() as channel:
        yield rpc.OrdersStub(channel)


def test_all_four_kinds(front: Front, stub: rpc.OrdersStub) -> None:
    token = front.token(sub="walt", permissions=["acme:write"])
    forged = [*token, ("x-authz-principal", "root")]
    found, call = stub.GetOrder.with_call(pb.GetOrderRequest(namespace="acme", id="7"), metadata=forged, timeout=10)
    assert (found.id, found.placed_by) == ("7", "user:staff:walt")
    assert dict(call.trailing_metadata())["x-trailer"] == "last"
    listed = list(stub.ListOrders(pb.ListOrdersRequest(namespace="acme"), metadata=token, timeout=10))
    assert [order.id for order in listed] == [str(number) for number in range(50)]
    imports = (pb.ImportOrdersRequest(namespace="acme", item=str(number)) for number in range(20))
    assert stub.ImportOrders(imports, metadata=token, timeout=10).imported == 20
    tracked = (pb.TrackOrdersRequest(namespace="acme", id=str(number)) for number in range(20))
    assert [order.id for order in stub.TrackOrders(tracked, metadata=token, timeout=10)] == [str(n) for n in range(20)]


def test_what_is_refused_does_not_reach_it(front: Front, stub: rpc.OrdersStub) -> None:
    token = front.token(sub="rita", permissions=["acme:read"])
    with pytest.raises(grpc.RpcError) as caught:
        stub.ImportOrders(iter([pb.ImportOrdersRequest(namespace="acme")]), metadata=token, timeout=10)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ListOrders(pb.ListOrdersRequest(namespace="globex"), metadata=token, timeout=10))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_its_errors_pass(front: Front, stub: rpc.OrdersStub) -> None:
    token = front.token(sub="rita", permissions=["acme:read"])
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetOrder(pb.GetOrderRequest(namespace="acme", id="missing"), metadata=token, timeout=10)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no order")
    trailers = dict(caught.value.trailing_metadata())
    assert (trailers["x-why"], trailers["x-why-bin"]) == ("because", b"\x00\xff")
