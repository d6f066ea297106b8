"""Reply: from a decision to Envoy's CheckResponse.

To Envoy an empty response is an allow, and so is a denial with the status 0: what is made here is never either by
accident. Headers overwrite what a client sent.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf import struct_pb2

from authz.adapters.answer import AUDIT_ID_KEY, answer
from authz.adapters.ext_authz.question import Question
from authz.adapters.outgoing import Outgoing, hyphenated
from authz.decision.base import Decision

_OVERWRITE: Final = base_pb2.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_HTTP: Final = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,  # which is UNAVAILABLE in Envoy's table
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
}
# Envoy makes a gRPC status of the HTTP status that it is told: in its table 500 is UNKNOWN, and 400 is INTERNAL
_GRPC: Final = {**_HTTP, "INTERNAL": 400}
# servers that listen to these do something else than what was decided
_OVERRIDES: Final = ("x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url")


def reply(
    decision: Decision, question: Question, outgoing: Outgoing, *, shadow: bool = False, show_reasons: bool = False
) -> Any:
    """The ``CheckResponse`` for ``decision``; with ``shadow`` it allows, whatever was decided."""
    response = (
        _allowed(decision, question, outgoing) if decision or shadow else _denied(decision, question.grpc, show_reasons)
    )
    told = {
        "decision": decision.effect.value,
        "reason": decision.reason.value,
        "audit_id": decision.audit_id,
        "principal": decision.principal.id if decision.principal else "",
        "rule": str(decision.rule or ""),
        "policy_version": decision.revision,
        "enforced": not shadow,
    }
    metadata = struct_pb2.Struct()
    metadata.update(told)
    response.dynamic_metadata.CopyFrom(metadata)
    return response


def failed() -> Any:
    """The response to a question that could not be answered at all."""
    response = auth.CheckResponse()
    response.status.code = 13
    response.denied_response.status.code = _GRPC["INTERNAL"]
    response.denied_response.body = "authorization failed"
    return response


def _allowed(decision: Decision, question: Question, outgoing: Outgoing) -> Any:
    response = auth.CheckResponse()
    response.status.code = 0
    ok = response.ok_response
    told = outgoing.identity(decision, question.call.namespaces) if decision else []
    for key, value in told:
        _set(ok.headers, key, str(value))
    _set(ok.response_headers_to_add, AUDIT_ID_KEY, decision.audit_id)
    forged = {name for name in question.headers if outgoing.forged(name) or hyphenated(name) in _OVERRIDES}
    removed = (outgoing.never | forged | set(_OVERRIDES)) - {key for key, _ in told}
    ok.headers_to_remove.extend(sorted(removed))
    return response


def _denied(decision: Decision, grpc: bool, show_reasons: bool) -> Any:
    told = answer(decision, show_reasons=show_reasons)
    name = told.code.name
    response = auth.CheckResponse()
    response.status.code = told.code.value[0]
    response.status.message = told.text
    denied = response.denied_response
    denied.status.code = _GRPC[name] if grpc else _HTTP[name]
    for key, value in told.trailers:
        if isinstance(value, bytes):
            if not grpc:
                continue
            value = base64.b64encode(value).decode("ascii")  # as gRPC sends what ends with -bin
        _set(denied.headers, key, value)
    if grpc:
        denied.body = told.text
        return response
    _set(denied.headers, "content-type", "application/json")
    if name == "UNAUTHENTICATED":
        _set(denied.headers, "www-authenticate", "Bearer")
    denied.body = json.dumps({"code": name, "message": told.text, "audit_id": decision.audit_id})
    return response


def _set(headers: Any, key: str, value: str) -> None:
    option = headers.add()
    option.header.key = key
    option.header.value = value
    option.append_action = _OVERWRITE
