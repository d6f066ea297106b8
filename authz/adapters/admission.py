"""Admission: what both gRPC adapters share: from a servicer context and its messages to decisions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from authz.adapters.namespaces import NAMED_LIMIT, Namespaces, read_namespaces
from authz.call import ApiMethod, Call, Scope
from authz.credentials import ClientCertificate, Credentials, MalformedCredential, from_metadata
from authz.decision.base import Decision, Effect
from authz.engine import Engine, Policy
from authz.reason import Reason
from authz.trace_context import read_traceparent
from authz.under_way import UnderWay

_CERTIFICATE_KEY: Final = "x509_pem_cert"
_ALLOW: Final = Effect.ALLOW
_log = logging.getLogger("authz")

Metadata = tuple[tuple[str, str | bytes], ...]
_Under = tuple[Policy, ApiMethod | None]
"""A policy, and what its catalogue knows of a method."""


class Context(Protocol):
    """What the servicer contexts of both servers have in common, as far as it is needed here."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with the call."""
        ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The transport's properties."""
        ...

    def peer(self) -> str:
        """The address of the caller."""
        ...


def needs_message(api: ApiMethod | None) -> bool:
    """Whether it takes a message to know which namespaces a call names."""
    return api is not None and api.scope is Scope.NAMESPACE and bool(api.namespaces or api.opaque)


class Admission:
    """Decides one RPC, from its opening to its last message.

    The policy is the one in force when the RPC is decided; when another comes into force, what was admitted under the
    old one is decided again under the new one.

    Args:
        engine: who decides.
        method: gRPC full method.
        context: of the RPC.
    """

    __slots__ = (
        "_admitted",
        "_agent",
        "_credentials",
        "_ends",
        "_engine",
        "_message",
        "_metadata",
        "_method",
        "_peer",
        "_span",
        "_trace",
        "_under",
        "refused",
    )

    def __init__(self, engine: Engine, method: str, context: Context) -> None:
        self._engine = engine
        self._method = method
        policy = engine.policy
        # replaced as one: what is read by one catalogue is decided by the rules beside it
        self._under: _Under = (policy, policy.revision.catalogue.find(method))
        metadata: Metadata = tuple(context.invocation_metadata() or ())
        self._metadata = metadata
        self._credentials = read_credentials(engine, metadata, context)
        self._peer = context.peer()
        self._agent = ""
        parents: tuple[str | bytes, ...] = ()
        for key, value in metadata:
            if key == "user-agent" and isinstance(value, str):
                self._agent = value
            elif key == "traceparent":
                parents += (value,)
        self._trace, self._span = read_traceparent(parents) if parents else ("", "")
        self._admitted: frozenset[str | None] = frozenset()  # replaced, not changed: another thread may be reading it
        self._ends = math.inf
        self._message = 0
        self.refused: Decision | None = None
        """The denial that a further message met, whatever the handler made of that."""

    @property
    def needs_message(self) -> bool:
        """Whether the namespaces of the call are in its messages."""
        return needs_message(self._under[1])

    @property
    def admitted(self) -> frozenset[str | None]:
        """The namespaces in which the RPC was allowed so far."""
        return self._admitted

    def refuse_unproven(self) -> Decision | None:
        """The denial, if the caller is not proven, before any message is waited for."""
        return self._engine.refuse_unproven(self._call((), None), self._credentials, self._under[0])

    def decide(self, message: object | None = None) -> Decision:
        """Decide the opening of the RPC; an allow becomes the current call.

        Args:
            message: the first request message; None if there is none, or if :attr:`needs_message` is false.
        """
        call, policy = self._opening(message)
        return self._open(call, self._engine.check(call, self._credentials, policy))

    async def decide_async(self, message: object | None = None) -> Decision:
        """As :meth:`decide`, for an event loop: while the audit log waits for the disk, other calls go on."""
        call, policy = self._opening(message)
        return self._open(call, await self._engine.check_async(call, self._credentials, policy))

    def refuse_next(self, message: object) -> Decision | None:
        """The denial, if a further request message, or by now the whole call, is refused; None if it may pass."""
        asked = self._next(message)
        if asked is not None:
            call, policy = asked
            self._go_on(call, self._engine.check(call, self._credentials, policy))
        return self.refused

    async def refuse_next_async(self, message: object) -> Decision | None:
        """As :meth:`refuse_next`, for an event loop."""
        asked = self._next(message)
        if asked is not None:
            call, policy = asked
            self._go_on(call, await self._engine.check_async(call, self._credentials, policy))
        return self.refused

    def refuse_now(self) -> Decision | None:
        """The denial, if the credential has ended or a new policy takes the call back; costs next to nothing if not."""
        if self.refused is None and (time.time() >= self._ends or self._engine.policy is not self._under[0]):
            return self._again(self._engine.policy)
        return self.refused

    def recheck(self) -> Decision | None:
        """As :meth:`refuse_now`, whatever the time: a credential may be revoked, and a rule may end by itself."""
        return self._again(self._engine.policy)

    def _again(self, policy: Policy) -> Decision | None:
        api = policy.revision.catalogue.find(self._method)
        admitted, unreadable = self._admitted, None
        if api is not None and api is not self._under[1]:
            # a new catalogue may say that the call touches further namespaces, or none at all
            elsewhere, unreadable = named_elsewhere(api, self._metadata)
            admitted = admitted.union(elsewhere)
        namespaces = () if api is not None and api.scope is Scope.CLUSTER else tuple(admitted)
        refused = self._engine.refuse(self._call(namespaces, unreadable), self._credentials, policy)
        if refused is None:
            self._under, self._admitted = (policy, api), admitted
        return refused

    def _opening(self, message: object | None) -> tuple[Call, Policy]:
        """What the opening asks, by the policy that is in force now: its message may have been waited for."""
        policy, api = self._under
        if policy is not self._engine.policy:
            policy = self._engine.policy
            api = policy.revision.catalogue.find(self._method)
            self._under = (policy, api)
        return self._read(message, api), policy

    def _read(self, message: object | None, api: ApiMethod | None) -> Call:
        """The call, with every namespace that is named: by the message, by the metadata, by the method itself."""
        if api is None or api.scope is not Scope.NAMESPACE:
            return self._call((), None)
        named: tuple[str | None, ...] = ()
        unreadable: str | None = None
        if api.namespaces or api.opaque:
            named, unreadable = ((None,), None) if message is None else read_namespaces(api, message)
        if api.metadata or api.constant:
            elsewhere, twice = named_elsewhere(api, self._metadata)
            named, unreadable = named + elsewhere, unreadable or twice
        return self._call(named, unreadable)

    def _next(self, message: object) -> tuple[Call, Policy] | None:
        """What a further message asks that is not admitted yet; None: nothing, or the whole call is refused by now."""
        self._message += 1
        # a call that was opened without a message may have waited long for its first
        waited = self._message == 1 and not self.needs_message
        self.refused = self.recheck() if waited else self.refuse_now()
        if self.refused is not None:
            return None
        policy, api = self._under
        call = self._read(message, api)
        if call.unreadable is None:
            if self._admitted.issuperset(call.namespaces):
                return None
            if len(self._admitted.union(call.namespaces)) > NAMED_LIMIT:
                # what is admitted is kept for as long as the RPC lasts, and decided again and again
                call = self._call((), f"the call names more than {NAMED_LIMIT} namespaces in all")
        return call, policy

    def _call(self, namespaces: tuple[str | None, ...], unreadable: str | None) -> Call:
        return Call(
            self._method, namespaces, unreadable, self._peer, self._agent, self._trace, self._span, self._message
        )

    def _open(self, call: Call, decision: Decision) -> Decision:
        """Take note of the decision on the opening."""
        if decision.effect is _ALLOW:
            self._admit(call, decision)
            UnderWay(decision, call, self._credentials, self._engine).enter()
        return decision

    def _go_on(self, call: Call, decision: Decision) -> None:
        """Take note of the decision on a further message."""
        if decision:
            self._admit(call, decision)
        else:
            self.refused = decision

    def _admit(self, call: Call, decision: Decision) -> None:
        """Take note of what ``decision``, an allow, admits."""
        self._admitted = self._admitted.union(call.namespaces)
        self._ends = math.inf
        for each in (decision.principal, decision.claims):
            if each is not None and each.expires_at is not None and each.expires_at < self._ends:
                self._ends = each.expires_at


def named_elsewhere(api: ApiMethod, metadata: Iterable[tuple[str, str | bytes]]) -> Namespaces:
    """The namespaces that a call names outside of its messages: in its metadata, and by the method itself."""
    named: tuple[str | None, ...] = ()
    if api.metadata:
        values = [value for key, value in metadata if key == api.metadata]
        if len(values) > 1:
            return (), f"the metadata has {len(values)} entries `{api.metadata}`"
        named = tuple(str(value) or None for value in values) or (None,)
    return (*named, api.constant) if api.constant else named, None


def read_credentials(engine: Engine, metadata: Metadata, context: Context) -> Credentials:
    """Everything that a caller showed: in the metadata, and, if certificates count, on the connection."""
    shown = from_metadata(metadata)
    if not engine.reads_certificates:
        return shown
    try:
        # only the PEM is read: the other strings of the auth context are cut at a NUL byte
        certificates = tuple(context.auth_context().get(_CERTIFICATE_KEY) or ())
    except Exception:
        _log.exception("the transport's properties cannot be read")
        return (MalformedCredential(Reason.CREDENTIAL_MALFORMED, "the transport's properties cannot be read"),)
    return (*shown, *map(ClientCertificate, certificates)) if certificates else shown
