"""Listening: a `grpc.aio` server of authz's own: its ports, its limits, its health, and how it ends.

From grpcio 1.84 on, one request whose path is not UTF-8 shuts a `grpc.aio` server down. Such a server is replaced here,
on the same ports, as soon as that is noticed; the calls that it had under way are lost. grpcio 1.83 has not this fault.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from authz.config.serve import Limits, Listener
from authz.errors import ConfigError

_log = logging.getLogger("authz")
_HEALTH: Final = "/grpc.health.v1.Health/"
_SERVING: Final = b"\x08\x01"
_NOT_SERVING: Final = b"\x08\x02"
_WATCH_EVERY: Final = 1.0
_PINGED_EVERY_MS: Final = 5_000
"""Pings of a client that come more often, with nothing between them, are abuse."""
_PING_AFTER_MS: Final = 60_000
_DEAD_AFTER_MS: Final = 20_000
_LOW: Final = 1
"""The compression level that means gzip, where it is accepted."""


class Listening:
    """Serves ``handler`` on ``listeners``, with all of their ports shared with other processes that do the same.

    Args:
        handler: for every RPC.
        listeners: where; a port 0 is chosen once, and kept.
        limits: of connections and calls.
        compress: give compressed replies to clients that accept these.
    """

    def __init__(
        self,
        handler: grpc.GenericRpcHandler,
        listeners: Sequence[Listener],
        limits: Limits,
        *,
        compress: bool = False,
    ) -> None:
        self._handler = handler
        self._listeners = list(listeners)
        self._addresses = [listener.address for listener in listeners]
        self._options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", limits.metadata_bytes),
            ("grpc.absolute_max_metadata_size", limits.metadata_bytes + limits.metadata_bytes // 4),
            ("grpc.max_concurrent_streams", limits.streams),
            ("grpc.max_connection_age_ms", int(limits.connection_age * 1000)),
            ("grpc.max_connection_age_grace_ms", int(limits.connection_age * 1000)),
            # clients in production ping every 10 to 30 seconds, also while nothing is under way
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _PINGED_EVERY_MS),
            ("grpc.keepalive_time_ms", _PING_AFTER_MS),
            ("grpc.keepalive_timeout_ms", _DEAD_AFTER_MS),
            # what counts for a ping that is not answered is this one, which is a minute unless it is told
            ("grpc.http2.ping_timeout_ms", _DEAD_AFTER_MS),
            # by level: an algorithm of our choice would be used for clients that cannot read it
            *([("grpc.default_compression_level", _LOW)] if compress else []),
        ]
        self._calls = limits.calls
        self._server: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def start(self) -> list[int]:
        """Begin to serve; the ports.

        Raises:
            ConfigError: an address cannot be used.
        """
        ports = await self._serve()
        self._addresses = [
            f"{address.rpartition(':')[0]}:{port}" for address, port in zip(self._addresses, ports, strict=True)
        ]
        self._watch = asyncio.create_task(self._keep_serving())
        return ports

    async def _serve(self) -> list[int]:
        server = grpc.aio.server(options=self._options, maximum_concurrent_rpcs=self._calls)
        server.add_generic_rpc_handlers((self._handler,))
        ports = [
            _add_port(server, listener, address)
            for listener, address in zip(self._listeners, self._addresses, strict=True)
        ]
        await server.start()
        self._server = server
        return ports

    async def _keep_serving(self) -> None:
        while not self._ending.is_set():
            why = ""
            try:
                await self._server.wait_for_termination()
            except asyncio.CancelledError:
                raise
            except Exception as exc:  # what ended the server: an exception of its main loop
                why = type(exc).__name__
            if self._ending.is_set():
                return
            _log.error("the server was shut down by a request (%s), and is started again; grpcio<1.84 is not", why)
            self._server = None
            try:
                await self._serve()
            except ConfigError:
                _log.exception("the server could not be started again")
                raise SystemExit(1) from None

    async def stop(self, grace: float) -> None:
        """Take no more calls; those under way have ``grace`` seconds."""
        self._ending.set()
        if self._server is not None:
            await self._server.stop(grace)
        if self._watch is not None:
            self._watch.cancel()


def _add_port(server: Any, listener: Listener, address: str) -> int:
    try:
        if listener.identity is None:
            return int(server.add_insecure_port(address))
        credentials = grpc.ssl_server_credentials(
            [(listener.identity.key, listener.identity.certificate)],
            root_certificates=listener.client_ca,
            require_client_auth=listener.client_ca is not None,
        )
        return int(server.add_secure_port(address, credentials))
    except RuntimeError:
        remedy = "name an address of this machine on which nothing else listens, and a certificate with its key"
        raise ConfigError.at("serve", f"cannot listen on {listener.address}", remedy) from None


class Health(grpc.GenericRpcHandler):
    """Answers the gRPC health protocol for this process, whatever service is asked about.

    Args:
        healthy: whether calls can be served.
    """

    def __init__(self, healthy: Callable[[], bool]) -> None:
        self._healthy = healthy
        self.draining = False

    def _status(self) -> bytes:
        return _SERVING if self._healthy() and not self.draining else _NOT_SERVING

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See :class:`grpc.GenericRpcHandler`."""
        if handler_call_details.method == f"{_HEALTH}Check":

            async def check(*_: Any) -> bytes:
                return self._status()

            return grpc.unary_unary_rpc_method_handler(check)
        if handler_call_details.method == f"{_HEALTH}Watch":

            async def watch(_: bytes, context: Any) -> None:
                last = b""
                while True:
                    if (status := self._status()) != last:
                        await context.write(last := status)
                    await asyncio.sleep(_WATCH_EVERY)

            return grpc.unary_stream_rpc_method_handler(watch)
        return None
