"""Engine: the corridor, from what a caller showed to a decision that is already recorded."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Protocol

from authz.audit.base import AuditSink
from authz.audit.record import Record, new_id
from authz.authn.base import Principal
from authz.call import Call
from authz.claims.base import ClaimMapper, Claims
from authz.credentials import Credentials
from authz.decision.base import Authorizer, Decision, Effect, Verdict
from authz.errors import AuthenticationError, MappingError
from authz.policy.revision import Revision
from authz.reason import Reason

_log = logging.getLogger("authz")


@dataclass(frozen=True, slots=True)
class Policy:
    """A revision with the authorizer made from it: what is swapped as one when the policy changes."""

    revision: Revision
    authorizer: Authorizer


class Authentication(Protocol):
    """Proves who calls from everything that was shown: the chain of authenticators."""

    def authenticate(self, credentials: Credentials, method: str, now: float) -> Principal:
        """The one proven principal of a call.

        Raises:
            AuthenticationError: nobody is proven, with the reason.
        """
        ...

    def start(self) -> None:
        """Begin what runs beside the calls, such as the refreshing of keys."""
        ...

    def close(self) -> None:
        """End what :meth:`start` began."""
        ...


class Engine:
    """Answers *may this caller make this call?* for every adapter. Thread-safe; make one for a server and share it.

    Made by :func:`authz.load_config`; a context manager that closes what it opened.

    Args:
        authentication: credentials -> principal.
        mapper: principal -> claims.
        policy: the policy in force, until :meth:`adopt` is given another.
        sink: where the records go.
    """

    def __init__(self, authentication: Authentication, mapper: ClaimMapper, policy: Policy, sink: AuditSink) -> None:
        self._authentication = authentication
        self._mapper = mapper
        self._policy = policy
        self._sink = sink
        authentication.start()

    @property
    def policy(self) -> Policy:
        """The policy in force. An adapter takes it once for a call, reads the call by it and passes it on."""
        return self._policy

    def adopt(self, policy: Policy) -> None:
        """Put ``policy`` in force for the calls that begin from now on. One under way ends on the one it began with."""
        self._policy = policy

    def check(self, call: Call, credentials: Credentials = (), policy: Policy | None = None) -> Decision:
        """Decide one call, and record the decision before it is returned.

        Never raises, does no network I/O, and writes exactly one audit record. What cannot be answered is a denial: an
        unproven caller, a policy that cannot be evaluated, an allow that cannot be recorded.

        Args:
            call: what is asked.
            credentials: everything that the caller showed; empty if nothing.
            policy: the policy by which the call's namespaces were read; the one in force if not given.

        Returns:
            the decision; ``if decision:`` is true only for an allow.
        """
        began = time.perf_counter_ns()
        time_ns = time.time_ns()
        audit_id = new_id()
        under = policy or self._policy
        principal: Principal | None = None
        claims: Claims | None = None
        try:
            principal = self._authentication.authenticate(credentials, call.method, time_ns / 1e9)
            claims = self._mapper.map(principal)
            if claims.expires_at is not None and claims.expires_at <= time_ns / 1e9:
                raise MappingError(Reason.CLAIMS_EXPIRED, "the roles of the caller have ended")
            verdict = under.authorizer.authorize(claims, call)
            decision = _decide(verdict, principal, claims, audit_id)
        except (AuthenticationError, MappingError) as exc:
            verdict = Verdict(Effect.DENY, exc.reason, revision=under.revision.id, detail=exc.detail)
            decision = _decide(verdict, principal, claims, audit_id)
        except Exception as exc:
            # no answer is a denial that somebody must look at: the log carries what the caller must not see
            _log.exception("a call to %.256r could not be decided", getattr(call, "method", None))
            detail = f"{type(exc).__name__} while deciding"
            verdict = Verdict(Effect.DENY, Reason.EVALUATION_FAILED, revision=under.revision.id, detail=detail)
            decision = _decide(verdict, principal, claims, audit_id)
        try:
            self._sink.write(Record(decision, call, time_ns, time.perf_counter_ns() - began))
        except Exception:
            _log.exception("the decision %s could not be recorded", decision.audit_id)
            if decision:
                unrecorded = Verdict(
                    Effect.DENY, Reason.AUDIT_UNAVAILABLE, verdict.rule, verdict.revision, detail="the audit log failed"
                )
                return _decide(unrecorded, principal, claims, audit_id)
        return decision

    def close(self) -> None:
        """Stop what runs in the background, and close the audit log. A check after this is refused."""
        self._authentication.close()
        close = getattr(self._sink, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decide(verdict: Verdict, principal: Principal | None, claims: Claims | None, audit_id: str) -> Decision:
    return Decision(
        verdict.effect,
        verdict.reason,
        verdict.rule,
        verdict.revision,
        principal,
        claims,
        audit_id,
        verdict.detail,
        verdict.shadow,
    )
