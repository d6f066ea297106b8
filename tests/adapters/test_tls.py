"""TLS files that change while a server runs: real handshakes with both of gRPC's servers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from authz.adapters.tls import Options, connection_age, server_credentials
from authz.authn.key_files import read_bytes
from authz.errors import KeyFileError
from authz.testing import CertificateAuthority, IssuedCertificate

METHOD = "/shop.Orders/Get"
SERVERS, ALICES, BOBS = CertificateAuthority("Servers"), CertificateAuthority("Alices"), CertificateAuthority("Bobs")
ALICE, BOB = ALICES.issue_client("alice"), BOBS.issue_client("bob")


class Folder:
    """The three files, and ways to change them."""

    def __init__(self, path: Path) -> None:
        self.certificate, self.key, self.clients = path / "server.pem", path / "server.key", path / "clients.pem"
        self.issued = self.renew()
        self.trust(ALICES, BOBS)

    def renew(self) -> IssuedCertificate:
        self.issued = SERVERS.issue_server()
        replace(self.certificate, self.issued.certificate)
        replace(self.key, self.issued.key)
        return self.issued

    def trust(self, *authorities: CertificateAuthority) -> None:
        replace(self.clients, b"".join(authority.pem for authority in authorities))

    def credentials(self, clients: bool = True) -> Any:
        return server_credentials(self.certificate, self.key, self.clients if clients else None)


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@contextmanager
def sync_server(credentials: Any, options: Options | None = None) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", {"Get": handler}),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def async_server(credentials: Any, options: Options | None = None) -> Iterator[int]:
    ready, stop = threading.Event(), threading.Event()
    ports: list[int] = []

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    async def run() -> None:
        server = grpc.aio.server(options=options)
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", {"Get": handler}),))
        ports.append(server.add_secure_port("127.0.0.1:0", credentials))
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield ports[0]
    finally:
        stop.set()
        thread.join(20)


Serve = Callable[..., AbstractContextManager[int]]
both_servers = pytest.mark.parametrize("serve", [sync_server, async_server])


def channel(port: int, client: IssuedCertificate) -> Any:
    credentials = grpc.ssl_channel_credentials(SERVERS.pem, client.key, client.certificate)
    # a pool of its own, or a new channel goes on with an old connection
    return grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


def call(on: Any) -> str:
    try:
        on.unary_unary(METHOD)(b"", timeout=20)
    except grpc.RpcError as exc:
        return str(exc.code().name)
    return "OK"


def answers(port: int, client: IssuedCertificate) -> str:
    """What a client gets on a new connection."""
    with channel(port, client) as fresh:
        return call(fresh)


def shown(port: int) -> int:
    """The serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cadata=SERVERS.pem.decode())
    with (
        socket.create_connection(("localhost", port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        der = secure.getpeercert(True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@both_servers
def test_a_new_certificate_is_shown_on_the_next_connection(serve: Serve, folder: Folder) -> None:
    with serve(folder.credentials(clients=False)) as port:
        assert shown(port) == folder.issued.x509.serial_number
        renewed = folder.renew().x509.serial_number
        assert shown(port) == renewed
        assert answers(port, ALICE) == "OK"


@both_servers
def test_a_removed_ca_lets_nobody_connect_and_an_added_one_does(serve: Serve, folder: Folder) -> None:
    with serve(folder.credentials()) as port:
        assert (answers(port, ALICE), answers(port, BOB)) == ("OK", "OK")
        folder.trust(ALICES)
        assert (answers(port, ALICE), answers(port, BOB)) == ("OK", "UNAVAILABLE")
        folder.trust(BOBS)
        assert (answers(port, ALICE), answers(port, BOB)) == ("UNAVAILABLE", "OK")


@both_servers
def test_an_open_connection_outlives_its_ca_until_its_age_ends_it(serve: Serve, folder: Folder) -> None:
    with serve(folder.credentials()) as port, closing(channel(port, BOB)) as open_one:
        assert call(open_one) == "OK"
        folder.trust(ALICES)
        # nothing verifies it again: this is what an age is for
        assert call(open_one) == "OK"
    folder.trust(ALICES, BOBS)
    with serve(folder.credentials(), connection_age(1.0, 1.0)) as port, closing(channel(port, BOB)) as open_one:
        assert call(open_one) == "OK"
        folder.trust(ALICES)
        give_up = time.monotonic() + 30
        while call(open_one) == "OK":
            assert time.monotonic() < give_up, "the connection is still open"
            time.sleep(0.05)
        with closing(channel(port, ALICE)) as alice:
            for _ in range(30):
                assert call(alice) == "OK"
                time.sleep(0.05)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_from_before_does_not_get_past_a_removed_ca(version: ssl.TLSVersion, folder: Folder) -> None:
    context = ssl.create_default_context(cadata=SERVERS.pem.decode())
    bob = folder.key.with_name("bob.pem")
    bob.write_bytes(BOB.certificate + BOB.key)
    context.load_cert_chain(bob)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = version

    def connect(port: int, session: ssl.SSLSession | None) -> tuple[bytes, bool | None, ssl.SSLSession | None]:
        """What the server says first, and the session: whether it was resumed, and how to go on with it."""
        with (
            socket.create_connection(("localhost", port), 20) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            return secure.recv(9), secure.session_reused, secure.session

    with sync_server(folder.credentials()) as port:
        said, _, session = connect(port, None)
        assert said
        said, resumed, session = connect(port, session)
        assert said
        assert resumed
        folder.trust(ALICES)
        try:
            said, resumed, _ = connect(port, session)
        except OSError:
            said, resumed = b"", False
        assert not said
        assert not resumed


def test_each_port_needs_credentials_of_its_own(folder: Folder) -> None:
    """What one port was told of a change, another would never hear; gRPC says so at the start."""
    server, credentials = grpc.server(futures.ThreadPoolExecutor(1)), folder.credentials()
    server.add_secure_port("127.0.0.1:0", credentials)
    with pytest.raises(RuntimeError, match="Failed to bind"):
        server.add_secure_port("127.0.0.1:0", credentials)
    server.add_secure_port("127.0.0.1:0", folder.credentials())


HALVES: list[tuple[str, Callable[[Folder], object], str]] = [
    ("a key that does not fit yet", lambda f: replace(f.key, SERVERS.issue_server().key), "is not the key of the cert"),
    ("a key cut off", lambda f: replace(f.key, f.issued.key[:60]), "has no key that can be used"),
    ("a certificate cut off", lambda f: replace(f.certificate, f.issued.certificate[:99]), "has no certificate that"),
    ("an empty file", lambda f: replace(f.clients, b""), "is not certificates in PEM"),
    ("a leaf as a CA", lambda f: replace(f.clients, ALICE.certificate), "is not an authority's"),
    ("no file", lambda f: f.certificate.unlink(), "cannot be read: No such file"),
    ("too large", lambda f: replace(f.clients, b"\n" * 2_000_000), "is larger than"),
]


@pytest.mark.parametrize(("change", "message"), [pytest.param(*half[1:], id=half[0]) for half in HALVES])
def test_files_that_cannot_be_used_are_left_alone_until_they_can(
    folder: Folder, change: Callable[[Folder], object], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sync_server(folder.credentials()) as port:
        serial = folder.issued.x509.serial_number
        change(folder)
        with caplog.at_level(logging.ERROR, "authz.tls"):
            assert [answers(port, ALICE) for _ in range(2)] == ["OK", "OK"]
        assert [message in record.getMessage() for record in caplog.records] == [True]
        folder.renew()
        folder.trust(BOBS)
        assert (answers(port, ALICE), answers(port, BOB)) == ("UNAVAILABLE", "OK")
        assert folder.issued.x509.serial_number != serial


@pytest.mark.parametrize(("change", "message"), [pytest.param(*half[1:], id=half[0]) for half in HALVES])
def test_files_that_cannot_be_used_at_start_are_refused(
    folder: Folder, change: Callable[[Folder], object], message: str
) -> None:
    change(folder)
    with pytest.raises(KeyFileError, match=message):
        folder.credentials()


def test_a_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    link = tmp_path / "current"
    link.symlink_to("old")
    with sync_server(server_credentials(link / "server.pem", link / "server.key")) as port:
        assert shown(port) == old.issued.x509.serial_number
        (tmp_path / "next").symlink_to("new")
        os.replace(tmp_path / "next", link)  # noqa: PTH105
        assert shown(port) == new.issued.x509.serial_number


def test_files_that_change_while_they_are_read_are_read_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with sync_server(folder.credentials(clients=False)) as port:
        folder.renew()
        changes = [1]

        def slowly(path: Path, limit: int) -> bytes:
            data = read_bytes(path, limit)
            if changes.pop() if changes else 0:
                os.utime(folder.certificate, ns=(1, 1))
            return data

        monkeypatch.setattr("authz.adapters.tls.read_bytes", slowly)
        before = shown(port)
        assert "changed while it was being read" in caplog.text
        assert before != folder.issued.x509.serial_number
        assert shown(port) == folder.issued.x509.serial_number


INFINITE = float("inf")
BOUNDLESS = [(0, 30), (0.5, 30), (-1, 30), (60, 0), (INFINITE, 1), (60, INFINITE), (float("nan"), 1)]


@pytest.mark.parametrize(("seconds", "grace"), BOUNDLESS)
def test_an_age_that_bounds_nothing_is_refused(seconds: float, grace: float) -> None:
    with pytest.raises(ValueError, match="bounds nothing"):
        connection_age(seconds, grace)


def test_the_options_of_an_age() -> None:
    assert connection_age() == [("grpc.max_connection_age_ms", 600_000), ("grpc.max_connection_age_grace_ms", 30_000)]
