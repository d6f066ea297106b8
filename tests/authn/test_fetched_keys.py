"""Fetched keys: what is fetched and when, and that no key server can hold, fill or mislead anybody."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from authz.authn.chain import Authentication
from authz.authn.fetched_keys import FetchedKeys, Refresh
from authz.authn.https import Https, check_url
from authz.authn.jwt import TokenAuthenticator
from authz.credentials import BearerToken
from authz.errors import AuthenticationError, KeyFileError
from authz.reason import Reason
from authz.testing import CertificateAuthority, SigningKey, TokenMinter
from tests.authn.key_server import Answer, KeyServer, closed_port, drip, eventually, hang, send
from tests.authn.setting import MINTER, NOW, issuer, refusal

OLD, NEW = SigningKey("ES256", "old"), SigningKey("ES256", "new")
QUICK = Refresh(interval=0.05, max_stale=60.0, cooldown=0.05, timeout=1.0)
LAZY = Refresh(interval=3600.0, max_stale=7200.0, cooldown=0.3, timeout=1.0)


def source(
    server: KeyServer, refresh: Refresh = QUICK, *, discovers: bool = False, max_bytes: int = 65_536
) -> FetchedKeys:
    https = Https(ca_file=None, timeout=refresh.timeout, max_bytes=max_bytes)
    url = None if discovers else server.url + "/jwks"
    return FetchedKeys("corp", https, refresh, jwks_url=url, issuer=server.url)


@contextmanager
def running(keys: FetchedKeys, *, ready: bool = True) -> Iterator[TokenAuthenticator]:
    keys.start()
    try:
        assert keys.ready(5.0 if ready else 0.0) is ready
        yield TokenAuthenticator([issuer(algorithms=frozenset({"ES256"}), keys=keys)])
    finally:
        keys.close()
        keys._thread.join(5)
        assert not keys._thread.is_alive()


def mint(key: SigningKey, **claims: Any) -> str:
    return TokenMinter(key=key).mint(now=NOW, **claims)


def accepts(authenticator: TokenAuthenticator, token: str) -> bool:
    try:
        return authenticator.authenticate(BearerToken(token), NOW) is not None
    except AuthenticationError:
        return False


def test_keys_are_fetched_and_kept_while_they_are_the_same() -> None:
    with KeyServer(OLD) as server:
        keys = source(server)
        with running(keys) as authenticator:
            first = keys.current(NOW)
            principal = authenticator.authenticate(BearerToken(token := mint(OLD)), NOW)
            eventually(lambda: server.unchanged >= 2)
            assert keys.current(NOW) is first
            assert authenticator.authenticate(BearerToken(token), NOW) is principal
            status = keys.status
            assert (status.name, status.keys, status.failures, status.error) == ("corp", 1, 0, "")
            assert status.age is not None
            assert status.age < 5


def test_a_rotation_with_an_overlap_refuses_nobody_and_ends() -> None:
    with KeyServer(OLD) as server, running(source(server)) as authenticator:
        old, new = mint(OLD), mint(NEW)
        assert accepts(authenticator, old)
        assert not accepts(authenticator, new)
        server.keys = [OLD, NEW]
        eventually(lambda: accepts(authenticator, new))
        assert accepts(authenticator, old)
        server.keys = [NEW]
        eventually(lambda: not accepts(authenticator, old))
        assert refusal(authenticator, old) is Reason.TOKEN_KEY_UNKNOWN
        assert accepts(authenticator, new)


def test_discovery() -> None:
    with KeyServer(OLD) as server, running(source(server, discovers=True)) as authenticator:
        assert accepts(authenticator, mint(OLD))
        eventually(lambda: server.count() > 2)
        assert server.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    ("discovery", "error"),
    [
        ({"issuer": "http://127.0.0.1/other"}, "`issuer` in the document is not"),
        ({"issuer": None}, "`issuer` in the document is not"),
        ({"jwks_uri": None}, "`jwks_uri` is not text"),
        ({"jwks_uri": "http://issuer.example/keys"}, "is not https"),
        ({"jwks_uri": "file:///etc/passwd"}, "is not https"),
        ({"jwks_uri": "https://a@b/keys"}, "is not https://host/path"),
        ({"jwks_uri": "http://127.0.0.1:1\r\nX: y/"}, "a character that an address cannot have"),
    ],
)
def test_a_discovery_document_that_misleads_is_not_followed(discovery: dict[str, Any], error: str) -> None:
    with KeyServer(OLD) as server:
        server.discovery = discovery
        keys = source(server, discovers=True)
        with running(keys, ready=False) as authenticator:
            eventually(lambda: error in keys.status.error)
            assert refusal(authenticator, mint(OLD)) is Reason.KEYS_UNAVAILABLE
            assert server.count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example/\u00e9",
        "https://idp.example/a b",
        "https://idp.example/\r\nX:y",
        "https://idp.example/\x7f",
        "https://idp.example:port/",
        "https://idp.example/#a",
        "https://:secret@idp.example/",
        "https:///keys",
        "http://idp.example/",
        "http://127.0.0.1.example/",
        "http://[::2]/",
        "ftp://127.0.0.1/",
        "//idp.example/",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        check_url(url, insecure=False)


def test_addresses_that_are_taken() -> None:
    for url in ("https://idp.example:8443/a?b=c", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost/x"):
        assert check_url(url, insecure=False).geturl() == url
    assert check_url("http://idp.example/", insecure=True)


PRIVATE = json.dumps({"keys": [{**OLD.jwk(), "d": "AA"}]}).encode()


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\0" * 100)


GARBAGE: dict[str, Answer] = {
    "html": lambda handler: send(handler, b"<html>"),
    "nothing": lambda handler: send(handler, b""),
    "no keys": lambda handler: send(handler, b'{"keys": []}'),
    "a private key": lambda handler: send(handler, PRIVATE),
    "404": lambda handler: send(handler, b"{}", status=404),
    "500": lambda handler: send(handler, b"", status=500),
    "a redirect": lambda handler: send(handler, b"", {"Location": "http://127.0.0.1:1/"}, status=302),
    "too much": lambda handler: send(handler, b" " * 100_000),
    "too much without a length": lambda handler: send(handler, b" " * 100_000, {"Content-Length": "9" * 12}),
    "less than was said": lambda handler: send(handler, b'{"keys": []}', {"Content-Length": "500"}),
    "compressed": lambda handler: send(handler, b"x", {"Content-Encoding": "gzip"}),
    "no HTTP": no_http,
    "many headers": lambda handler: send(handler, b"", {f"X-{i}": "x" for i in range(200)}),
    "304 unasked": lambda handler: send(handler, b"", status=304),
    "nothing at all": lambda handler: handler.connection.close(),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
def test_garbage_keeps_the_last_good_keys(answer: Answer) -> None:
    with KeyServer(OLD) as server:
        keys = source(server)
        with running(keys) as authenticator:
            token = mint(OLD)
            assert accepts(authenticator, token)
            server.answer = answer
            before = server.count()
            eventually(lambda: server.count() > before + 1 and (keys.status.error or answer is GARBAGE["304 unasked"]))
            assert accepts(authenticator, token)
            server.answer, server.keys = None, [NEW]
            eventually(lambda: accepts(authenticator, mint(NEW)))


def test_garbage_from_the_start_is_keys_that_are_not_there() -> None:
    with KeyServer(OLD) as server:
        server.answer = GARBAGE["304 unasked"]
        keys = source(server)
        with running(keys, ready=False) as authenticator:
            eventually(lambda: "304" in keys.status.error)
            assert refusal(authenticator, mint(OLD)) is Reason.KEYS_UNAVAILABLE
            server.answer = None
            eventually(lambda: accepts(authenticator, mint(OLD)))


def test_stale_keys_serve_up_to_their_bound_and_no_longer() -> None:
    with KeyServer(OLD) as server:
        keys = source(server, Refresh(interval=0.05, max_stale=0.8, cooldown=0.05, timeout=0.2))
        with running(keys) as authenticator:
            token = mint(OLD)
            assert accepts(authenticator, token)
            server.answer = GARBAGE["500"]
            eventually(lambda: keys.status.failures > 0)
            assert accepts(authenticator, token)
            eventually(lambda: keys.current(NOW) is None)
            assert refusal(authenticator, token) is Reason.KEYS_UNAVAILABLE
            server.answer = None
            eventually(lambda: accepts(authenticator, token))


def test_a_flood_of_unknown_keys_costs_one_request_a_cooldown() -> None:
    with KeyServer(OLD) as server, running(source(server, LAZY)) as authenticator:
        began = time.monotonic()
        flood = [mint(SigningKey("ES256", f"k{i}")) for i in range(20)]
        while time.monotonic() < began + 1.0:
            for token in flood:
                assert not accepts(authenticator, token)
        eventually(lambda: server.count() >= 2)
        assert server.count() <= 2 + (time.monotonic() - began) / LAZY.cooldown


def test_an_unknown_key_brings_the_new_keys_long_before_they_are_due() -> None:
    with KeyServer(OLD) as server, running(source(server, LAZY)) as authenticator:
        server.keys = [NEW]
        assert not accepts(authenticator, mint(NEW))
        eventually(lambda: accepts(authenticator, mint(NEW)), 3)
        assert server.count() == 2


def test_a_token_without_a_key_id_asks_for_nothing() -> None:
    with KeyServer(OLD, NEW) as server, running(source(server, LAZY)) as authenticator:
        assert refusal(authenticator, MINTER.mint(now=NOW, header={"kid": None})) is Reason.TOKEN_KEY_UNKNOWN
        time.sleep(LAZY.cooldown * 2)
        assert server.count() == 1


@pytest.mark.parametrize("answer", [hang, drip], ids=["hang", "drip"])
def test_a_server_that_never_ends_is_cut_off(answer: Answer) -> None:
    with KeyServer(OLD) as server:
        server.answer = answer
        keys = source(server, Refresh(interval=0.05, max_stale=60.0, cooldown=0.05, timeout=0.2))
        with running(keys, ready=False):
            eventually(lambda: keys.status.failures >= 2, 5)
            server.answer = None
            eventually(lambda: keys.current(NOW) is not None, 5)


@pytest.mark.parametrize("answer", [hang, drip], ids=["hang", "drip"])
async def test_a_hung_key_server_does_not_hold_the_event_loop_or_another_issuer(answer: Answer) -> None:
    with KeyServer(OLD) as slow, KeyServer(NEW) as fast:
        slow.answer = answer
        hung, good = source(slow, LAZY), source(fast)
        hung.name = "slow"
        one = issuer(
            name="slow", issuer="https://slow.test", prefix="slow:", algorithms=frozenset({"ES256"}), keys=hung
        )
        other = issuer(algorithms=frozenset({"ES256"}), keys=good)
        authentication = Authentication(TokenAuthenticator([one, other]), background=[hung, good], startup=0.3)
        await asyncio.to_thread(authentication.start)
        try:
            longest = await _longest_stall(lambda: _try(authentication, mint(NEW), mint(OLD, iss="https://slow.test")))
            assert _try(authentication, mint(NEW), mint(OLD, iss="https://slow.test")) == (
                "alice",
                Reason.KEYS_UNAVAILABLE,
            )
            assert {status.name: status.keys for status in authentication.keys} == {"slow": 0, "corp": 1}
        finally:
            authentication.close()
        # A fetch on the path of a call would take the whole timeout; benchmarks/authn.py measures the rest.
        assert longest < LAZY.timeout


def _try(authentication: Authentication, *texts: str) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(authentication.authenticate((BearerToken(text),), "/a.B/C", NOW).subject)
        except AuthenticationError as exc:
            found.append(exc.reason)
    return tuple(found)


async def _longest_stall(step: Callable[[], object]) -> float:
    longest = 0.0
    for _ in range(200):
        before = time.perf_counter()
        step()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    return longest


def test_a_server_that_is_not_there() -> None:
    https = Https(ca_file=None, timeout=1, max_bytes=1000)
    keys = FetchedKeys("corp", https, QUICK, jwks_url=f"http://127.0.0.1:{closed_port()}/jwks")
    with running(keys, ready=False):
        eventually(lambda: "ConnectionRefusedError" in keys.status.error)
        assert "ConnectionRefusedError" in repr(keys)


def test_a_mistake_of_our_own_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with KeyServer(OLD) as server:
        keys = source(server)
        with running(keys) as authenticator:
            with monkeypatch.context() as patch:
                patch.setattr("authz.authn.fetched_keys.read_key_set", lambda *_: 1 / 0)
                server.keys = [NEW]
                eventually(lambda: keys.status.error == "ZeroDivisionError")
            eventually(lambda: accepts(authenticator, mint(NEW)))


def test_a_ca_file_that_is_none(tmp_path: Any) -> None:
    with pytest.raises(KeyFileError, match="is not certificates in PEM"):
        Https(ca_file=tmp_path / "absent", timeout=1, max_bytes=1)


def tls(server: CertificateAuthority, folder: Path, hosts: Sequence[str] = ("127.0.0.1",)) -> ssl.SSLContext:
    issued = server.issue_server(hosts)
    (folder / "server.pem").write_bytes(issued.certificate + issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@pytest.mark.parametrize(
    ("trusted", "hosts", "works"),
    [(True, ["127.0.0.1"], True), (False, ["127.0.0.1"], False), (True, ["10.0.0.1"], False)],
)
def test_the_server_proves_itself_by_the_authority_that_is_configured(
    tmp_path: Path, trusted: bool, hosts: list[str], works: bool
) -> None:
    theirs = CertificateAuthority("Key server CA")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes((theirs if trusted else CertificateAuthority("Key server CA")).pem)
    with KeyServer(OLD, tls=tls(theirs, tmp_path, hosts)) as server:
        https = Https(ca_file=ca_file, timeout=1.0, max_bytes=65_536)
        keys = FetchedKeys("corp", https, QUICK, jwks_url=server.url + "/jwks")
        with running(keys, ready=works) as authenticator:
            if not works:
                eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in keys.status.error)
            assert accepts(authenticator, mint(OLD)) is works


def test_keys_that_are_not_for_this_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with KeyServer(OLD) as server, caplog.at_level("INFO", "authz.authn"):
        body = json.dumps({"keys": [OLD.jwk(), {**NEW.jwk(), "use": "enc"}]}).encode()
        server.answer = lambda handler: send(handler, body, {"Last-Modified": "Mon, 04 May 2026 10:00:00 GMT"})
        with running(source(server)):
            eventually(lambda: server.count() > 1)
    assert "the keys of corp: skipped: key 1 has the `use` 'enc'" in caplog.text
    assert "the keys of corp: old" in caplog.text


def test_a_discovery_document_that_is_none() -> None:
    with KeyServer(OLD) as server:
        server.discovery = {"a": float("nan")}
        keys = source(server, discovers=True)
        with running(keys, ready=False):
            eventually(lambda: "the document holds NaN" in keys.status.error)


def test_another_address_in_the_discovery_document_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.authn.fetched_keys._REDISCOVER", 0.0)
    with KeyServer(OLD) as server, running(source(server, discovers=True)):
        server.discovery = {"jwks_uri": server.url + "/other"}
        eventually(lambda: server.count("/other") > 1)
