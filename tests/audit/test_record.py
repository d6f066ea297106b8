from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.event import Event, EventName
from authz.audit.record import Record, clean, new_id, utc
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Effect, Rule, Verdict
from authz.errors import Place
from authz.reason import Reason

CLAIMS_SET = {"sub": "alice", "secret": "hunter2"}
ALICE = Principal(PrincipalKind.TOKEN, "corp", "alice", "corp:", 9e9, CLAIMS_SET, key_id="k1")
CLAIMS = Claims(ALICE, frozenset({"reader"}), {"acme": frozenset({"writer", "admin"}), "other": frozenset({"x"})})
RULE = Rule("p, role:reader, *, *, read, allow", Place("p.csv", 3), ("role:reader",))
ALLOWED = Decision(Effect.ALLOW, Reason.ALLOWED, RULE, "abc", ALICE, CLAIMS, "id1")
CALL = Call("/a.B/C", ("acme",), None, "ipv4:127.0.0.1:9", "grpc-python", "0" * 32, "1" * 16)


def line(decision: Decision = ALLOWED, call: Call = CALL) -> dict[str, Any]:
    data = Record(decision, call, 1_700_000_000_123_456_789, 12_345, "read").to_json(7, "w1")
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    fields: dict[str, Any] = json.loads(data)
    return fields


def test_a_record_is_one_flat_line() -> None:
    assert line() == {
        "v": 1,
        "writer": "w1",
        "seq": 7,
        "prev": "0" * 64,
        "event": "decision",
        "id": "id1",
        "time": "2023-11-14T22:13:20.123456Z",
        "code": "AZ1001",
        "decision": "allow",
        "reason": "allowed",
        "reason_text": "",
        "sub": "user:corp:alice",
        "iss": "corp",
        "authn": "token",
        "key_id": "k1",
        "cert_fp": "",
        "roles": ["reader", "admin@acme", "writer@acme"],
        "claims_used": [],
        "namespace": "acme",
        "namespaces": ["acme"],
        "service": "a.B",
        "method": "/a.B/C",
        "stream": 0,
        "request": ["user:corp:alice", "acme", "/a.B/C", "read"],
        "unreadable": None,
        "rule": "p, role:reader, *, *, read, allow",
        "rule_src": "p.csv:3",
        "rule_chain": ["role:reader"],
        "policy_version": "abc",
        "peer": "ipv4:127.0.0.1:9",
        "peer_ip": "127.0.0.1",
        "peer_port": 9,
        "user_agent": "grpc-python",
        "trace_id": "0" * 32,
        "span_id": "1" * 16,
        "grpc_code": "OK",
        "eval_us": 12,
        "redacted": [],
        "truncated": False,
    }


def test_nobody_and_no_rule_are_null() -> None:
    nobody = Decision(Effect.DENY, Reason.TOKEN_EXPIRED, None, "", None, None, "id2", "expired")
    fields = line(nobody, Call("/a.B/C", (None,)))
    absent = ["sub", "iss", "authn", "key_id", "cert_fp", "roles", "claims_used", "rule", "rule_src", "rule_chain"]
    assert {fields[name] for name in [*absent, "policy_version"]} == {None}
    assert fields["namespaces"] == [None]
    assert fields["grpc_code"] == "UNAUTHENTICATED"


def test_no_value_of_a_claim_is_written() -> None:
    assert "hunter2" not in json.dumps(line())
    assert "hunter2" not in repr(ALLOWED)


@given(st.text(alphabet=st.characters(), max_size=600), st.text(alphabet=st.characters(), max_size=300))
def test_whatever_a_stranger_writes_stays_one_short_printable_line(text: str, name: str) -> None:
    fields = line(call=Call(text, (name, None), None, text, text, text, text))
    for key in ("method", "peer", "user_agent", "trace_id", "span_id"):
        assert fields[key].isprintable()
        assert len(fields[key]) <= (512 if key == "method" else 256)


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\ud800b", "a\0b", "a\u2028b"])
def test_controls_bidi_and_surrogates_are_replaced(text: str) -> None:
    assert clean(text).startswith("a\ufffd")


def test_long_lists_are_cut_and_marked() -> None:
    fields = line(call=Call("/a.B/C", tuple(f"n{i}" for i in range(100))))
    assert len(fields["namespaces"]) == 64
    assert fields["truncated"]


def test_ids_are_different_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert sorted(i[:12] for i in ids) == [i[:12] for i in ids]


def test_time_is_utc_with_microseconds() -> None:
    assert utc(0) == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("peer", "ip", "port"),
    [
        ("ipv4:10.0.0.7:40412", "10.0.0.7", 40412),
        ("ipv6:%5B::1%5D:50051", "::1", 50051),
        ("ipv6:[2001:db8::1]:50051", "2001:db8::1", 50051),
        ("ipv4:10.0.0.7:port", "10.0.0.7", None),
        ("unix:/run/a.sock", None, None),
        ("", None, None),
    ],
)
def test_a_peer_is_an_address_and_a_port(peer: str, ip: str | None, port: int | None) -> None:
    fields = line(call=Call("/a.B/C", peer=peer))
    assert (fields["peer_ip"], fields["peer_port"]) == (ip, port)


def test_a_call_outside_every_namespace_is_said_to_be() -> None:
    fields = line(call=Call("/a.B/C"))
    assert (fields["namespace"], fields["namespaces"], fields["request"][1]) == (None, [None], "@cluster")


def test_an_event_is_a_flat_line_that_nothing_can_break() -> None:
    details = {"a\nb": "x\x1b[31m", "big": 2**70, "list": ["\ud800"] * 100, "none": None, "yes": True, "o": object}
    data = Event(EventName.CONFIG, details, 1).to_json(1, "w")
    fields = json.loads(data)
    assert data.count(b"\n") == 1
    assert (fields["event"], fields["code"], fields["time"]) == ("config", "AZ3001", "1970-01-01T00:00:00.000000Z")
    assert (fields["a\ufffdb"], fields["big"], len(fields["list"])) == ("x\ufffd[31m", str(2**70), 64)


def test_an_answer_that_does_not_bind_the_caller_is_said_to_be_none() -> None:
    denied = Decision(Effect.DENY, Reason.DENIED_BY_RULE, RULE, "abc", ALICE, CLAIMS, "id1")
    fields = line(denied, call=Call("/a.B/C", enforced=False))
    assert (fields["decision"], fields["enforced"], fields["grpc_code"]) == ("deny", False, "OK")
    assert "enforced" not in line(denied, call=Call("/a.B/C"))


def test_what_the_shadow_policy_says_is_recorded_too() -> None:
    shadow = Verdict(Effect.DENY, Reason.DENIED_BY_RULE, RULE, "def")
    fields = line(Decision(Effect.ALLOW, Reason.ALLOWED, RULE, "abc", ALICE, CLAIMS, "id1", "", shadow))
    assert (fields["shadow_decision"], fields["shadow_version"], fields["shadow_rule_src"]) == (
        "deny",
        "def",
        "p.csv:3",
    )
