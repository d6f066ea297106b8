"""Call: what is being asked, and ApiMethod: what the API catalogue knows of a method.

A namespace is the tenant that a call touches. ``None`` means "not present"; an empty string is never a namespace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_METHOD = re.compile(r"/[A-Za-z_][A-Za-z0-9_.]{0,254}/[A-Za-z_][A-Za-z0-9_]{0,254}")

NAMESPACE_RULE = "1 to 255 ASCII letters, digits, '_', '.' and '-', not starting with '.' or '-'"
METHOD_RULE = "/package.Service/Method, in ASCII letters, digits and '_'"


def is_namespace(text: str) -> bool:
    """Whether ``text`` can be a namespace: :data:`NAMESPACE_RULE`. No pattern character, blank or ``:`` is one."""
    return _NAMESPACE.fullmatch(text) is not None


def is_method(text: str) -> bool:
    """Whether ``text`` is a gRPC full method: :data:`METHOD_RULE`."""
    return _METHOD.fullmatch(text) is not None


class Access(StrEnum):
    """What a method does to what it touches."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a method touches: the namespaces that its request names, or the cluster as a whole."""

    NAMESPACE = "namespace"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class ApiMethod:
    """One method of the API catalogue.

    Attributes:
        method: gRPC full method.
        access: read, write or admin.
        scope: namespace or cluster.
        namespaces: for scope namespace, the protobuf field paths (dotted field names, e.g. ``("namespace",
            "operations.start_workflow.namespace")``) of every place where the request names one. The first is
            the request's own: where it is empty, the call is for "no namespace" also. A path to a resource name goes on
            with its pattern: ``name=projects/{namespace}/orders/*``.
        opaque: field paths which name a namespace in a way that cannot be read (an id, a token): a request that fills
            one of them is decided for "no namespace" also, which only a system-wide role can be granted.
        metadata: key of the metadata entry that names a namespace; empty: none does.
        constant: the namespace that every call of the method touches; empty: there is none.
    """

    method: str
    access: Access
    scope: Scope
    namespaces: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    metadata: str = ""
    constant: str = ""


class Call(NamedTuple):
    """One call, as an enforcement point saw it.

    Attributes:
        method: gRPC full method, exactly as it came over the wire.
        namespaces: every namespace that the request names, each once; the caller must be allowed in all of them.
            ``None`` stands for "a namespace that is not named". An empty tuple is the same as ``(None,)``. A method of
            scope cluster touches none: a call of it that names one is refused.
        unreadable: why the namespaces could not be read, if they could not: such a call is denied.
        peer: address of the caller as the transport gives it, for the record only.
        user_agent: as the caller says, for the record only.
        trace_id: W3C trace id (32 hex digits), for the record only.
        span_id: W3C span id of the caller (16 hex digits), for the record only.
        message: of a request stream, which message is decided: 0 for its opening, then 1, 2, ...; for the record only.
        enforced: whether the answer binds the caller; False where an adapter lets everything pass whatever is decided,
            for the record only.
    """

    method: str
    namespaces: tuple[str | None, ...] = ()
    unreadable: str | None = None
    peer: str = ""
    user_agent: str = ""
    trace_id: str = ""
    span_id: str = ""
    message: int = 0
    enforced: bool = True
