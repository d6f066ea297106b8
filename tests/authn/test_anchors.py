"""Anchors: authorities whose own certificates change, in a file or by a Workload API, while calls are made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe._proto import workload_pb2 as pb
from spiffe._proto import workload_pb2_grpc as rpc

from authz import document
from authz.authn.authority_files import read_authority_file
from authz.authn.background import WatchedFile
from authz.authn.certificate import CertificateAuthenticator
from authz.authn.workload_api import WorkloadBundle
from authz.config.authn import read_authn
from authz.errors import ConfigError
from authz.reason import Reason
from authz.testing import CertificateAuthority
from tests.authn.key_server import eventually
from tests.authn.setting import NOW, authority, certificate_authority, client, refusal
from tests.authn.test_revocation import change

OLD, NEW = certificate_authority("Old CA"), certificate_authority("New CA")
ID = "spiffe://prod.example.org/a"
BY_OLD, BY_NEW = client(OLD, spiffe_id=ID), client(NEW, spiffe_id=ID)


def accepts(authenticator: CertificateAuthenticator, shown: Any) -> bool:
    try:
        return authenticator.authenticate(shown, NOW) is not None
    except Exception:
        return False


def test_a_known_certificate_is_refused_once_its_authority_is_gone_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(OLD.pem)
    file = WatchedFile(path, read_authority_file)
    authenticator = CertificateAuthenticator([authority(anchors=file)])
    first = authenticator.authenticate(BY_OLD, NOW)
    assert authenticator.authenticate(BY_OLD, NOW) is first
    assert not accepts(authenticator, BY_NEW)
    assert change(file, OLD.pem + NEW.pem)
    assert accepts(authenticator, BY_OLD)
    assert accepts(authenticator, BY_NEW)
    assert change(file, NEW.pem)
    assert refusal(authenticator, BY_OLD) is Reason.CERTIFICATE_UNTRUSTED
    assert not change(file, b"garbage")
    assert accepts(authenticator, BY_NEW)


class Agent(rpc.SpiffeWorkloadAPIServicer):
    """A SPIRE agent's bundles, on a socket."""

    def __init__(self, folder: Path) -> None:
        self.bundles: dict[str, bytes] = {}
        self.asked = 0
        self.address = f"unix://{folder}/agent.sock"
        self.server = grpc.server(ThreadPoolExecutor(4))
        add_to_server: Any = rpc.add_SpiffeWorkloadAPIServicer_to_server
        add_to_server(self, self.server)
        self.server.add_insecure_port(self.address)
        self.server.start()

    def publish(self, *cas: CertificateAuthority) -> None:
        der = b"".join(ca.x509.public_bytes(Encoding.DER) for ca in cas)
        self.bundles = {
            "spiffe://prod.example.org": der,
            "spiffe://other.example.org": OLD.x509.public_bytes(Encoding.DER),
        }

    def FetchX509Bundles(self, request: Any, context: Any) -> Iterator[Any]:
        self.asked += 1
        if not self.bundles:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        yield pb.X509BundlesResponse(bundles=self.bundles)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.server.stop(0).wait()


def bundle(agent: Agent, max_stale: float = 60.0) -> WorkloadBundle:
    return WorkloadBundle("prod", agent.address, "prod.example.org", interval=0.05, timeout=2.0, max_stale=max_stale)


def test_the_authorities_of_a_workload_api(agent: Agent) -> None:
    anchors = bundle(agent)
    authenticator = CertificateAuthenticator([authority(anchors=anchors)])
    anchors.start()
    try:
        assert not anchors.ready(0.2)
        assert refusal(authenticator, BY_OLD) is Reason.KEYS_UNAVAILABLE
        agent.publish(OLD)
        assert anchors.ready(5)
        first = authenticator.authenticate(BY_OLD, NOW)
        asked = agent.asked
        eventually(lambda: agent.asked > asked + 2)
        assert authenticator.authenticate(BY_OLD, NOW) is first
        assert refusal(authenticator, BY_NEW) is Reason.CERTIFICATE_UNTRUSTED
        agent.publish(NEW)
        eventually(lambda: accepts(authenticator, BY_NEW))
        assert refusal(authenticator, BY_OLD) is Reason.CERTIFICATE_UNTRUSTED
        agent.bundles = {"spiffe://other.example.org": agent.bundles["spiffe://prod.example.org"]}
        eventually(lambda: anchors.failures > 1)
        assert accepts(authenticator, BY_NEW)
    finally:
        anchors.close()
        anchors._thread.join(5)
    assert repr(anchors) == "the authorities of prod"


def test_authorities_that_are_too_old_vouch_for_nobody(agent: Agent) -> None:
    anchors = bundle(agent, max_stale=0.5)
    authenticator = CertificateAuthenticator([authority(anchors=anchors)])
    agent.publish(OLD)
    anchors.start()
    try:
        assert anchors.ready(5)
        assert accepts(authenticator, BY_OLD)
        agent.bundles = {}
        eventually(lambda: not accepts(authenticator, BY_OLD))
        assert refusal(authenticator, BY_OLD) is Reason.KEYS_UNAVAILABLE
    finally:
        anchors.close()


TEXT = """\
mtls:
- name: prod
  map: spiffe
  trust_domains: [prod.example.org]
  workload_api: {socket: ADDRESS, refresh: 100ms}
"""


def test_it_is_configured(agent: Agent, tmp_path: Path) -> None:
    agent.publish(OLD)
    text = TEXT.replace("ADDRESS", agent.address)
    authentication, _ = read_authn(document.parse(text.encode(), tmp_path / "authz.yaml", ConfigError))
    authentication.start()
    try:
        assert authentication.authenticate((BY_OLD,), "/a.B/C", NOW).subject == ID
    finally:
        authentication.close()


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ("socket: ADDRESS", "socket: 'http://x'", "cannot be used"),
        ("socket: ADDRESS", "sock: x", "socket` is missing"),
        ("[prod.example.org]", "[prod.example.org, b.example.org]", "is for one trust domain"),
        ("  map:", "  ca_file: x\n  map:", "keep one"),
        ("refresh: 100ms", "refrsh: 1s", "unknown key"),
    ],
)
def test_mistakes(tmp_path: Path, there: str, instead: str, message: str) -> None:
    text = TEXT.replace(there, instead).replace("ADDRESS", "unix:///tmp/absent.sock")
    with pytest.raises(ConfigError, match=message):
        read_authn(document.parse(text.encode(), tmp_path / "authz.yaml", ConfigError))


def test_it_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "authz.authn.workload_api")
    monkeypatch.setitem(sys.modules, "spiffe", None)
    with pytest.raises(ConfigError, match=r"not installed: spiffe.*grpc-authz\[spiffe\]"):
        read_authn(document.parse(TEXT.replace("ADDRESS", "unix:///x").encode(), tmp_path / "a.yaml", ConfigError))
