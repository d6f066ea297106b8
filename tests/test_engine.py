"""The corridor with fake rooms: what each room's answer, and each room's failure, becomes."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from authz.audit.base import Entry
from authz.audit.event import Event, EventName
from authz.audit.record import Record
from authz.authn.base import Principal, PrincipalKind
from authz.call import Access, ApiMethod, Call, Scope
from authz.claims.base import Claims
from authz.credentials import BearerToken, Credentials
from authz.decision.base import Decision, Effect, Rule, Verdict
from authz.engine import Engine, Policy
from authz.errors import AuditError, AuthenticationError, EvaluationError, MappingError, Place, PolicyError, Problem
from authz.policy.catalogue import Catalogue
from authz.policy.revision import Revision
from authz.reason import Reason

ALICE = Principal(PrincipalKind.TOKEN, "corp", "alice", "corp:")
CALL = Call("/orders.Orders/Get", ("acme",))
RULE = Rule("p, role:reader, *, *, read, allow", Place("policy.csv", 3))
ALLOW = Verdict(Effect.ALLOW, Reason.ALLOWED, RULE, "abc")
DENY = Verdict(Effect.DENY, Reason.DENIED_BY_RULE, RULE, "abc")
NOTHING = Verdict(Effect.NO_OPINION, Reason.NO_RULE, None, "abc", "no rule for role:reader")


class Rooms:
    """An authentication, mapper, authorizer and sink in one, which answer or raise what the test says."""

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, object] = {"principal": ALICE, "claims": Claims(ALICE), "verdict": ALLOW, "sink": None}
        self.answers.update(answers)
        self.records: list[Record] = []
        self.events: list[Event] = []
        self.log: list[str] = []
        self.reads_certificates = False

    def _answer(self, name: str) -> object:
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def authenticate(self, credentials: Credentials, method: str, now: float) -> Principal:
        return self._answer("principal")  # type: ignore[return-value]

    def map(self, principal: Principal) -> Claims:
        return self._answer("claims")  # type: ignore[return-value]

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        return self._answer("verdict")  # type: ignore[return-value]

    def write(self, record: Entry) -> None:
        self._answer("sink")
        record.to_json(1, "w")
        if isinstance(record, Record):
            self.records.append(record)
        else:
            self.events.append(record)

    def recognizes(self, credentials: Credentials) -> bool:
        return False

    def start(self) -> None:
        self.log.append("start")

    def close(self) -> None:
        self.log.append("close")


def policy(authorizer: Rooms, revision: str = "abc", *methods: ApiMethod) -> Policy:
    catalogue = Catalogue({api.method: api for api in methods})
    return Policy(Revision(revision, Path("bundle"), "", (), catalogue), authorizer)


def engine(rooms: Rooms) -> Engine:
    return Engine(rooms, rooms, policy(rooms), rooms)


def check(**answers: object) -> tuple[Decision, Rooms]:
    rooms = Rooms(**answers)
    return engine(rooms).check(CALL, [BearerToken("x")]), rooms


def test_an_allow_carries_the_caller_the_rule_the_revision_and_the_id_of_its_record() -> None:
    decision, rooms = check()
    assert decision
    assert (decision.effect, decision.reason) == (Effect.ALLOW, Reason.ALLOWED)
    assert (decision.rule, decision.revision) == (RULE, "abc")
    assert decision.principal is ALICE
    assert decision.claims is rooms.answers["claims"]
    assert [record.decision for record in rooms.records] == [decision]
    assert len(decision.audit_id) == 28


@pytest.mark.parametrize("verdict", [DENY, NOTHING])
def test_what_is_not_an_allow_is_falsy_and_recorded(verdict: Verdict) -> None:
    decision, rooms = check(verdict=verdict)
    assert not decision
    assert decision.effect is verdict.effect
    assert decision.detail == verdict.detail
    assert len(rooms.records) == 1


FAILURES = [
    ("principal", AuthenticationError(Reason.TOKEN_EXPIRED, "expired"), Reason.TOKEN_EXPIRED),
    ("principal", RuntimeError("bug"), Reason.EVALUATION_FAILED),
    ("principal", KeyError("bug"), Reason.EVALUATION_FAILED),
    ("claims", MappingError(Reason.CLAIMS_MALFORMED, "odd"), Reason.CLAIMS_MALFORMED),
    ("claims", TypeError("bug"), Reason.EVALUATION_FAILED),
    ("claims", Claims(ALICE, frozenset({"admin"}), expires_at=1.0), Reason.CLAIMS_EXPIRED),
    ("verdict", EvaluationError("no answer"), Reason.EVALUATION_FAILED),
    ("verdict", RecursionError(), Reason.EVALUATION_FAILED),
    ("verdict", None, Reason.EVALUATION_FAILED),
    ("verdict", True, Reason.EVALUATION_FAILED),
    ("verdict", ALLOW._replace(effect="allow"), Reason.EVALUATION_FAILED),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("room", "answer", "reason"), FAILURES)
def test_a_room_that_cannot_answer_is_a_recorded_denial(room: str, answer: object, reason: Reason) -> None:
    decision, rooms = check(**{room: answer})
    assert not decision
    assert decision.effect is Effect.DENY
    assert decision.reason is reason
    assert decision.revision == "abc"
    assert [record.decision for record in rooms.records] == [decision]


def test_a_failure_is_an_alert_and_its_text_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "authz"):
        decision, _ = check(verdict=ValueError("the secret of the failure"))
    assert "the secret of the failure" in caplog.text
    assert "secret" not in decision.detail


@pytest.mark.parametrize("failure", [AuditError("full"), OSError(28, "no space"), ValueError("bug")])
def test_an_allow_that_cannot_be_recorded_is_refused(failure: Exception) -> None:
    decision, _ = check(sink=failure)
    assert not decision
    assert decision.effect is Effect.DENY
    assert decision.reason is Reason.AUDIT_UNAVAILABLE
    assert decision.reason.status == "UNAVAILABLE"


def test_a_denial_that_cannot_be_recorded_stays_that_denial() -> None:
    decision, _ = check(verdict=DENY, sink=AuditError("full"))
    assert decision.effect is Effect.DENY
    assert decision.reason is Reason.DENIED_BY_RULE


@pytest.mark.parametrize("call", [None, "x", 3, Call(None), Call("/a.B/C", (b"acme",))])  # type: ignore[arg-type]
def test_check_never_raises_and_never_allows_what_is_not_a_call(call: Call) -> None:
    # an authorizer that allows everything does not help: what cannot be recorded is not allowed
    assert not engine(Rooms()).check(call)


def test_no_credentials_are_given_as_an_empty_tuple() -> None:
    seen: list[object] = []
    rooms = Rooms()
    rooms.authenticate = lambda credentials, method, now: seen.append(credentials) or ALICE  # type: ignore[method-assign,func-returns-value]
    engine(rooms).check(CALL)
    assert seen == [()]


def test_a_call_is_decided_by_the_policy_that_it_was_read_by() -> None:
    rooms = Rooms()
    old, new = policy(rooms), policy(Rooms(verdict=DENY), "def")
    subject = Engine(rooms, rooms, old, rooms)
    began_with = subject.policy
    subject.adopt(new)
    assert subject.policy is new
    assert [(event.name, event.details["policy_version"]) for event in rooms.events] == [
        (EventName.POLICY_LOADED, "def")
    ]
    assert subject.check(CALL, (), began_with)
    assert not subject.check(CALL)


REGIONS = ApiMethod("/orders.Orders/Regions", Access.READ, Scope.CLUSTER)


@pytest.mark.parametrize("namespaces", [("acme",), ("acme", None), (None, "acme"), ("*",), ("",)])
def test_a_namespace_is_not_left_out_of_a_question_about_a_method_that_touches_none(
    namespaces: tuple[str, ...],
) -> None:
    rooms = Rooms()
    subject = Engine(rooms, rooms, policy(rooms, "abc", REGIONS), rooms)
    decision = subject.check(Call(REGIONS.method, namespaces))
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.NAMESPACE_UNEXPECTED)
    assert (decision.principal, decision.rule, decision.revision) == (ALICE, None, "abc")
    assert decision.detail.startswith("/orders.Orders/Regions touches no namespace")
    assert [record.decision for record in rooms.records] == [decision]
    assert subject.refuse(Call(REGIONS.method, namespaces)) is not None
    assert subject.permitted(Call(REGIONS.method), (), [name for name in namespaces if name]) == []


@pytest.mark.parametrize("namespaces", [(), (None,)])
def test_a_method_that_touches_no_namespace_is_asked_about_without_one(namespaces: tuple[None, ...]) -> None:
    rooms = Rooms()
    assert Engine(rooms, rooms, policy(rooms, "abc", REGIONS), rooms).check(Call(REGIONS.method, namespaces))


def test_a_record_tells_of_the_policy_that_decided_alone() -> None:
    read = ApiMethod(CALL.method, Access.READ, Scope.NAMESPACE, ("namespace",))
    rooms, nobody = Rooms(verdict=DENY), Rooms(principal=AuthenticationError(Reason.TOKEN_EXPIRED, "expired"))
    for asked in (rooms, nobody):
        old = policy(asked, "abc", read)
        subject = Engine(asked, asked, old, asked)
        subject.adopt(policy(asked, "def", replace(read, access=Access.ADMIN)))
        subject.check(CALL, (), old)
        subject.refuse(CALL, (), old)
        subject.permitted(CALL, (), ["acme"], old)
        subject.refuse_unproven(CALL, (), old)
        assert {record.access for record in asked.records} == {"read"}
        subject.check(CALL)
        assert asked.records[-1].access == "admin"
    assert nobody.records[-2].decision.revision == "abc", "of a caller who was refused before anything was decided"


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, None, {}),
        (None, "one", {"shadow_version": "one", "shadow_before": None}),
        ("one", "two", {"shadow_version": "two", "shadow_before": "one"}),
        ("one", "one", {"shadow_version": "one", "shadow_before": "one"}),
        ("one", None, {"shadow_version": None, "shadow_before": "one"}),
    ],
)
def test_a_change_of_the_shadow_is_recorded_as_one(
    before: str | None, now: str | None, told: dict[str, str | None]
) -> None:
    rooms = Rooms()
    subject = Engine(rooms, rooms, replace(policy(rooms), shadow=before), rooms)
    subject.adopt(replace(policy(rooms), shadow=now))
    (event,) = rooms.events
    assert event.details["before"] == event.details["policy_version"]
    assert {name: value for name, value in event.details.items() if name.startswith("shadow")} == told


def test_the_engine_starts_and_closes_what_runs_beside_it() -> None:
    rooms = Rooms()
    with engine(rooms):
        assert rooms.log == ["start"]
    assert rooms.log == ["start", "close", "close"]


def test_a_sink_without_an_end_is_left_alone() -> None:
    class Sink:
        def write(self, record: Entry) -> None: ...

    rooms = Rooms()
    Engine(rooms, rooms, policy(rooms), Sink()).close()
    assert rooms.log == ["start", "close"]


def test_the_record_has_the_caller_also_when_a_later_room_refuses() -> None:
    _, rooms = check(claims=MappingError(Reason.CLAIMS_MALFORMED, "odd"))
    line = json.loads(rooms.records[0].to_json(1, "w"))
    assert (line["sub"], line["roles"], line["reason"], line["reason_text"]) == (
        "user:corp:alice",
        None,
        "claims_malformed",
        "odd",
    )


def test_a_policy_that_is_refused_is_an_event_with_its_problems() -> None:
    rooms = Rooms()
    engine(rooms).reject(PolicyError([Problem(Place("policy.csv"), "is empty")]))
    assert [(event.name, event.details["problems"]) for event in rooms.events] == [
        (EventName.POLICY_REJECTED, ["policy.csv: is empty"])
    ]


def test_an_event_that_cannot_be_recorded_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rooms = Rooms(sink=AuditError("full"))
    engine(rooms).record(Event(EventName.KEYS_CHANGED))
    assert "keys.changed could not be recorded" in caplog.text


class AsyncRooms(Rooms):
    """As Rooms, with a sink that lets an event loop go on."""

    async def write_async(self, record: Entry) -> None:
        await asyncio.sleep(0)
        self.write(record)


class NeverWaiting(AsyncRooms):
    """As AsyncRooms, with a sink that has nothing to wait for."""

    waits = False

    async def write_async(self, record: Entry) -> None:
        raise AssertionError("it is not for this")


@pytest.mark.parametrize(("rooms", "waits"), [(Rooms, False), (AsyncRooms, True), (NeverWaiting, False)])
def test_whether_an_event_loop_has_to_wait_for_a_record(rooms: type[Rooms], waits: bool) -> None:
    assert engine(rooms()).waits is waits


@pytest.mark.parametrize("rooms", [Rooms, AsyncRooms, NeverWaiting])
async def test_on_an_event_loop_the_answer_is_the_same(rooms: type[Rooms]) -> None:
    allowed, failing = rooms(), rooms(sink=AuditError("full"))
    assert await engine(allowed).check_async(CALL, [BearerToken("x")])
    assert len(allowed.records) == 1
    refused = await engine(failing).check_async(CALL, [BearerToken("x")])
    assert refused.reason is Reason.AUDIT_UNAVAILABLE
    denied = rooms(sink=AuditError("full"), verdict=DENY)
    assert (await engine(denied).check_async(CALL)).reason is Reason.DENIED_BY_RULE
