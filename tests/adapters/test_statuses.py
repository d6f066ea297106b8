"""Every reason has an answer in every adapter: a status that one does not know would be an error, no refusal."""

from __future__ import annotations

import grpc
import pytest

from authz.adapters.answer import answer
from authz.adapters.ext_authz import reply
from authz.decision.base import Decision, Effect
from authz.reason import Reason


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_can_be_answered(reason: Reason) -> None:
    decision = Decision(Effect.DENY, reason, None, "", None, None, "id")
    told = answer(decision, show_reasons=False)
    assert told.code is not grpc.StatusCode.OK
    assert "id" in told.text
    status = told.code.name
    assert 400 <= reply._HTTP[status] < 600
    assert 400 <= reply._GRPC[status] < 600
