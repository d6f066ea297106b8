"""Decision: claims x call -> allow or deny, with the rule that decided.

:func:`authorizer_for` is the way in: it compiles a policy revision, or falls back to Casbin for what does not compile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authz.decision.bundle import BundleAuthorizer
    from authz.policy.revision import Revision


def authorizer_for(revision: Revision, clock: Callable[[], float] = time.time) -> BundleAuthorizer:
    """The fastest authorizer that decides by ``revision`` exactly as Casbin would.

    Args:
        revision: the policy.
        clock: now, in seconds since the epoch, for rules that end; nothing else asks it.

    Raises:
        PolicyError: the revision cannot be evaluated at all.
    """
    from authz.decision.casbin import CasbinAuthorizer
    from authz.decision.compiled import CompiledAuthorizer
    from authz.decision.ending import EndingAuthorizer
    from authz.decision.selector import NotCompilable
    from authz.policy.collector import collector_put_off

    with collector_put_off():
        try:
            compiled = CompiledAuthorizer(revision)
            return EndingAuthorizer(revision, clock) if compiled.ends else compiled
        except NotCompilable:
            return CasbinAuthorizer(revision, clock=clock)
