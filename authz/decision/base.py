"""Decision: the answer, and Authorizer: what finds it.

A `Verdict` is what the policy says; it is shared between calls and holds nothing of the caller. A `Decision` is a
verdict for one caller and one call, with its audit id. Casbin's own integers (its ALLOW is 0) never leave casbin.py.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from authz.authn.base import Principal
from authz.call import Call
from authz.claims.base import Claims
from authz.errors import Place
from authz.reason import Reason


class Effect(Enum):
    """What a decision says. Anything but ALLOW is enforced as a denial."""

    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no_opinion"

    def __bool__(self) -> bool:
        """True only for ALLOW."""
        return self is Effect.ALLOW


class Rule(NamedTuple):
    """A rule of the policy: its text, where it is written, and how the caller's subject came to match it.

    Attributes:
        text: the rule as written, e.g. ``p, role:reader, *, *, read, allow``.
        place: file and line.
        chain: the subjects from the caller's own to the rule's, e.g. ``("role:admin", "role:writer", "role:reader")``.
    """

    text: str
    place: Place
    chain: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Its file and line."""
        return f"{self.place.path}:{self.place.line}"


class Verdict(NamedTuple):
    """What the policy says, of nobody in particular: immutable, and shared between calls.

    Attributes:
        effect: ALLOW, DENY or NO_OPINION.
        reason: the code.
        rule: the rule that decided; None if none did.
        revision: SHA-256 of the policy bundle (hex).
        detail: a sentence for operators: the near misses of a denial, and where a call names several namespaces, the
            one that decided.
        shadow: what the shadow policy says, where that is something else; it has no effect.
    """

    effect: Effect
    reason: Reason
    rule: Rule | None = None
    revision: str = ""
    detail: str = ""
    shadow: Verdict | None = None

    def among_others(self, namespace: str | None) -> Verdict:
        """The same, of a call that names several namespaces: what is no allow says in which of them it is none."""
        if self.effect is Effect.ALLOW:
            return self
        where = "outside every namespace" if namespace is None else f"in {namespace}"
        return self._replace(detail=f"{where}: {self.detail}" if self.detail else where)


class Decision(NamedTuple):
    """The answer to one call. ``bool(decision)`` is True only for ALLOW.

    Attributes:
        effect: ALLOW, DENY or NO_OPINION (enforced as deny).
        reason: the code; ``reason.status`` is the gRPC status name to answer with.
        rule: the rule that decided, with its place; None if none did.
        revision: SHA-256 of the policy bundle that decided (hex); empty if none was asked.
        principal: the proven caller; None if nobody was proven.
        claims: the caller's roles; None if nobody was proven.
        audit_id: the id of the audit record, also sent to the caller as ``x-audit-id``.
        detail: a sentence for operators, never for the caller.
        shadow: what the shadow policy says, where that is something else; it has no effect.
    """

    effect: Effect
    reason: Reason
    rule: Rule | None
    revision: str
    principal: Principal | None
    claims: Claims | None
    audit_id: str
    detail: str = ""
    shadow: Verdict | None = None

    def __bool__(self) -> bool:
        return self.effect is Effect.ALLOW


class Authorizer(Protocol):
    """Decides calls. Thread-safe, no I/O, and pure: to be asked changes nothing.

    It is asked about one call more than once: in each of its namespaces, again while the call is under way, and twice
    where there is a shadow policy. One that counts what it is asked would let a shadow have an effect.
    """

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call``, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided; the call is refused with INTERNAL.
        """
        ...
