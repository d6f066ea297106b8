from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.record import Record, clean, new_id, utc
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Effect, Rule
from authz.errors import Place
from authz.reason import Reason

CLAIMS_SET = {"sub": "alice", "secret": "hunter2"}
ALICE = Principal(PrincipalKind.TOKEN, "corp", "alice", "corp:", 9e9, CLAIMS_SET, key_id="k1")
CLAIMS = Claims(ALICE, frozenset({"reader"}), {"acme": frozenset({"writer", "admin"}), "other": frozenset({"x"})})
RULE = Rule("p, role:reader, *, *, read, allow", Place("p.csv", 3), ("role:reader",))
ALLOWED = Decision(Effect.ALLOW, Reason.ALLOWED, RULE, "abc", ALICE, CLAIMS, "id1")
CALL = Call("/a.B/C", ("acme",), None, "ipv4:127.0.0.1:9", "grpc-python", "0" * 32, "1" * 16)


def line(decision: Decision = ALLOWED, call: Call = CALL) -> dict[str, Any]:
    data = Record(decision, call, 1_700_000_000_123_456_789, 12_345).to_json(7, "w1")
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    fields: dict[str, Any] = json.loads(data)
    return fields


def test_a_record_is_one_flat_line() -> None:
    assert line() == {
        "v": 1,
        "id": "id1",
        "seq": 7,
        "writer": "w1",
        "time": "2023-11-14T22:13:20.123456Z",
        "event": "decision",
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
        "method": "/a.B/C",
        "namespaces": ["acme"],
        "rule": "p, role:reader, *, *, read, allow",
        "rule_src": "p.csv:3",
        "rule_chain": ["role:reader"],
        "policy_version": "abc",
        "peer": "ipv4:127.0.0.1:9",
        "user_agent": "grpc-python",
        "trace_id": "0" * 32,
        "span_id": "1" * 16,
        "grpc_code": "OK",
        "eval_us": 12,
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
        assert len(fields[key]) <= 256


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
