"""TLS for servers: certificate, key and client CAs from files that may be replaced while the server runs.

credentials = server_credentials(Path("server.pem"), Path("server.key"), client_ca=Path("clients.pem"))
server = grpc.server(pool, interceptors=[...], options=connection_age(600.0))
server.add_secure_port("0.0.0.0:443", credentials)

Works on ``grpc.server`` and on ``grpc.aio.server`` alike. gRPC asks for the files with each new connection, so what
they say now holds for the next handshake. A connection that is open is never verified again: what bounds the time for
which a removed CA still counts is :func:`connection_age`.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from authz.authn.authority_files import read_authority_file
from authz.authn.key_files import read_bytes
from authz.errors import KeyFileError

Options: TypeAlias = list[tuple[str, int]]

_log = logging.getLogger("authz.tls")
_BYTES_LIMIT: Final = 1024 * 1024
_LEAST_AGE: Final = 1.0
_PUBLIC: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def connection_age(seconds: float = 600.0, grace: float = 30.0) -> Options:
    """Options for a server that ends each connection, so that its client has to prove itself anew.

    A client is told to go, connects again, and goes through a handshake with the files of that time; a good client's
    calls notice nothing. The age differs by up to a tenth between connections, so that they do not all end at once.

    Args:
        seconds: how old a connection may become, at least 1.
        grace: seconds that the calls under way then have to end; a longer stream is cut off.

    Raises:
        ValueError: an age or a grace that bounds nothing.
    """
    if not seconds >= _LEAST_AGE or not grace > 0 or seconds == float("inf") or grace == float("inf"):
        raise ValueError(f"an age of {seconds} s with a grace of {grace} s bounds nothing; write e.g. 600 and 30")
    return [
        ("grpc.max_connection_age_ms", int(seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", max(int(grace * 1000), 1)),
    ]


def server_credentials(certificate: Path, key: Path, client_ca: Path | None = None) -> Any:
    """Credentials for a server's port that follow their files.

    The files are looked at with each new connection. Files that do not fit together, as when one of two has been
    replaced, are left alone until they do: the last good ones stay in use, and an error in the log says why.

    Args:
        certificate: the server's certificate with its chain, in PEM.
        key: its private key, in PEM without a password.
        client_ca: the CAs, in PEM, of which a client must show a certificate; None: none is asked for. gRPC in Python
            knows nothing between the two, so callers with tokens alone need a port of their own.

    Returns:
        ``grpc.ServerCredentials``, for ``add_secure_port`` of either server, once: gRPC refuses to open a second port
        with them, so make some for each port.

    Raises:
        KeyFileError: the files cannot be used now.
    """
    files = _Files(certificate, key, client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.newer, require_client_authentication=client_ca is not None
    )


class _Files:
    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._seen: object = None
        self._lock = threading.Lock()

    def read(self) -> Any:
        """The configuration that the files make.

        Raises:
            KeyFileError: naming the file that cannot be used.
        """
        seen = self._signature()
        chain = read_bytes(self._certificate, _BYTES_LIMIT)
        key = read_bytes(self._key, _BYTES_LIMIT)
        self._check(chain, key)
        roots = None
        if self._client_ca is not None:
            read_authority_file(self._client_ca)
            roots = read_bytes(self._client_ca, _BYTES_LIMIT)
        if self._signature() != seen:
            raise KeyFileError.at(self._certificate, "changed while it was being read")
        self._seen = seen
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def newer(self) -> Any:
        """The configuration for the next handshake; None: as before. Called by gRPC, in a thread of its own."""
        with self._lock:
            seen = self._signature()
            if seen == self._seen:
                return None
            try:
                return self.read()
            except KeyFileError as exc:
                # once for each state of the files; the next state is tried again
                self._seen = seen
                _log.error("TLS files refused, the last good ones stay in use: %s", exc)
                return None

    def _signature(self) -> object:
        """What differs whenever a file was changed, or a link to one was swapped."""
        return [_stat(file) for file in (self._certificate, self._key, self._client_ca) if file is not None]

    def _check(self, chain: bytes, key: bytes) -> None:
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0].public_key()
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise KeyFileError.at(self._certificate, f"has no certificate that can be used: {exc}") from None
        try:
            public = load_pem_private_key(key, None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            remedy = "write a private key in PEM, without a password"
            raise KeyFileError.at(self._key, f"has no key that can be used: {exc}", remedy) from None
        if public.public_bytes(*_PUBLIC) != leaf.public_bytes(*_PUBLIC):
            raise KeyFileError.at(self._key, f"is not the key of the certificate in {self._certificate}")


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
