"""Record: one decision, as the auditor reads it: a flat JSON object on one line.

Only what is listed here is ever written: no token, no metadata, no request, no value of a claim. What a stranger can
choose (a method, a user agent, a subject) is cut to a length and made printable before it is written.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Verdict

VERSION: Final = 1
_TEXT_LIMIT: Final = 256
_LIST_LIMIT: Final = 64
_SUBSTITUTE: Final = "\ufffd"


def new_id() -> str:
    """A fresh audit id: 28 hex digits, the first 12 the time in milliseconds, so that ids sort by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Record:
    """What happened, before a sink gives it a place in its log.

    Attributes:
        decision: the answer, with the caller as far as it is proven.
        call: what was asked.
        time_ns: when, in nanoseconds since the epoch.
        elapsed_ns: how long the decision took.
    """

    decision: Decision
    call: Call
    time_ns: int
    elapsed_ns: int

    def to_json(self, seq: int, writer: str) -> bytes:
        """The record as one line of JSON, with its line feed.

        Args:
            seq: the record's number in its log, from 1.
            writer: the id of the log's writer.
        """
        decision, call = self.decision, self.call
        principal, claims, rule = decision.principal, decision.claims, decision.rule
        fields: dict[str, object] = {
            "v": VERSION,
            "id": decision.audit_id,
            "seq": seq,
            "writer": writer,
            "time": utc(self.time_ns),
            "event": "decision",
            "decision": decision.effect.value,
            "reason": decision.reason.value,
            "reason_text": clean(decision.detail),
            "sub": clean(principal.id) if principal else None,
            "iss": principal.issuer if principal else None,
            "authn": principal.kind.value if principal else None,
            "key_id": clean(principal.key_id) if principal else None,
            "cert_fp": principal.fingerprint if principal else None,
            "roles": _roles(claims, call) if claims else None,
            "claims_used": list(claims.used)[:_LIST_LIMIT] if claims else None,
            "method": clean(call.method),
            "namespaces": [name if name is None else clean(name) for name in call.namespaces[:_LIST_LIMIT]],
            "rule": rule.text if rule else None,
            "rule_src": str(rule) if rule else None,
            "rule_chain": list(rule.chain) if rule else None,
            "policy_version": decision.revision or None,
            "peer": clean(call.peer),
            "user_agent": clean(call.user_agent),
            "trace_id": clean(call.trace_id),
            "span_id": clean(call.span_id),
            "grpc_code": decision.reason.status,
            "eval_us": self.elapsed_ns // 1000,
            "truncated": len(call.namespaces) > _LIST_LIMIT or len(call.method) > _TEXT_LIMIT,
        }
        if decision.shadow is not None:
            fields |= _shadow(decision.shadow)
        return orjson.dumps(fields) + b"\n"


def _shadow(verdict: Verdict) -> dict[str, object]:
    """The fields of a record of which the shadow policy would have decided otherwise; no other record has them."""
    return {
        "shadow_decision": verdict.effect.value,
        "shadow_reason": verdict.reason.value,
        "shadow_rule": verdict.rule.text if verdict.rule else None,
        "shadow_rule_src": str(verdict.rule) if verdict.rule else None,
        "shadow_version": verdict.revision or None,
    }


def _roles(claims: Claims, call: Call) -> list[str]:
    """The roles that could count for the call: ``admin`` system-wide, ``writer@orders`` in a namespace of the call."""
    here = [
        f"{role}@{name}"
        for name in call.namespaces[:_LIST_LIMIT]
        if name is not None
        for role in sorted(claims.namespaces.get(name, ()))
    ]
    return (sorted(claims.system) + here)[:_LIST_LIMIT]


def utc(time_ns: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    # whole numbers: a float of nanoseconds would round the microseconds
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def clean(text: str) -> str:
    """``text`` as it may stand in a log: at most 256 characters, each printable (no control, bidi or surrogate)."""
    short = text[:_TEXT_LIMIT]
    return short if short.isprintable() else "".join(c if c.isprintable() else _SUBSTITUTE for c in short)
