"""Answer: what a refused caller is told: a code, a generic sentence, the audit id, and a google.rpc.ErrorInfo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from authz.decision.base import Decision
from authz.reason import Reason

AUDIT_ID_KEY: Final = "x-audit-id"
DOMAIN: Final = "authz"
_DETAILS_KEY: Final = "grpc-status-details-bin"
_SENTENCES: Final = {
    "UNAUTHENTICATED": "no credential that is accepted here",
    "PERMISSION_DENIED": "not allowed",
    "RESOURCE_EXHAUSTED": "too many credentials that were refused, try again later",
    "UNAVAILABLE": "authorization is not available, try again later",
    "INTERNAL": "authorization failed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a refused caller is told.

    Attributes:
        code: the gRPC status code.
        text: the generic sentence, with the audit id.
        trailers: ``x-audit-id``, and ``grpc-status-details-bin`` with a ``google.rpc.Status`` that holds an ErrorInfo.
    """

    code: grpc.StatusCode
    text: str
    trailers: tuple[tuple[str, str | bytes], ...]


def answer(decision: Decision, *, show_reasons: bool) -> Answer:
    """The answer to send for a ``decision`` that is not an allow.

    Args:
        decision: the denial.
        show_reasons: put the reason code into the ErrorInfo, in place of the code's name.
    """
    # an allow has no answer; should one come here all the same, it is a failure
    status = decision.reason.status if decision.reason is not Reason.ALLOWED else "INTERNAL"
    code = grpc.StatusCode[status]
    text = f"{_SENTENCES[status]} (audit id {decision.audit_id})"
    info = error_details_pb2.ErrorInfo(
        reason=decision.reason.value.upper() if show_reasons else status,
        domain=DOMAIN,
        metadata={"audit_id": decision.audit_id},
    )
    details = status_pb2.Status(code=code.value[0], message=text)
    details.details.add().Pack(info)
    return Answer(code, text, ((AUDIT_ID_KEY, decision.audit_id), (_DETAILS_KEY, details.SerializeToString())))
