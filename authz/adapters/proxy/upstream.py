"""Upstream: the connections to the server behind."""

from __future__ import annotations

import itertools
from typing import Any, Final

import grpc

from authz.config.serve import Limits, Upstream

_METHODS_LIMIT: Final = 10_000
_PING_AFTER_MS: Final = 60_000
_DEAD_AFTER_MS: Final = 20_000
_COMPRESSIONS: Final = {"none": None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class Channels:
    """Some HTTP/2 connections to one server, used by turns. Made on the event loop that uses them.

    Args:
        upstream: where, and how to prove and be proven.
        limits: of messages and metadata.
    """

    def __init__(self, upstream: Upstream, limits: Limits) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_metadata_size", limits.metadata_bytes),
            ("grpc.absolute_max_metadata_size", limits.metadata_bytes + limits.metadata_bytes // 4),
            *_keepalive(upstream.keepalive),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.use_local_subchannel_pool", 1),
            # a proxy does what it is asked, once, and takes no advice from the server's DNS records
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        if upstream.server_name:
            options.append(("grpc.ssl_target_name_override", upstream.server_name))
        self._channels = [_channel(upstream, options) for _ in range(upstream.connections)]
        self._turns = itertools.cycle(self._channels)
        self._unary: dict[str, itertools.cycle[Any]] = {}
        self._stream: dict[str, itertools.cycle[Any]] = {}

    def unary(self, method: str) -> Any:
        """What calls ``method`` with one message for one message, as bytes."""
        return next(self._unary.get(method) or self._learn(self._unary, method, "unary_unary"))

    def stream(self, method: str) -> Any:
        """What calls ``method`` with any number of messages for any number of messages, as bytes."""
        return next(self._stream.get(method) or self._learn(self._stream, method, "stream_stream"))

    def _learn(self, known: dict[str, itertools.cycle[Any]], method: str, kind: str) -> itertools.cycle[Any]:
        made = itertools.cycle([getattr(channel, kind)(method) for channel in self._channels])
        if len(known) < _METHODS_LIMIT:
            known[method] = made
        return made

    @property
    def reachable(self) -> bool:
        """Whether any of the connections is up, or was not needed so far."""
        down = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
        return any(channel.get_state(try_to_connect=True) not in down for channel in self._channels)

    async def close(self) -> None:
        """Close the connections; calls under way are cancelled."""
        for channel in self._channels:
            await channel.close(None)


def _keepalive(interval: float) -> list[tuple[str, int]]:
    """Options for an ``interval`` in seconds; 0: what no server takes for abuse."""
    interval_ms = int(interval * 1000) or _PING_AFTER_MS
    timeout_ms = min(interval_ms, _DEAD_AFTER_MS)
    return [
        ("grpc.keepalive_time_ms", interval_ms),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        ("grpc.http2.ping_timeout_ms", timeout_ms),
        # unless it is 0, so many pings are sent on a stream on which the client says nothing more, and then none
        ("grpc.http2.max_pings_without_data", 0 if interval else 2),
    ]


def _channel(upstream: Upstream, options: list[tuple[str, Any]]) -> Any:
    compression = _COMPRESSIONS[upstream.compression]
    if not upstream.tls:
        return grpc.aio.insecure_channel(upstream.address, options, compression=compression)
    identity = upstream.identity
    credentials = grpc.ssl_channel_credentials(
        upstream.ca, identity.key if identity else None, identity.certificate if identity else None
    )
    return grpc.aio.secure_channel(upstream.address, credentials, options, compression=compression)
