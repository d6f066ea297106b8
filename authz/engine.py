"""Engine: the corridor, from what a caller showed to a decision that is already recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from authz.audit.base import AuditSink
from authz.audit.event import Event, EventName
from authz.audit.record import Record, new_id
from authz.authn.base import Principal
from authz.authn.failure_limit import FailureLimit
from authz.call import ApiMethod, Call, Scope
from authz.claims.base import ClaimMapper, Claims
from authz.credentials import Credentials
from authz.decision.base import Authorizer, Decision, Effect, Verdict
from authz.enforcement import Enforcement
from authz.errors import AuthenticationError, MappingError, PolicyError
from authz.policy.revision import Revision
from authz.reason import Reason

_log = logging.getLogger("authz")
_PROBLEMS_LIMIT: Final = 20
_CLUSTER: Final = Scope.CLUSTER


@dataclass(frozen=True, slots=True)
class Policy:
    """A revision with the authorizer made from it: what is swapped as one when the policy changes.

    Attributes:
        revision: the bundle in force.
        authorizer: decides by it.
        shadow: SHA-256 (hex) of the bundle that is asked beside it without effect; None: there is none.
    """

    revision: Revision
    authorizer: Authorizer
    shadow: str | None = None


class Authentication(Protocol):
    """Proves who calls from everything that was shown: the chain of authenticators."""

    def authenticate(self, credentials: Credentials, method: str, now: float) -> Principal:
        """The one proven principal of a call.

        Raises:
            AuthenticationError: nobody is proven, with the reason.
        """
        ...

    def recognizes(self, credentials: Credentials) -> bool:
        """Whether these very credentials were proven lately. Cheap, and no proof."""
        ...

    @property
    def reads_certificates(self) -> bool:
        """Whether a client certificate counts as a credential; if not, an adapter need not look for one."""
        ...

    def start(self) -> None:
        """Begin what runs beside the calls, such as the refreshing of keys."""
        ...

    def close(self) -> None:
        """End what :meth:`start` began."""
        ...


class Beside(Protocol):
    """Something that runs beside the calls, in a thread of its own."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


class Observer(Protocol):
    """Is told of each decision after it was recorded, such as for metrics. It has no say in it."""

    def observe(self, decision: Decision, call: Call, elapsed_ns: int) -> None:
        """Take note of ``decision`` on ``call``, which took ``elapsed_ns``. What it raises is logged, and no more."""
        ...


class _Answer(NamedTuple):
    """What the rooms said: a verdict, with the caller as far as one is proven, and the method as they know it."""

    verdict: Verdict
    principal: Principal | None
    claims: Claims | None
    api: ApiMethod | None
    time_ns: int


class Engine:
    """Answers *may this caller make this call?* for every adapter. Thread-safe; make one for a server and share it.

    Made by :func:`authz.load_config`; a context manager that closes what it opened.

    Args:
        authentication: credentials -> principal.
        mapper: principal -> claims.
        policy: the policy in force, until :meth:`adopt` is given another.
        sink: where the records go.
        enforcement: the operator's choices, for the adapters.
        observers: are told of each decision.
        failure_limit: how many refused credentials a peer may show; None: as many as it likes.
    """

    def __init__(
        self,
        authentication: Authentication,
        mapper: ClaimMapper,
        policy: Policy,
        sink: AuditSink,
        enforcement: Enforcement | None = None,
        observers: Iterable[Observer] = (),
        failure_limit: FailureLimit | None = None,
    ) -> None:
        self._authentication = authentication
        self._mapper = mapper
        self._policy = policy
        self._sink = sink
        self._observers = tuple(observers)
        self._beside: list[Beside] = []
        self._write_async = getattr(sink, "write_async", None)
        self.waits = self._write_async is not None and bool(getattr(sink, "waits", True))
        """Whether a record may wait for a disk, so that on an event loop :meth:`check_async` is the one to use."""
        self._failure_limit = failure_limit
        self.enforcement = enforcement or Enforcement()
        self.reads_certificates = authentication.reads_certificates
        tell_changes = getattr(authentication, "tell_changes", None)
        if tell_changes is not None:
            tell_changes(lambda name: self.record(Event(EventName.KEYS_CHANGED, {"source": name})))
        authentication.start()

    @property
    def policy(self) -> Policy:
        """The policy in force. An adapter takes it once to decide a call, reads the call by it and passes it on."""
        return self._policy

    def adopt(self, policy: Policy) -> None:
        """Put ``policy`` in force for the calls that begin from now on.

        Adapters decide a call that is under way again by it, see :class:`authz.enforcement.Recheck`.
        """
        before = self._policy
        self._policy = policy
        self.record(policy_loaded(policy.revision, before.revision.id, policy.shadow, before.shadow))

    def run_beside(self, part: Beside) -> None:
        """Start ``part``, such as a watcher of the policy's files, and stop it when the engine is closed."""
        self._beside.append(part)
        part.start()

    def reject(self, error: PolicyError) -> None:
        """Record that a policy was refused, and why; the one in force stays."""
        problems = [str(problem) for problem in error.problems]
        details = {
            "policy_version": self._policy.revision.id,
            "bundle": str(self._policy.revision.path),
            "problems": problems[:_PROBLEMS_LIMIT],
            "count": len(problems),
        }
        self.record(Event(EventName.POLICY_REJECTED, details))

    def record(self, event: Event) -> None:
        """Write an event of the system itself into the audit log. Never raises: what is lost, the log accounts for."""
        try:
            self._sink.write(event)
        except Exception:
            _log.exception("the event %s could not be recorded", event.name)

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
        under = policy or self._policy
        return self._record(self._begin(call, credentials, under), call, began)

    async def check_async(self, call: Call, credentials: Credentials = (), policy: Policy | None = None) -> Decision:
        """As :meth:`check`, for an event loop: while the audit log waits for the disk, other calls go on.

        The decision itself takes microseconds and is made on the spot.
        """
        if not self.waits or self._write_async is None:
            return self.check(call, credentials, policy)
        began = time.perf_counter_ns()
        under = policy or self._policy
        record = self._to_record(self._begin(call, credentials, under), call, began)
        try:
            await self._write_async(record)
        except Exception:
            return self._observed(_unrecorded(record.decision), call, began)
        return self._observed(record.decision, call, began)

    def refuse(self, call: Call, credentials: Credentials = (), policy: Policy | None = None) -> Decision | None:
        """Whether ``call`` is refused, without an answer if it is not.

        For looking again at a call that was allowed: it is recorded only if it is refused now.

        Returns:
            the denial, already recorded; None, and no record, if the call is allowed.
        """
        began = time.perf_counter_ns()
        answer = self._answer(call, credentials, policy or self._policy)
        return None if answer.verdict.effect is Effect.ALLOW else self._record(answer, call, began)

    def refuse_unproven(
        self, call: Call, credentials: Credentials = (), policy: Policy | None = None
    ) -> Decision | None:
        """Whether ``call`` is refused for who makes it, whatever it turns out to ask.

        For refusing a caller before the first message is waited for: the namespaces of ``call`` are not looked at.
        ``policy`` is as for :meth:`check`.

        Returns:
            the denial, already recorded; None, and no record, if the caller is proven.
        """
        began = time.perf_counter_ns()
        answer = self._begin(call, credentials, policy or self._policy, only_proven=True)
        return None if answer.verdict.effect is Effect.ALLOW else self._record(answer, call, began)

    def permitted(
        self, call: Call, credentials: Credentials, namespaces: Iterable[str], policy: Policy | None = None
    ) -> list[str]:
        """Those of ``namespaces`` in which the caller may make ``call``, in one go and with one record.

        The record is of ``call`` in the namespaces that are returned; if there is none, of the denial.

        Args:
            call: what is asked; its own namespaces are not looked at.
            credentials: everything that the caller showed.
            namespaces: where it is asked, each for itself.
            policy: as for :meth:`check`.

        Returns:
            the namespaces that are allowed, in the order given; empty if the allow cannot be recorded.
        """
        began = time.perf_counter_ns()
        under = policy or self._policy
        nothing = Verdict(Effect.NO_OPINION, Reason.NO_RULE, revision=under.revision.id)
        last = _Answer(nothing, None, None, under.revision.catalogue.find(call.method), time.time_ns())
        allowed: list[str] = []
        best: _Answer | None = None
        for namespace in namespaces:
            last = self._answer(call._replace(namespaces=(namespace,)), credentials, under)
            if last.verdict.effect is Effect.ALLOW:
                best = best or last
                allowed.append(namespace)
        decision = self._record(best or last, call._replace(namespaces=tuple(allowed)), began)
        return allowed if decision else []

    def _begin(self, call: Call, credentials: Credentials, policy: Policy, *, only_proven: bool = False) -> _Answer:
        """As :meth:`_answer`, for a call that begins: what a peer shows after too many failures is not looked at.

        Who shows nothing, or what was proven lately, does not try to find something out, and is not limited.
        """
        limit = self._failure_limit
        if limit is None or not credentials:
            return self._answer(call, credentials, policy, only_proven=only_proven)
        try:
            if limit.limits(call.peer) and not self._authentication.recognizes(credentials):
                detail = "the peer has shown too many credentials that were refused"
                verdict = Verdict(Effect.DENY, Reason.PEER_LIMITED, revision=policy.revision.id, detail=detail)
                return _Answer(verdict, None, None, policy.revision.catalogue.find(call.method), time.time_ns())
            answer = self._answer(call, credentials, policy, only_proven=only_proven)
            # not counted: what is refused because something of ours is missing, or of a caller who is proven
            if answer.principal is None and answer.verdict.reason.status == "UNAUTHENTICATED":
                limit.failed(call.peer)
        except Exception:
            _log.exception("the failures of %.256r cannot be counted", getattr(call, "peer", None))
            return self._answer(call, credentials, policy, only_proven=only_proven)
        return answer

    def _answer(self, call: Call, credentials: Credentials, policy: Policy, *, only_proven: bool = False) -> _Answer:
        """What the rooms say; with ``only_proven``, an allow if the caller is proven."""
        principal: Principal | None = None
        claims: Claims | None = None
        api: ApiMethod | None = None
        # one clock reading for all: by what time the credential is good, the record is dated, and its id made
        time_ns = time.time_ns()
        now = time_ns / 1e9
        try:
            api = policy.revision.catalogue.find(call.method)
            principal = self._authentication.authenticate(credentials, call.method, now)
            claims = self._mapper.map(principal)
            if claims.expires_at is not None and claims.expires_at <= now:
                raise MappingError(Reason.CLAIMS_EXPIRED, "the roles of the caller have ended")
            if only_proven:
                return _Answer(_PROVEN, principal, claims, api, time_ns)
            if api is not None and api.scope is _CLUSTER and any(name is not None for name in call.namespaces):
                # to leave the namespaces out would be an answer to another question
                detail = f"{call.method} touches no namespace; ask in a namespace about a method that does"
                verdict = Verdict(Effect.DENY, Reason.NAMESPACE_UNEXPECTED, revision=policy.revision.id, detail=detail)
                return _Answer(verdict, principal, claims, api, time_ns)
            verdict = policy.authorizer.authorize(claims, call)
            if not isinstance(verdict.effect, Effect):
                raise TypeError("an authorizer gave no effect")
        except (AuthenticationError, MappingError) as exc:
            verdict = Verdict(Effect.DENY, exc.reason, revision=policy.revision.id, detail=exc.detail)
        except Exception as exc:
            # no answer is a denial that somebody must look at: the log carries what the caller must not see
            _log.exception("a call to %.256r could not be decided", getattr(call, "method", None))
            detail = f"{type(exc).__name__} while deciding"
            verdict = Verdict(Effect.DENY, Reason.EVALUATION_FAILED, revision=policy.revision.id, detail=detail)
        return _Answer(verdict, principal, claims, api, time_ns)

    def _to_record(self, answer: _Answer, call: Call, began: int) -> Record:
        """The decision for an answer, as it is to be recorded."""
        verdict, principal, claims, api, time_ns = answer
        decision = Decision(
            verdict.effect,
            verdict.reason,
            verdict.rule,
            verdict.revision,
            principal,
            claims,
            new_id(time_ns),
            verdict.detail,
            verdict.shadow,
        )
        # `value` of an enumeration is a property, which takes longer than all the rest of this
        access = api.access._value_ if api else ""
        return Record(decision, call, time_ns, time.perf_counter_ns() - began, access)

    def _record(self, answer: _Answer, call: Call, began: int) -> Decision:
        """The decision for an answer, recorded."""
        record = self._to_record(answer, call, began)
        try:
            self._sink.write(record)
        except Exception:
            return self._observed(_unrecorded(record.decision), call, began)
        return self._observed(record.decision, call, began) if self._observers else record.decision

    def _observed(self, decision: Decision, call: Call, began: int) -> Decision:
        for observer in self._observers:
            try:
                observer.observe(decision, call, time.perf_counter_ns() - began)
            except Exception:
                _log.exception("the decision %s could not be observed", decision.audit_id)
        return decision

    def close(self) -> None:
        """Stop what runs in the background, and close the audit log. A check after this is refused."""
        for part in self._beside:
            part.stop()
        self._authentication.close()
        for observer in self._observers:
            end = getattr(observer, "close", None)
            if end is not None:
                end()
        close = getattr(self._sink, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def policy_loaded(
    revision: Revision, before: str | None = None, shadow: str | None = None, shadow_before: str | None = None
) -> Event:
    """The event that ``revision`` is in force, after ``before`` (hex; None: it is the first).

    It names the shadow bundle's revisions too, now and before, if there is or was one that is asked.
    """
    details = {
        "policy_version": revision.id,
        "before": before,
        "bundle": str(revision.path),
        "lines": len(revision.lines),
        "warnings": [str(problem) for problem in revision.warnings],
    }
    if shadow or shadow_before:
        details |= {"shadow_version": shadow, "shadow_before": shadow_before}
    return Event(EventName.POLICY_LOADED, details, bundle=revision.path)


def _unrecorded(decision: Decision) -> Decision:
    """What becomes of a decision that is not in the log: an allow is refused, a denial stays one."""
    _log.exception("the decision %s could not be recorded", decision.audit_id)
    if not decision:
        return decision
    return decision._replace(effect=Effect.DENY, reason=Reason.AUDIT_UNAVAILABLE, detail="the audit log failed")


_PROVEN = Verdict(Effect.ALLOW, Reason.ALLOWED)
