"""A real OpenID Connect provider: its tokens, the rotation of its keys, its outage, and a flood of unknown keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from authz import document
from authz.authn.chain import Authentication
from authz.claims.base import ClaimMapper
from authz.config.authn import read_authn
from authz.credentials import BearerToken
from authz.errors import AuthenticationError, ConfigError
from authz.reason import Reason
from authz.testing import SigningKey, TokenMinter
from tests.authn.key_server import closed_port, eventually

HERE = Path(__file__).parent / "oidc"
METHOD = "/orders.v1.Orders/Get"


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the provider installed beside this file, where git does not look."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        missing("node and npm are not installed")
    if not (HERE / "node_modules" / "oidc-provider").is_dir():
        command = [str(npm), "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            missing(f"oidc-provider cannot be installed: {done.stderr[-500:]}")
    return str(found)


class Provider:
    """The provider, as a process that can be stopped and started again at the same address."""

    def __init__(self, node: str, keys: Sequence[SigningKey], log: Path) -> None:
        self._node = node
        self._log = log
        self.keys = list(keys)
        self.port = closed_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._node, "provider.mjs", str(self.port)],
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._private())
        self._process.stdin.close()
        if self._process.stdout.readline() != b"ready\n":
            pytest.fail(self._log.read_text())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _private(self) -> bytes:
        return json.dumps([key.private_jwk() for key in self.keys]).encode()

    def rotate(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self._post("/control/keys", self._private())

    @property
    def asked(self) -> int:
        return int(self._post("/control/asked", None))

    def token(self, kind: str = "es") -> BearerToken:
        """A token by the grant client_credentials; kind: es or rs."""
        form = {
            "grant_type": "client_credentials",
            "client_id": "worker",
            "client_secret": "a secret for tests",
            "scope": "api",
            "resource": f"https://orders.example/{kind}",
        }
        answer = json.loads(self._post("/token", urllib.parse.urlencode(form).encode()))
        return BearerToken(answer["access_token"])

    def _post(self, path: str, body: bytes | None) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=10) as answer:
            data: bytes = answer.read()
            return data


def pair(name: str) -> tuple[SigningKey, SigningKey]:
    return SigningKey("ES256", f"{name}-es"), SigningKey("RS256", f"{name}-rs")


@pytest.fixture(scope="module")
def old() -> tuple[SigningKey, SigningKey]:
    return pair("old")


@pytest.fixture
def provider(node: str, old: tuple[SigningKey, SigningKey], tmp_path: Path) -> Iterator[Provider]:
    provider = Provider(node, old, tmp_path / "provider.log")
    yield provider
    provider.stop()


def configured(provider: Provider, folder: Path, times: str) -> tuple[Authentication, ClaimMapper]:
    text = f"""\
issuers:
- name: idp
  issuer: {provider.url}
  audiences: [orders]
  algorithms: [RS256, ES256]
  typ: [at+jwt]
  keys: {{discovery: {{timeout: 2s, {times}}}}}
  roles: [{{claim: permissions, format: temporal}}]
"""
    return read_authn(document.parse(text.encode(), folder / "authz.yaml", ConfigError))


def refused(authentication: Authentication, token: BearerToken) -> Reason | None:
    try:
        authentication.authenticate((token,), METHOD, time.time())
    except AuthenticationError as exc:
        return exc.reason
    return None


def test_its_tokens_prove_and_map(provider: Provider, tmp_path: Path) -> None:
    authentication, mapper = configured(provider, tmp_path, "refresh: 1h")
    authentication.start()
    try:
        for kind in ("es", "rs"):
            principal = authentication.authenticate((provider.token(kind),), METHOD, time.time())
            assert principal.id == "user:idp:worker"
            assert principal.key_id == f"old-{kind}"
            assert mapper.map(principal).namespaces == {"orders": {"writer"}}
        asked = provider.asked
        for _ in range(100):
            assert refused(authentication, provider.token()) is None
        assert provider.asked == asked
    finally:
        authentication.close()


def test_rotation_overlap_retirement_and_outage(
    provider: Provider, old: tuple[SigningKey, SigningKey], tmp_path: Path
) -> None:
    authentication, _ = configured(provider, tmp_path, "refresh: 1s, max_stale: 1h, unknown_kid_cooldown: 200ms")
    authentication.start()
    try:
        by_old = provider.token()
        assert refused(authentication, by_old) is None
        # overlap: the new keys sign, the old ones are still published
        new = pair("new")
        provider.rotate(*new, *old)
        by_new = provider.token()
        eventually(lambda: refused(authentication, by_new) is None)
        assert refused(authentication, by_old) is None
        # retirement
        provider.rotate(*new)
        eventually(lambda: refused(authentication, by_old) is Reason.TOKEN_KEY_UNKNOWN)
        assert refused(authentication, by_new) is None
        # outage during traffic: within the bound, no good token is refused
        fresh = [provider.token() for _ in range(20)]
        provider.stop()
        failed = authentication.keys[0].failures
        while authentication.keys[0].failures < failed + 2:
            assert refused(authentication, by_new) is None
            if fresh:
                assert refused(authentication, fresh.pop()) is None
            time.sleep(0.01)
        assert "ConnectionRefusedError" in authentication.keys[0].error
        assert all(refused(authentication, token) is None for token in fresh)
        provider.start()
        eventually(lambda: not authentication.keys[0].error)
        assert refused(authentication, provider.token()) is None
    finally:
        authentication.close()


def test_a_flood_of_unknown_keys_costs_the_provider_one_request_a_cooldown(provider: Provider, tmp_path: Path) -> None:
    authentication, _ = configured(provider, tmp_path, "refresh: 1h, unknown_kid_cooldown: 500ms")
    authentication.start()
    try:
        forger = TokenMinter(provider.url, "orders")
        flood = [BearerToken(forger.mint(header={"kid": f"k{i}"})) for i in range(200)]
        before, began, refusals = provider.asked, time.monotonic(), 0
        while time.monotonic() < began + 1.5:
            for token in flood:
                assert refused(authentication, token) is Reason.TOKEN_KEY_UNKNOWN
                refusals += 1
        assert refusals > 400
        eventually(lambda: provider.asked > before)
        assert provider.asked - before <= 1 + (time.monotonic() - began) / 0.5
        assert refused(authentication, provider.token()) is None
    finally:
        authentication.close()


def test_a_provider_that_is_not_there_yet(provider: Provider, tmp_path: Path) -> None:
    token = provider.token()
    provider.stop()
    authentication, _ = configured(provider, tmp_path, "refresh: 1h, unknown_kid_cooldown: 200ms")
    authentication._startup = 0.2
    authentication.start()
    try:
        assert refused(authentication, token) is Reason.KEYS_UNAVAILABLE
        provider.start()
        eventually(lambda: refused(authentication, token) is None)
    finally:
        authentication.close()


def test_the_provider_is_of_the_version_that_is_named(node: str) -> None:
    named: dict[str, Any] = json.loads((HERE / "package.json").read_text())
    installed = json.loads((HERE / "node_modules" / "oidc-provider" / "package.json").read_text())
    assert installed["version"] == named["dependencies"]["oidc-provider"]
