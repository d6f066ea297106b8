"""Caller: a caller made up from a few words, to ask a policy about."""

from __future__ import annotations

from collections.abc import Iterable

from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.claims.base import AUTHENTICATED, EVERYONE, Claims, is_role
from authz.errors import AuthzError
from authz.policy.revision import NOWHERE

NOBODY = "@somebody"
"""The subject of a caller whom no rule names: no issuer can prove one."""


class NoSubject(AuthzError):  # noqa: N818 - it is an answer
    """What was written is no subject; the text says what to write instead."""


def claims_of(subject: str, namespace: str, also: Iterable[str] = ()) -> Claims:
    """The claims of a caller who is ``subject`` in ``namespace``, and else only what every caller is.

    Args:
        subject: ``user:...``; ``role:...``, held in the namespace (in ``@cluster``: system-wide); ``role:everyone`` for
            a caller who showed nothing, ``role:authenticated`` for one who is proven, without a role.
        namespace: a name, or ``@cluster``.
        also: further roles, each as ``name`` for one held system-wide or ``name@namespace``.

    Raises:
        NoSubject: it is none of these.
    """
    if subject == f"role:{EVERYONE}":
        return Claims(ANONYMOUS)
    kind, _, name = subject.partition(":")
    system: set[str] = set()
    by_namespace: dict[str, frozenset[str]] = {}
    user = NOBODY
    if kind == "user" and name:
        user = name
    elif kind == "role" and is_role(name):
        if namespace == NOWHERE:
            system.add(name)
        else:
            by_namespace[namespace] = frozenset((name,))
    elif subject != f"role:{AUTHENTICATED}":
        raise NoSubject(f"`{subject}` is no subject; write `user:<prefix><subject>` or `role:<name>`")
    for role in also:
        each, at, where = role.partition("@")
        if not is_role(each):
            raise NoSubject(f"`{role}` is no role; write `writer`, or `writer@shop` for one held in a namespace")
        if at:
            by_namespace[where] = by_namespace.get(where, frozenset()) | {each}
        else:
            system.add(each)
    return Claims(Principal(PrincipalKind.TOKEN, "policy", user), frozenset(system), by_namespace)
