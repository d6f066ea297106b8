"""Record: one decision, as the auditor reads it: a flat JSON object on one line.

Only what is listed here is ever written: no token, no metadata, no request, no value of a claim. What a stranger can
choose (a method, a user agent, a subject) is cut to a length and made printable before it is written.
"""

from __future__ import annotations

import os
import random
import time
from typing import Final, NamedTuple

import orjson

from authz.audit.printable import LIST_LIMIT, TEXT_LIMIT, clean, utc
from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Decision, Verdict
from authz.policy.revision import NOWHERE

__all__ = ["VERSION", "Record", "clean", "new_id", "utc"]

VERSION: Final = 1
GENESIS: Final = "0" * 64
"""What stands for the hash of the line before the first."""
_NAME_LIMIT: Final = 512
_CODES: Final = {"allow": "AZ1001", "deny": "AZ1002", "no_opinion": "AZ1003"}


# Not `secrets`: an audit id need not be hard to guess, and reading from the kernel lets go of the GIL, which
# costs a server with many threads more than all the rest of a check.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


def new_id(time_ns: int | None = None) -> str:
    """A fresh audit id: 28 hex digits, the first 12 the time in milliseconds, so that ids sort by time.

    Args:
        time_ns: the time, in nanoseconds since the epoch; now, if it is not given.
    """
    return f"{(time.time_ns() if time_ns is None else time_ns) // 1_000_000:012x}{_random.getrandbits(64):016x}"


class Record(NamedTuple):
    """What happened, before a sink gives it a place in its log.

    Attributes:
        decision: the answer, with the caller as far as it is proven.
        call: what was asked.
        time_ns: when, in nanoseconds since the epoch.
        elapsed_ns: how long the decision took.
        access: what the API catalogue says that the method does; empty if it does not know the method.
    """

    decision: Decision
    call: Call
    time_ns: int
    elapsed_ns: int
    access: str = ""

    def fields(self) -> dict[str, object]:
        """The record's fields, without its place in a log."""
        decision, call = self.decision, self.call
        principal, claims, rule = decision.principal, decision.claims, decision.rule
        effect = decision.effect.value
        method = clean(call.method, _NAME_LIMIT)
        sub = clean(principal.id, _NAME_LIMIT) if principal else None
        names: list[str | None] = [
            name if name is None else clean(name) for name in call.namespaces[:LIST_LIMIT] or (None,)
        ]
        ip, port = _address(clean(call.peer))
        roles = None if claims is None else _roles(claims, call)
        cut = (
            len(call.namespaces) > LIST_LIMIT
            or len(call.method) > _NAME_LIMIT
            or (principal is not None and len(principal.id) > _NAME_LIMIT)
            or (roles is not None and len(roles) > LIST_LIMIT)
        )
        fields: dict[str, object] = {
            "event": "decision",
            "id": decision.audit_id,
            "time": utc(self.time_ns),
            "code": _CODES[effect],
            "decision": effect,
            "reason": decision.reason.value,
            "reason_text": clean(decision.detail),
            "sub": sub,
            "iss": principal.issuer if principal else None,
            "authn": principal.kind.value if principal else None,
            "key_id": clean(principal.key_id) if principal else None,
            "cert_fp": principal.fingerprint if principal else None,
            "roles": None if roles is None else roles[:LIST_LIMIT],
            "claims_used": list(claims.used)[:LIST_LIMIT] if claims else None,
            "namespace": names[0],
            "namespaces": names,
            "service": method[1:].rpartition("/")[0],
            "method": method,
            "stream": call.message,
            "request": [sub, ",".join(name or NOWHERE for name in names), method, self.access],
            "unreadable": None if call.unreadable is None else clean(call.unreadable),
            "rule": clean(rule.text, 4 * TEXT_LIMIT) if rule else None,
            "rule_src": str(rule) if rule else None,
            "rule_chain": list(rule.chain)[:LIST_LIMIT] if rule else None,
            "policy_version": decision.revision or None,
            "peer": clean(call.peer),
            "peer_ip": ip,
            "peer_port": port,
            "user_agent": clean(call.user_agent),
            "grpc_code": decision.reason.status,
            "redacted": [],
            "truncated": cut,
            "trace_id": clean(call.trace_id),
            "span_id": clean(call.span_id),
            "eval_us": self.elapsed_ns // 1000,
        }
        if decision.shadow is not None:
            fields |= _shadow(decision.shadow)
        if not call.enforced:
            # the caller was let in, whatever was decided; no other record has the field
            fields |= {"enforced": False, "grpc_code": "OK"}
        return fields

    def to_json(self, seq: int, writer: str, prev: str = GENESIS) -> bytes:
        """The record as one line of JSON, with its line feed.

        Args:
            seq: the record's number in its log, from 1.
            writer: the id of the log's writer.
            prev: SHA-256 (hex) of the line before.
        """
        place: dict[str, object] = {"v": VERSION, "writer": writer, "seq": seq, "prev": prev}
        return orjson.dumps(place | self.fields()) + b"\n"


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
        for name in call.namespaces[:LIST_LIMIT]
        if name is not None
        for role in sorted(claims.namespaces.get(name, ()))
    ]
    return sorted(claims.system) + here


def _address(peer: str) -> tuple[str | None, int | None]:
    """The address and port in gRPC's name for a peer: ``ipv4:127.0.0.1:40412``, ``ipv6:%5B::1%5D:40412``."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None, None
    host, _, port = rest.rpartition(":")
    if kind == "ipv6":
        host = host.replace("%5B", "").replace("%5D", "").strip("[]")
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None
