"""Https: gets small documents from key servers, with a bound on everything that a server could draw out."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from authz.authn.subject import is_visible
from authz.errors import KeyFileError

_CHUNK: Final = 64 * 1024


class FetchError(Exception):
    """A document could not be had; the text says why, for operators."""


@dataclass(frozen=True, slots=True)
class Document:
    """An answer of a key server.

    Attributes:
        body: the document; None: it has not changed.
        etag, modified: to ask with next time.
    """

    body: bytes | None
    etag: str = ""
    modified: str = ""


def check_url(url: str, *, insecure: bool) -> SplitResult:
    """The parts of ``url``.

    Raises:
        ValueError: it is not https (http is taken for a loopback address, or if ``insecure``), or has a user, a
            password or a fragment, or no host.
    """
    if not url.isascii() or not is_visible(url) or " " in url:
        raise ValueError("has a character that an address cannot have")
    parts = urlsplit(url)
    _ = parts.port  # raises for one that is not a port
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("is not https://host/path")
    if parts.scheme != "https" and not (parts.scheme == "http" and (insecure or _is_loopback(parts.hostname))):
        raise ValueError("is not https")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Https:
    """Gets documents. No redirect is followed, no proxy asked, no cookie kept.

    Args:
        ca_file: the authorities that may vouch for the servers, in PEM; None: the system's.
        timeout: seconds for the whole of one exchange, however slowly the server speaks.
        max_bytes: longer documents are refused.
        insecure: whether http is taken for any host, not only for loopback addresses.

    Raises:
        KeyFileError: ``ca_file`` cannot be used.
    """

    def __init__(self, *, ca_file: Path | None, timeout: float, max_bytes: int, insecure: bool = False) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._insecure = insecure
        try:
            self._context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except (OSError, ssl.SSLError) as exc:
            raise KeyFileError.at(ca_file or "", f"is not certificates in PEM: {exc.strerror}") from None

    def get(self, url: str, known: Document | None = None) -> Document:
        """Get the document at ``url``, unless it is still the one that was ``known``.

        Raises:
            FetchError: it could not be had.
        """
        try:
            parts = check_url(url, insecure=self._insecure)
        except ValueError as exc:
            raise FetchError(f"the address {url[:255]!r} {exc}") from None
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        # A timeout of a socket is for each reading; a server that sends a byte now and then would hold us for ever.
        done = threading.Event()
        threading.Thread(target=_cut, args=(connection, self._timeout, done), daemon=True).start()
        began = time.monotonic()
        try:
            document = self._exchange(connection, parts._replace(scheme="", netloc="").geturl() or "/", known)
            if time.monotonic() - began >= self._timeout:
                # what was cut off may look like an answer that has ended
                raise FetchError(f"the answer took longer than {self._timeout:g} s")
            return document
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise FetchError(f"{url}: {type(exc).__name__}: {str(exc)[:200]!r}") from None
        except FetchError as exc:
            raise FetchError(f"{url}: {exc}") from None
        finally:
            done.set()
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, path: str, known: Document | None) -> Document:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "grpc-authz"}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status == 304 and known is not None:
            return Document(None, known.etag, known.modified)
        if response.status != 200:
            raise FetchError(f"the answer was {response.status}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise FetchError("the answer is compressed")
        body = bytearray()
        while chunk := response.read(min(_CHUNK, self._max_bytes + 1 - len(body))):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchError(f"the answer is larger than {self._max_bytes} bytes")
        if response.length:
            raise FetchError("the answer ended before its end")
        return Document(bytes(body), response.getheader("ETag", ""), response.getheader("Last-Modified", ""))


def _cut(connection: http.client.HTTPConnection, timeout: float, done: threading.Event) -> None:
    """Break the connection off, again and again if need be, unless the exchange is done in time."""
    if done.wait(timeout):
        return
    while not done.wait(0.05):
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
