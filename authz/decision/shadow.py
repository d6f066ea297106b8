"""ShadowAuthorizer: a second policy decides beside the one in force, and has no effect but a note of the difference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Authorizer, Effect, Verdict
from authz.reason import Reason

_log = logging.getLogger("authz.shadow")


class ShadowAuthorizer:
    """Decides as ``first`` does; a verdict from which ``shadow`` differs carries that of ``shadow``.

    A shadow that fails is a difference, with the reason ``evaluation_failed``; the first failure is logged.

    Args:
        first: decides.
        shadow: is asked after it, about the same call: its namespaces are those that the catalogue in force reads.
        revision: SHA-256 of the shadow's bundle (hex).

    Attributes:
        revision: the same.
    """

    def __init__(self, first: Authorizer, shadow: Authorizer, revision: str) -> None:
        self._first = first
        self._shadow = shadow
        self.revision = revision
        self._failed = Verdict(Effect.DENY, Reason.EVALUATION_FAILED, revision=revision)
        self._logged = False

    @property
    def caches(self) -> Mapping[str, Any]:
        """What the policy in force remembers, for metrics."""
        found: Mapping[str, Any] = getattr(self._first, "caches", {})
        return found

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """See :class:`authz.decision.base.Authorizer`."""
        verdict = self._first.authorize(claims, call)
        effect = verdict.effect
        try:
            other = self._shadow.authorize(claims, call)
            if other.effect is effect:
                return verdict
        except Exception:
            # once: a broken shadow would say the same about each call
            if not self._logged:
                self._logged = True
                _log.exception("the shadow policy %s cannot decide", self.revision[:12])
            other = self._failed
        return verdict._replace(shadow=other)
