"""Metrics and span attributes, by OpenTelemetry's own SDK, and a real scrape in Prometheus's format."""

from __future__ import annotations

import gc
import subprocess
import sys
import urllib.request
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import start_http_server

import authz
from authz.call import Call
from authz.decision import authorizer_for
from authz.decision.base import Decision, Effect, Verdict
from authz.decision.shadow import ShadowAuthorizer
from authz.decision.union import UnionAuthorizer
from authz.engine import Engine, Policy
from authz.errors import ConfigError
from authz.policy.load import load_bundle
from authz.reason import Reason
from authz.telemetry import OTHER, SERIES_LIMIT, UNKNOWN, Telemetry
from authz.testing import RecordingSink, Stage
from tests.adapters.orders import configure
from tests.bundle import write_bundle
from tests.test_engine import ALICE, Rooms

GET, PUT = Call("/shop.Orders/Get", ("acme",)), Call("/shop.Orders/Put", ("acme",))


class Fetched(NamedTuple):
    """How it stands with a source of keys."""

    name: str
    age: float | None
    failures: int


class Parts(Rooms):
    """Rooms that have keys and remember."""

    keys = (Fetched("corp", 12.5, 3), Fetched("new", None, 1))


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    revision = load_bundle(write_bundle(tmp_path / "bundle"))
    return Policy(revision, authorizer_for(revision))


def watched(rooms: Rooms, policy: Policy, **settings: Any) -> tuple[Engine, Telemetry]:
    observer = Telemetry(**settings)
    engine = Engine(rooms, rooms, policy, rooms, observers=[observer])
    observer.watch(engine, rooms)
    return engine, observer


def points(reader: InMemoryMetricReader, name: str) -> dict[tuple[Any, ...], Any]:
    """The points of a metric by the values of their attributes."""
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    for point in metric.data.data_points:
                        assert point.attributes is not None
                        found[tuple(point.attributes.values())] = getattr(point, "value", point)
    return found


def test_decisions_are_counted_by_effect_reason_and_method(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    rooms = Rooms(claims=authz.Claims(ALICE, frozenset({"reader"})))
    engine, _ = watched(rooms, policy, provider=provider)
    for call in (GET, GET, PUT, Call("/shop.Orders/Steal"), Call("/shop.Internal/Anything"), Call("no method")):
        engine.check(call)
    assert points(reader, "authz.decisions") == {
        ("allow", "allowed", "/shop.Orders/Get"): 2,
        ("no_opinion", "no_rule", "/shop.Orders/Put"): 1,
        ("deny", "method_unknown", UNKNOWN): 1,
        ("no_opinion", "no_rule", "/shop.Internal/*"): 1,
        ("deny", "method_malformed", UNKNOWN): 1,
    }


def test_nobody_can_make_up_series(reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy) -> None:
    engine, _ = watched(Rooms(), policy, provider=provider)
    for number in range(300):
        engine.check(Call(f"/shop.Made{number}/Up"))
        engine.check(Call(f"/shop.Internal/Made{number}"))
    assert len(points(reader, "authz.decisions")) == 2


def test_the_series_of_many_revisions_are_bounded(provider: MeterProvider, policy: Policy) -> None:
    _, observer = watched(Rooms(), policy, provider=provider)
    observer.decided.update({("allow", "allowed", f"/old.Service/M{number}"): 1 for number in range(SERIES_LIMIT)})
    decision = Decision(Effect.ALLOW, Reason.ALLOWED, None, "", None, None, "id")
    for call in (GET, PUT):
        observer.observe(decision, call, 1)
    assert observer.decided["allow", "allowed", OTHER] == 2
    assert len(observer.decided) == SERIES_LIMIT + 1


def test_what_could_not_be_recorded_is_counted_as_what_was_enforced(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    rooms = Rooms(claims=authz.Claims(ALICE, frozenset({"reader"})), sink=OSError(28, "no space"))
    engine, _ = watched(rooms, policy, provider=provider)
    assert not engine.check(GET)
    assert list(points(reader, "authz.decisions")) == [("deny", "audit_unavailable", "/shop.Orders/Get")]


def test_durations_are_a_histogram_by_effect(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    engine, _ = watched(Rooms(), policy, provider=provider)
    for _ in range(3):
        engine.check(GET)
    ((effect,), point), *others = points(reader, "authz.decision.duration").items()
    assert not others
    assert (effect, point.count) == ("no_opinion", 3)
    assert 0 < point.sum < 60
    assert point.explicit_bounds[0] == 5e-6


def test_durations_can_be_left_out(reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy) -> None:
    engine, _ = watched(Rooms(), policy, provider=provider, durations=False)
    engine.check(GET)
    assert points(reader, "authz.decision.duration") == {}
    assert points(reader, "authz.decisions")


def test_the_differences_of_a_shadow_are_counted(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    shadow = Verdict(Effect.DENY, Reason.DENIED_BY_RULE)
    rooms = Rooms(verdict=Verdict(Effect.ALLOW, Reason.ALLOWED, shadow=shadow))
    engine, _ = watched(rooms, Policy(policy.revision, rooms), provider=provider)
    assert engine.check(GET)
    assert points(reader, "authz.shadow.differences") == {("allow", "deny", "/shop.Orders/Get"): 1}


def test_the_policy_and_the_keys_are_told_until_the_engine_is_closed(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    engine, _ = watched(Parts(), policy, provider=provider)
    engine.check(GET)
    assert points(reader, "authz.policy.info") == {(policy.revision.id,): 1}
    assert points(reader, "authz.keys.age") == {("corp",): 12.5}
    assert points(reader, "authz.keys.fetch_failures") == {("corp",): 3, ("new",): 1}
    engine.close()
    assert points(reader, "authz.policy.info") == {}
    assert points(reader, "authz.keys.age") == {}
    assert len(points(reader, "authz.decisions")) == 1


def test_caches_tell_how_much_was_not_found_in_them(
    reader: InMemoryMetricReader, provider: MeterProvider, tmp_path: Path
) -> None:
    stage = Stage(write_bundle(tmp_path / "bundle"))
    observer = Telemetry(provider=provider)
    # the parts of a stage, put together once more with an observer
    authentication = stage.engine._authentication
    engine = Engine(authentication, stage.engine._mapper, stage.engine.policy, RecordingSink(), observers=[observer])
    observer.watch(engine, authentication)
    token = authz.BearerToken(stage.as_caller("rita", system="reader")[0][1].removeprefix("Bearer "))
    for _ in range(5):
        assert engine.check(GET, [token])
    assert points(reader, "authz.cache.stored")[("tokens",)] == 1
    assert points(reader, "authz.cache.stored")[("decisions",)] == 1
    assert points(reader, "authz.cache.entries")[("tokens",)] == 1


def test_a_union_and_a_shadow_tell_of_the_policy_in_force(policy: Policy) -> None:
    inner = policy.authorizer
    union = UnionAuthorizer(inner, [Rooms()], policy.revision.id)
    for wrapped in (union, ShadowAuthorizer(inner, Rooms(), "def"), ShadowAuthorizer(union, inner, "def")):
        assert wrapped.caches["decisions"] is inner.caches["decisions"]  # type: ignore[attr-defined]
    assert ShadowAuthorizer(Rooms(), inner, "def").caches == {}


def test_two_engines_share_the_instruments_and_add_up(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    engines = [watched(Rooms(), policy, provider=provider)[0] for _ in range(2)]
    for engine in engines:
        engine.check(GET)
    assert points(reader, "authz.decisions") == {("no_opinion", "no_rule", "/shop.Orders/Get"): 2}
    assert points(reader, "authz.policy.info") == {(policy.revision.id,): 1}
    assert not caplog.records


def test_what_a_closed_engine_has_counted_remains_and_nothing_else_of_it(
    reader: InMemoryMetricReader, provider: MeterProvider, policy: Policy
) -> None:
    gone = []
    for _ in range(3):
        engine, observer = watched(Rooms(), policy, provider=provider)
        engine.check(GET)
        engine.close()
        engine.close()
        gone.append(weakref.ref(observer))
    del engine, observer
    gc.collect()
    assert [each() for each in gone] == [None] * 3
    last, _ = watched(Rooms(), policy, provider=provider)
    last.check(GET)
    assert points(reader, "authz.decisions") == {("no_opinion", "no_rule", "/shop.Orders/Get"): 4}


def test_the_current_span_has_the_decision(provider: MeterProvider, policy: Policy) -> None:
    rooms = Rooms(claims=authz.Claims(ALICE, frozenset({"reader"})))
    engine, _ = watched(rooms, policy, provider=provider)
    with TracerProvider().get_tracer("test").start_as_current_span("rpc") as span:
        decision = engine.check(GET)
    attributes = dict(span.attributes or {})  # type: ignore[attr-defined]
    assert attributes == {
        "authz.decision": "allow",
        "authz.reason": "allowed",
        "authz.audit_id": decision.audit_id,
        "authz.policy_version": policy.revision.id,
        "authz.rule": str(decision.rule),
    }
    assert "alice" not in str(attributes)


def test_spans_can_be_left_alone(provider: MeterProvider, policy: Policy) -> None:
    engine, _ = watched(Rooms(), policy, provider=provider, spans=False)
    with TracerProvider().get_tracer("test").start_as_current_span("rpc") as span:
        engine.check(GET)
    assert not span.attributes  # type: ignore[attr-defined]


def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture, policy: Policy) -> None:
    class Broken:
        def observe(self, *_: object) -> None:
            raise ValueError("a fault")

    seen: list[Decision] = []

    class Noting:
        def observe(self, decision: Decision, call: Call, elapsed_ns: int) -> None:
            seen.append(decision)

    rooms = Rooms()
    engine = Engine(rooms, rooms, Policy(policy.revision, rooms), rooms, observers=[Broken(), Noting()])
    decision = engine.check(GET)
    assert decision
    assert seen == [decision]
    assert [record.decision for record in rooms.records] == [decision]
    assert "could not be observed" in caplog.text
    engine.close()


def test_prometheus_scrapes_it(policy: Policy) -> None:
    provider = MeterProvider([PrometheusMetricReader()])
    server, thread = start_http_server(0, "127.0.0.1")
    try:
        engine, _ = watched(Parts(claims=authz.Claims(ALICE, frozenset({"reader"}))), policy, provider=provider)
        engine.check(GET)
        engine.check(Call("/shop.Orders/Steal"))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()
    scope = 'otel_scope_name="authz"'
    told = {line.rsplit(" ", 1)[0].split("{")[0]: line for line in lines if scope in line}
    assert {"authz_decisions_total", "authz_decision_duration_seconds_bucket", "authz_policy_info"} <= set(told)
    assert {"authz_keys_age_seconds", "authz_keys_fetch_failures_total"} <= set(told)
    decided = [line for line in lines if line.startswith("authz_decisions_total")]
    assert len(decided) == 2
    assert any('method="/shop.Orders/Get"' in line and 'decision="allow"' in line for line in decided)
    assert any(f'method="{UNKNOWN}"' in line and 'reason="method_unknown"' in line for line in decided)


def test_the_configuration_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr("authz.telemetry.metrics.get_meter_provider", lambda: provider)
    path, _ = configure(tmp_path)
    path.write_text(path.read_text() + "\ntelemetry: {durations: false}\n")
    with authz.load_config(path) as engine:
        engine.check(Call("/example.orders.v1.Orders/GetOrder", ("acme",)))
        assert points(reader, "authz.decisions") == {
            ("deny", "credential_missing", "/example.orders.v1.Orders/GetOrder"): 1
        }
        assert points(reader, "authz.policy.info") == {(engine.policy.revision.id,): 1}
        assert {("tokens",), ("claims",)} <= set(points(reader, "authz.cache.entries"))
        assert points(reader, "authz.decision.duration") == {}
    provider.shutdown()


def test_a_typo_in_the_section_is_refused(tmp_path: Path) -> None:
    path, _ = configure(tmp_path)
    path.write_text(path.read_text() + "\ntelemetry: {spanss: false}\n")
    with pytest.raises(ConfigError, match=r"unknown key `telemetry.spanss`; did you mean `spans`"):
        authz.load_config(path)


def test_without_opentelemetry_the_section_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = configure(tmp_path)
    path.write_text(path.read_text() + "\ntelemetry: {}\n")
    monkeypatch.setitem(sys.modules, "authz.telemetry", None)
    with pytest.raises(ConfigError, match=r"authz.yaml:\d+:12: `telemetry` needs a package that is not installed"):
        authz.load_config(path)
    assert not (tmp_path / "audit.jsonl").exists()


PROGRAM = """
import sys
{prepare}
import authz
try:
    authz.load_config({path!r}).close()
except authz.FileError as exc:
    print(exc)
print("opentelemetry loaded:", any(name.split(".")[0] == "opentelemetry" and sys.modules[name] for name in sys.modules))
"""


@pytest.mark.parametrize(
    ("section", "prepare", "said"),
    [
        ("", "", "opentelemetry loaded: False"),
        ("telemetry: {}\n", "", "opentelemetry loaded: True"),
        ("telemetry: {}\n", "sys.modules['opentelemetry'] = None", "install grpc-authz[telemetry], or remove"),
    ],
)
def test_it_is_imported_only_if_it_is_configured(section: str, prepare: str, said: str, tmp_path: Path) -> None:
    path, _ = configure(tmp_path)
    path.write_text(path.read_text() + "\n" + section)
    program = PROGRAM.format(prepare=prepare, path=str(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said in done.stdout
