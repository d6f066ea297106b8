"""Body: the gRPC messages in the body that Envoy packed into its question, each with its five bytes of framing.

What is not there whole, or was packed in a way that the server behind might read otherwise, is not read at all.
"""

from __future__ import annotations

import zlib
from typing import Final

_FRAME: Final = 5
_MESSAGES_LIMIT: Final = 10_000
# gzip with its header, and zlib's format, which is what gRPC means by deflate
_WINDOWS: Final = {"gzip": 31, "deflate": 15}


class BodyError(Exception):
    """The body cannot be read; the text says why, for operators."""


def messages(body: bytes, encoding: str, limit: int, *, truncated: bool = False) -> list[bytes]:
    """The messages in ``body``, decompressed.

    Args:
        body: as it went over the wire.
        encoding: the request's ``grpc-encoding``; empty: none.
        limit: bytes of all messages together, after decompression.
        truncated: whether the body may end in the middle of a message, which is left out then.

    Raises:
        BodyError: there is no whole message, or one that cannot be read.
    """
    found: list[bytes] = []
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at + 1 : at + _FRAME], "big")
        end = at + _FRAME + size
        if len(body) - at < _FRAME or end > len(body):
            if truncated and found:
                break
            raise BodyError("the body ends before its message does")
        message = body[at + _FRAME : end]
        flag = body[at]
        if flag == 1:
            message = _decompress(message, encoding, limit)
        elif flag != 0:
            raise BodyError(f"the frame of a message has the flag {flag}")
        limit -= len(message)
        if limit < 0 or len(found) >= _MESSAGES_LIMIT:
            raise BodyError("the messages are larger than `max_body_bytes`")
        found.append(message)
        at = end
    if not found:
        raise BodyError("there is no message in the body: does Envoy pack it (`with_request_body`, `pack_as_bytes`)?")
    return found


def _decompress(data: bytes, encoding: str, limit: int) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise BodyError(f"a message is compressed with `{encoding[:32]}`, which is not gzip or deflate")
    reader = zlib.decompressobj(window)
    try:
        message = reader.decompress(data, limit + 1)
    except zlib.error as exc:
        raise BodyError(f"a message does not decompress: {exc}") from None
    if len(message) > limit:
        raise BodyError("the messages are larger than `max_body_bytes`")
    if not reader.eof or reader.unused_data:
        # a second gzip member would be read by some servers and not by others
        raise BodyError("a compressed message does not end where its frame does")
    return message
