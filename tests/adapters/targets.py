"""What a hostile client meets: each server of ours, asked in one way, so that one table is for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth

import authz
from authz.adapters.ext_authz import ExtAuthzServer
from authz.config.serve import load_serve
from examples.orders.keys import Keys
from tests.adapters.behind import echo_behind_proxy, on_a_loop, write_descriptors
from tests.adapters.forms import BOTH, FORMS, SERVICE, UNARY, Message, Ran
from tests.adapters.orders import configure, records
from tests.adapters.raw import RawClient, frame

PATH = f"/{SERVICE}/{UNARY}".encode()
STREAM = f"/{SERVICE}/{BOTH}".encode()
MESSAGE = frame(Message(namespace="acme", id="1").SerializeToString())
Header = tuple[bytes, bytes]
Answer = dict[str, Any] | None
"""Headers and trailers, as :meth:`RawClient.answer` gives them."""


@dataclass
class Target:
    """A server whose callers come over the wire themselves: one with the interceptor, or the proxy.

    Attributes:
        port: of the server.
        reached: notes each handler that ran, or each call that the server behind was given.
    """

    port: int
    keys: Keys
    reached: list[Any]

    wire_path = PATH
    wire_stream = STREAM

    def bearer(self, *permissions: str) -> Header:
        """The header with a token that nobody has seen before."""
        return b"authorization", b"Bearer " + self.keys.rsa.mint(permissions=list(permissions)).encode()

    def ask(self, path: bytes, *headers: Header, body: bytes = MESSAGE, within: float = 5.0) -> Answer:
        """What a request with these headers and this body comes to."""
        with RawClient(self.port) as client:
            stream = client.open(client.headers(path, *headers))
            client.send(stream, body, end=True)
            return client.answer(stream, within)

    def on_the_wire(self, *permissions: str) -> tuple[list[Header], bytes]:
        """What a call that is as it should be has on the wire: headers and a body."""
        return [self.bearer(*permissions)], MESSAGE

    def seen(self) -> list[Any]:
        """What has been let through since :meth:`forget`."""
        return self.reached

    def forget(self) -> None:
        """Begin anew with :meth:`seen`."""
        self.reached.clear()


@dataclass
class BehindEnvoy(Target):
    """The external authorizer: an Envoy tells it what its callers say.

    The hostile client is the caller, or somebody who reaches the authorizer's own port.
    """

    folder: Path

    wire_path = wire_stream = b"/envoy.service.auth.v3.Authorization/Check"
    _forgotten = 0

    def ask(self, path: bytes, *headers: Header, body: bytes = MESSAGE, within: float = 5.0) -> Answer:
        """As an Envoy would ask, with a body that came whole."""
        if any(key != key.lower() for key, _ in headers):
            return {"reset": "Envoy takes no such header over HTTP/2"}
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            check = channel.unary_unary(
                self.wire_path.decode(), auth.CheckRequest.SerializeToString, auth.CheckResponse.FromString
            )
            response = check(_question(path, headers, body), timeout=within)
        allowed = response.status.code == 0 and response.HasField("ok_response")
        return {"grpc-status": "0" if allowed else str(response.status.code or 2)}

    def on_the_wire(self, *permissions: str) -> tuple[list[Header], bytes]:
        """See :class:`Target`."""
        return [], frame(_question(PATH, (self.bearer(*permissions),), MESSAGE).SerializeToString())

    def seen(self) -> list[Any]:
        """See :class:`Target`."""
        return [r for r in records(self.folder)[self._forgotten :] if r["decision"] == "allow"]

    def forget(self) -> None:
        """See :class:`Target`."""
        self._forgotten = len(records(self.folder))


def _question(path: bytes, headers: tuple[Header, ...], body: bytes) -> Any:
    request = auth.CheckRequest()
    http = request.attributes.request.http
    http.method, http.path, http.raw_body = "POST", path.decode("latin-1"), body
    for key, value in (
        (b"content-type", b"application/grpc"),
        (b"x-envoy-auth-partial-body", b"false"),
        *headers,
    ):
        http.header_map.headers.add(key=key.decode(), raw_value=value)
    return request


@contextmanager
def _interceptor(form: str, folder: Path) -> Iterator[Target]:
    # certificates do not count here, so that who shows no token is known to be nobody
    config, keys = configure(folder, certificates=False)
    ran = Ran()
    with authz.load_config(config) as engine, FORMS[form].serving(engine, ran) as port:
        yield Target(port, keys, ran)


@contextmanager
def _proxy(folder: Path) -> Iterator[Target]:
    with echo_behind_proxy(folder) as front:
        yield Target(front.ports[0], front.keys, front.heard.metadata)


@contextmanager
def _ext_authz(folder: Path) -> Iterator[Target]:
    config, keys = configure(folder)
    write_descriptors(folder / "orders.binpb")
    listening = 'listen: [{address: "127.0.0.1:0", plaintext: true}]'
    config.write_text(f"{config.read_text()}\nserve: {{ext_authz: {{{listening}, descriptors: [orders.binpb]}}}}\n")
    settings = load_serve(config).ext_authz
    assert settings is not None
    with ExitStack() as stack:
        engine = stack.enter_context(authz.load_config(config))
        server = ExtAuthzServer(engine, settings)
        (port,) = stack.enter_context(on_a_loop(server.start, lambda: server.stop(0)))
        yield BehindEnvoy(port, keys, [], folder)


TARGETS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "grpc.server": partial(_interceptor, "sync"),
    "grpc.aio.server": partial(_interceptor, "aio"),
    "grpc.aio.server, plain functions": partial(_interceptor, "aio plain functions"),
    "proxy": _proxy,
    "ext-authz": _ext_authz,
}
