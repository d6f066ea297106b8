"""A limited peer in the corridor: what it is refused, what still passes, what counts, and that it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest

import authz
from authz.audit.base import Entry
from authz.authn.base import Principal
from authz.authn.chain import Authentication, Combine
from authz.authn.failure_limit import FailureLimit
from authz.authn.plugin import FirstAuthenticator
from authz.call import Call
from authz.credentials import BearerToken, ClientCertificate, Credential, Credentials, MalformedCredential
from authz.engine import Engine
from authz.errors import ConfigError
from authz.reason import Reason
from authz.testing import RecordingSink, Stage
from examples.orders import orders_pb2 as pb
from tests.adapters.orders import async_port, configure, records, sync_port
from tests.bundle import write_bundle

BAD = BearerToken("not.a.token")


def call(peer: str = "ipv4:192.0.2.66:1", method: str = "/shop.Orders/Get") -> Call:
    return Call(method, ("acme",), peer=peer)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(write_bundle(tmp_path / "bundle"), anonymous=["/shop.Orders/List"])


@pytest.fixture
def engine(stage: Stage) -> Engine:
    parts = stage.engine
    limit = FailureLimit(3, 3600.0)
    return Engine(parts._authentication, parts._mapper, parts.policy, stage.decisions, failure_limit=limit)


def good(stage: Stage, subject: str = "rita") -> BearerToken:
    return BearerToken(stage.as_caller(subject, system="reader")[0][1].removeprefix("Bearer "))


def reasons(engine: Engine, credentials: Credentials, times: int, **kwargs: str) -> list[str]:
    return [engine.check(call(**kwargs), credentials).reason.value for _ in range(times)]


def test_after_so_many_failures_nothing_of_the_peer_is_looked_at(engine: Engine, stage: Stage) -> None:
    assert reasons(engine, [BAD], 5) == ["token_malformed"] * 3 + ["peer_limited"] * 2
    assert reasons(engine, [good(stage)], 1) == ["peer_limited"]
    assert reasons(engine, [good(stage)], 1, peer="ipv4:192.0.2.1:1") == ["allowed"]
    assert [record["reason"] for record in stage.decisions.records].count("peer_limited") == 3
    assert stage.decisions.records[-2]["grpc_code"] == "RESOURCE_EXHAUSTED"
    assert len(stage.decisions.records) == 7


def test_a_caller_who_is_known_passes_beside_the_one_who_guesses(engine: Engine, stage: Stage) -> None:
    known = good(stage)
    assert reasons(engine, [known], 1) == ["allowed"]
    reasons(engine, [BAD], 5)
    assert reasons(engine, [known], 3) == ["allowed"] * 3
    assert reasons(engine, [known, BAD], 1) == ["peer_limited"]


def test_certificates_and_several_authenticators_are_recognized_too() -> None:
    class Silent:
        def authenticate(self, credential: Credential, now: float) -> Principal | None:
            return None

    class Knows(Silent):
        def __init__(self, known: Credential) -> None:
            self.known = known

        def remembers(self, credential: Credential) -> bool:
            return credential == self.known

    known, certificate = BearerToken("known"), ClientCertificate(b"known")
    chain = Authentication(FirstAuthenticator([Silent(), Knows(known)]), Knows(certificate), combine=Combine.JWT)
    assert chain.recognizes([known, certificate])
    assert not chain.recognizes([known, ClientCertificate(b"other")])
    assert not chain.recognizes([BAD, certificate])
    assert not chain.recognizes([known, MalformedCredential(Reason.CREDENTIAL_REPEATED, "2 entries")])
    assert not Authentication(Silent()).recognizes([known])
    # where certificates are no credentials, one says nothing for or against
    assert Authentication(Knows(known)).recognizes([known, ClientCertificate(b"other")])


def test_who_shows_nothing_is_neither_counted_nor_limited(engine: Engine) -> None:
    assert reasons(engine, [], 10) == ["credential_missing"] * 10
    assert reasons(engine, [BAD], 5) == ["token_malformed"] * 3 + ["peer_limited"] * 2
    assert reasons(engine, [], 1) == ["credential_missing"]
    assert reasons(engine, [], 1, method="/shop.Orders/List") == ["no_rule"]


def test_a_denial_of_a_proven_caller_does_not_count(engine: Engine, stage: Stage) -> None:
    assert reasons(engine, [good(stage)], 20, method="/shop.Orders/Put") == ["no_rule"] * 20


def test_what_is_ours_to_have_does_not_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> None:
        raise authz.AuthenticationError(Reason.KEYS_UNAVAILABLE, "no keys")

    monkeypatch.setattr(engine._authentication, "authenticate", unavailable)
    assert reasons(engine, [BAD], 20) == ["keys_unavailable"] * 20


SHOWN: list[Credentials] = [
    [BAD],
    [MalformedCredential(Reason.CREDENTIAL_REPEATED, "2 entries")],
    [ClientCertificate(b"junk"), BAD],
]


@pytest.mark.parametrize("shown", SHOWN, ids=repr)
def test_whatever_is_refused_counts(engine: Engine, shown: Credentials) -> None:
    assert reasons(engine, shown, 4)[-1] == "peer_limited"


def test_the_look_before_the_first_message_counts_and_is_limited(engine: Engine) -> None:
    for _ in range(3):
        refused = engine.refuse_unproven(call(), [BAD])
        assert refused is not None
    assert reasons(engine, [BAD], 1) == ["peer_limited"]
    refused = engine.refuse_unproven(call(), [BAD])
    assert refused is not None
    assert refused.reason is Reason.PEER_LIMITED


async def test_a_check_that_waits_for_the_log_is_limited_too(stage: Stage) -> None:
    class Waiting(RecordingSink):
        async def write_async(self, record: Entry) -> None:
            self.write(record)

    parts, sink = stage.engine, Waiting()
    limit = FailureLimit(3, 3600.0)
    engine = Engine(parts._authentication, parts._mapper, parts.policy, sink, failure_limit=limit)
    decided = [await engine.check_async(call(), [BAD]) for _ in range(4)]
    assert [decision.reason for decision in decided] == [Reason.TOKEN_MALFORMED] * 3 + [Reason.PEER_LIMITED]
    assert [record["reason"] for record in sink.records] == ["token_malformed"] * 3 + ["peer_limited"]


def test_a_call_under_way_is_looked_at_again_all_the_same(engine: Engine, stage: Stage) -> None:
    token = good(stage)
    reasons(engine, [BAD], 5)
    assert engine.refuse(call(), [token]) is None


def test_without_a_limit_nobody_is_limited(stage: Stage) -> None:
    assert reasons(stage.engine, [BAD], 50) == ["token_malformed"] * 50


def test_a_fault_of_the_counting_has_no_effect(
    engine: Engine, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(engine._failure_limit, "failed", broken)
    assert reasons(engine, [BAD], 5) == ["token_malformed"] * 5
    assert reasons(engine, [good(stage)], 1) == ["allowed"]
    assert not engine.check(None, [BAD])  # type: ignore[arg-type]
    assert "cannot be counted" in caplog.text


SECTION = "  failure_limit: {failures: 5, per: 1h}\n"


@pytest.mark.parametrize("serve", [sync_port, async_port])
def test_on_a_server(serve: Callable[..., AbstractContextManager[int]], tmp_path: Path) -> None:
    path, keys = configure(tmp_path)
    path.write_text(path.read_text().replace("authn:\n", "authn:\n" + SECTION))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: pb.Order(), pb.GetOrderRequest.FromString,
                                                  pb.Order.SerializeToString)  # fmt: skip
    handlers = grpc.method_handlers_generic_handler("example.orders.v1.Orders", {"GetOrder": handler})
    known = keys.ec.mint(sub="rita", permissions=["system:read"])

    def code(channel: grpc.Channel, token: str) -> str:
        try:
            channel.unary_unary("/example.orders.v1.Orders/GetOrder")(
                pb.GetOrderRequest(namespace="acme").SerializeToString(),
                metadata=[("authorization", f"Bearer {token}")],
                timeout=20,
            )
        except grpc.RpcError as exc:
            return str(exc.code().name)
        return "OK"

    with (
        authz.load_config(path) as engine,
        serve(engine, handlers) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert code(channel, known) == "OK"
        assert [code(channel, "guess") for _ in range(7)] == ["UNAUTHENTICATED"] * 5 + ["RESOURCE_EXHAUSTED"] * 2
        assert code(channel, keys.ec.mint(sub="new", permissions=["system:read"])) == "RESOURCE_EXHAUSTED"
        assert code(channel, known) == "OK"
    assert [record["reason"] for record in records(tmp_path)].count("peer_limited") == 3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{failures: 0}", "`authn.failure_limit.failures` cannot be 0"),
        ("{per: 10ms}", "`authn.failure_limit.per` cannot be 10ms"),
        ("{peers: 0}", "`authn.failure_limit.peers` cannot be 0"),
        ("{failure: 3}", "unknown key `authn.failure_limit.failure`; did you mean `failures`"),
    ],
)
def test_what_cannot_be_used_is_refused(section: str, message: str, tmp_path: Path) -> None:
    path, _ = configure(tmp_path)
    path.write_text(path.read_text().replace("authn:\n", f"authn:\n  failure_limit: {section}\n"))
    with pytest.raises(ConfigError, match=message):
        authz.load_config(path)
