"""The fast encoder writes what the slow one writes."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.encoder import Encoder
from authz.audit.masking import Masking
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Effect, Verdict
from authz.reason import Reason
from tests.audit.logs import ALICE, record

MASKINGS = [None, Masking(b"k" * 32), Masking(None, hide=["peer_ip"]), Masking(b"k" * 32, hide=["trace_id"])]
TEXT = st.text(alphabet=st.characters(), max_size=40) | st.sampled_from(["", "0" * 32, '"', "\\", "\ud800", "é"])


@pytest.mark.parametrize("masking", MASKINGS)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.booleans(), st.integers(0, 3)), min_size=1, max_size=6))
def test_both_write_the_same_bytes(masking: Masking | None, calls: list[tuple[str, str, str, bool, int]]) -> None:
    encoder = Encoder(masking)
    for method, agent, trace, allow, message in calls * 2:
        entry = record(allow=allow)
        call = Call(method, (agent, None), None, f"ipv4:{agent}:1", agent, trace, trace, message)
        entry = entry._replace(call=call)
        assert f"{{{encoder.encode(entry)}}}".encode() == orjson.dumps(encoder.fields(entry))


def test_no_caller_is_taken_for_another() -> None:
    encoder = Encoder()
    for number in range(5000):
        claims = Claims(replace(ALICE, subject=f"u{number}"))
        assert f'"sub":"user:corp:u{number}"' in encoder.encode(record(claims=claims))


def test_an_answer_that_binds_nobody_is_not_taken_for_one_that_does() -> None:
    encoder, entry = Encoder(), record(allow=False)
    encoder.encode(entry)
    unbound = entry._replace(call=entry.call._replace(enforced=False))
    assert '"enforced":false' in encoder.encode(unbound)
    assert '"enforced"' not in encoder.encode(entry)


def test_what_the_shadow_says_is_not_forgotten() -> None:
    encoder, entry = Encoder(), record()
    encoder.encode(entry)
    shadow = Verdict(Effect.DENY, Reason.NO_RULE)
    shadowed = entry._replace(decision=entry.decision._replace(shadow=shadow))
    assert '"shadow_decision":"deny"' in encoder.encode(shadowed)
