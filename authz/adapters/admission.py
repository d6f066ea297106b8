"""Admission: what both gRPC adapters share: from a servicer context and a message to a decision, and to an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import grpc

from authz.adapters.namespaces import read_namespaces
from authz.adapters.trace import trace_id
from authz.call import Call, Scope
from authz.credentials import ClientCertificate, Credential, Credentials, from_metadata
from authz.decision.base import Decision
from authz.engine import Engine, Policy
from authz.reason import Reason

AUDIT_ID_KEY: Final = "x-audit-id"
_CERTIFICATE_KEY: Final = "x509_pem_cert"
_SENTENCES: Final = {
    "UNAUTHENTICATED": "no credential that is accepted here",
    "PERMISSION_DENIED": "not allowed",
    "UNAVAILABLE": "authorization is not available, try again later",
    "INTERNAL": "authorization failed",
}


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a refused caller is told: a code, a generic sentence, and the audit id."""

    code: grpc.StatusCode
    text: str
    trailers: tuple[tuple[str, str], ...]


def answer(decision: Decision) -> Answer:
    """The answer to send for a ``decision`` that is not an allow."""
    status = decision.reason.status if decision.reason is not Reason.ALLOWED else "INTERNAL"
    text = f"{_SENTENCES[status]} (audit id {decision.audit_id})"
    return Answer(grpc.StatusCode[status], text, ((AUDIT_ID_KEY, decision.audit_id),))


class Admission:
    """Decides one RPC, from its opening to its last message, under the policy in force when it began.

    Args:
        engine: who decides.
        method: gRPC full method.
        context: of the RPC.
    """

    __slots__ = ("_admitted", "_agent", "_api", "_credentials", "_engine", "_method", "_peer", "_policy", "_trace")

    def __init__(self, engine: Engine, method: str, context: Context) -> None:
        self._engine = engine
        self._method = method
        self._policy: Policy = engine.policy
        self._api = self._policy.revision.catalogue.find(method)
        metadata = tuple(context.invocation_metadata() or ())
        self._credentials: Credentials = (*from_metadata(metadata), *_certificate(context))
        self._peer = context.peer()
        self._agent = _text(metadata, "user-agent")
        self._trace = trace_id(_text(metadata, "traceparent"))
        self._admitted: set[str | None] = set()

    @property
    def needs_message(self) -> bool:
        """Whether the namespaces of the call are in its messages."""
        return self._api is not None and self._api.scope is Scope.NAMESPACE

    @property
    def admitted(self) -> frozenset[str | None]:
        """The namespaces in which the RPC was allowed so far."""
        return frozenset(self._admitted)

    def decide(self, message: object | None = None) -> Decision:
        """Decide the opening of the RPC.

        Args:
            message: the first request message; None if there is none, or if :attr:`needs_message` is false.
        """
        return self._check(self._call(message))

    def decide_next(self, message: object) -> Decision | None:
        """Decide a further message of a request stream; None if it names no namespace that was not decided already."""
        call = self._call(message)
        if call.unreadable is None and self._admitted.issuperset(call.namespaces):
            return None
        return self._check(call)

    def _call(self, message: object | None) -> Call:
        namespaces: tuple[str | None, ...] = ()
        unreadable = None
        if self._api is not None and self._api.scope is Scope.NAMESPACE:
            namespaces = (None,)
            if message is not None:
                namespaces, unreadable = read_namespaces(self._api, message)
        return Call(self._method, namespaces, unreadable, self._peer, self._agent, self._trace)

    def _check(self, call: Call) -> Decision:
        decision = self._engine.check(call, self._credentials, self._policy)
        if decision:
            self._admitted.update(call.namespaces)
        return decision


def _certificate(context: Context) -> tuple[Credential, ...]:
    # only the PEM is read: the other strings of the auth context are cut at a NUL byte
    shown = tuple(context.auth_context().get(_CERTIFICATE_KEY) or ())
    return tuple(ClientCertificate(pem) for pem in shown)


def _text(metadata: tuple[tuple[str, str | bytes], ...], key: str) -> str:
    for name, value in metadata:
        if name == key and isinstance(value, str):
            return value
    return ""
