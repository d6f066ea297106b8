"""Forwarded certificates: what a proxy says of its own caller's certificate (``x-forwarded-client-cert``).

Anybody can write the header, so it counts only from peers that the configuration names; and of what they write only the
certificate itself is taken, which is verified like one that was shown here.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from authz.errors import AuthenticationError
from authz.reason import Reason

LENGTH_LIMIT: Final = 64 * 1024
# One character of a value, or one quoted run of them, in which commas and semicolons mean nothing.
_PAIR: Final = re.compile(r'([A-Za-z]{1,16})=("(?:[^"\\]|\\.)*"|[^",;=\\]*)', re.ASCII | re.DOTALL)
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def read_forwarded(text: str) -> bytes:
    """The certificate, in PEM, in the last element of the header ``text``: the one that the peer itself wrote.

    The elements before it were written by whoever the peer spoke to, and prove nothing.

    Raises:
        AuthenticationError: CREDENTIAL_MALFORMED: the header cannot be read, or its last element has not exactly one
            ``Cert`` with one certificate.
    """
    if len(text) > LENGTH_LIMIT:
        raise _malformed(f"is longer than {LENGTH_LIMIT} characters")
    element: list[tuple[str, str]] = []
    at = 0
    while True:
        pair = _PAIR.match(text, at)
        if pair is None:
            raise _malformed("is not made of key=value pairs")
        element.append((pair[1].lower(), pair[2]))
        at = pair.end()
        if at == len(text):
            break
        if text[at] == ",":
            element = []
        elif text[at] != ";":
            raise _malformed("is not made of key=value pairs")
        at += 1
    shown = [value for key, value in element if key == "cert"]
    if len(shown) != 1:
        raise _malformed(f"has {len(shown)} certificates in its last element; let the proxy forward `Cert`")
    value = re.sub(r"\\(.)", r"\1", shown[0][1:-1]) if shown[0].startswith('"') else shown[0]
    pem = unquote_to_bytes(value)
    if pem.count(_CERTIFICATE) != 1:
        raise _malformed("has a `Cert` that is not one certificate in PEM")
    return pem


def _malformed(detail: str) -> AuthenticationError:
    return AuthenticationError(Reason.CREDENTIAL_MALFORMED, f"the forwarded certificate's header {detail}")
