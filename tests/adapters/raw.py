"""A client that speaks HTTP/2 by hand, so that it can say what no gRPC client says."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

Headers = list[tuple[bytes, bytes]]


def frame(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message as it stands in an HTTP/2 body; ``length``: what it claims to be, if not the truth."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


class RawClient:
    """One connection to a server without TLS.

    Args:
        port: of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        settings = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(settings)
        self._h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def headers(self, path: bytes, *extra: tuple[bytes, bytes]) -> Headers:
        """The headers of a gRPC request."""
        return [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *extra,
        ]

    def open(self, headers: Headers, *, end: bool = False) -> int:
        """Open a stream: its id."""
        stream: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers, end_stream=end)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send some of a body; at most what a stream may hold before the server has said more."""
        size = self._h2.max_outbound_frame_size
        for at in range(0, len(data) - size, size):
            self._h2.send_data(stream, data[at : at + size])
        self._h2.send_data(stream, data[(len(data) - 1) // size * size :] if data else b"", end_stream=end)
        self._flush()

    def reset(self, stream: int) -> None:
        """Abandon a stream."""
        self._h2.reset_stream(stream)
        self._flush()

    def settle(self, **settings: int) -> None:
        """Change the settings of the connection, by their names in HTTP/2, e.g. ``initial_window_size``."""
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()}
        self._h2.update_settings(codes)
        self._flush()

    def ping(self, times: int = 1) -> None:
        """Send some pings, all at once."""
        for _ in range(times):
            self._h2.ping(b"12345678")
        self._flush()

    def write(self, data: bytes) -> None:
        """Send bytes as they are, HTTP/2 or not."""
        self._socket.sendall(data)

    def answer(self, stream: int, within: float = 5.0) -> dict[str, Any] | None:
        """The headers and trailers of the answer, ``{"reset": code}`` or ``{"gone": True}``; None: none in time."""
        found: dict[str, Any] = {}
        until = time.monotonic() + within
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                return None
            except OSError:
                return {"gone": True}
            if not data:
                return {"gone": True}
            try:
                events = self._h2.receive_data(data)
            except h2.exceptions.ProtocolError:
                return {"gone": True}
            try:
                self._flush()
            except OSError:
                return {"gone": True}
            for event in events:
                if isinstance(event, h2.events.ConnectionTerminated):
                    return {"gone": True}
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found |= {name.decode(): value.decode("latin-1") for name, value in event.headers or ()}
                elif isinstance(event, h2.events.StreamReset):
                    return {**found, "reset": event.error_code}
                elif isinstance(event, h2.events.StreamEnded):
                    return found
        return None

    def goodbye(self, within: float = 5.0) -> tuple[int, bytes] | None:
        """The error code and the text with which the server ends the connection; None: it does not, in time."""
        self._socket.settimeout(within)
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65_536):
                for event in self._h2.receive_data(data):
                    if isinstance(event, h2.events.ConnectionTerminated):
                        return int(event.error_code), event.additional_data or b""
        return None

    def close(self) -> None:
        """Hang up, without a word."""
        self._socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
