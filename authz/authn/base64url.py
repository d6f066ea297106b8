"""Base64url without padding, where each sequence of bytes has exactly one spelling."""

from __future__ import annotations

import binascii

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", b"", b"==", b"=")


def decode(text: bytes) -> bytes:
    """The bytes that ``text`` spells (RFC 7515, section 2).

    Raises:
        ValueError: padding, a foreign character, an impossible length, or bits that are left over and not zero.
    """
    length = len(text) % 4
    if length == 1:
        raise ValueError("is not base64url")
    try:
        data = binascii.a2b_base64(text.translate(_TO_STANDARD) + _PADDING[length])
    except binascii.Error:
        raise ValueError("is not base64url") from None
    # The decoder skips characters that it does not know and bits that are left over; writing the bytes out again shows
    # both, and finds the one spelling that is right.
    if encode(data) != text:
        raise ValueError("is not base64url in its one right spelling")
    return data


def encode(data: bytes) -> bytes:
    """The one spelling of ``data``."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")
