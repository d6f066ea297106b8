"""RuleMapper: the rules of one issuer. MapperByIssuer: the mapper of each issuer, and what they worked out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from authz.authn.base import Principal
from authz.authn.memory import Memory
from authz.claims.base import ClaimMapper, Claims
from authz.claims.grants import Ceiling, Grants
from authz.claims.rules import Rule
from authz.errors import MappingError
from authz.reason import Reason

_log = logging.getLogger("authz.claims")
DEFAULT_REMEMBERED: Final = 10_000
_NO_CEILING: Final = Ceiling()


class RuleMapper:
    """Maps principals of one issuer or authority by its rules.

    Args:
        rules: each adds its grants.
        ceiling: the most that the issuer can grant.
    """

    def __init__(self, rules: Sequence[Rule], ceiling: Ceiling = _NO_CEILING) -> None:
        self.rules = tuple(rules)
        self.ceiling = ceiling

    def map(self, principal: Principal) -> Claims:
        """See :class:`authz.claims.base.ClaimMapper`."""
        grants = Grants(self.ceiling)
        for rule in self.rules:
            rule.apply(principal.attributes, grants)
        return grants.claims(principal)


class CheckedMapper:
    """A claim mapper of a user's own, under the ceiling of its issuer.

    Of the claims that it returns, names that are none and what is above the ceiling are left out, with a note; whatever
    it raises but its typed error, with a Reason, refuses the caller with MAPPER_FAILED.

    Args:
        name: the issuer's name, for messages.
        inner: the mapper.
        ceiling: the most that the issuer can grant.
    """

    def __init__(self, name: str, inner: ClaimMapper, ceiling: Ceiling = _NO_CEILING) -> None:
        self._name = name
        self._inner = inner
        self._ceiling = ceiling

    def map(self, principal: Principal) -> Claims:
        """See :class:`authz.claims.base.ClaimMapper`."""
        grants = Grants(self._ceiling)
        try:
            found = self._inner.map(principal)
            if found.principal is not principal:
                raise ValueError("the claims are of another principal")
            for role in found.system:
                grants.add(role, None, "plugin")
            for namespace, roles in found.namespaces.items():
                for role in roles:
                    grants.add(role, namespace, "plugin")
            ends = [end for end in (principal.expires_at, found.expires_at) if end is not None]
            return replace(
                grants.claims(principal),
                expires_at=min(ends, default=None),
                used=tuple(str(source) for source in found.used),
            )
        except Exception as exc:
            if isinstance(exc, MappingError) and exc.is_whole:
                raise
            _log.exception("the claim mapper of %s failed", self._name)
            detail = f"the claim mapper of {self._name} raised {type(exc).__name__}"
            raise MappingError(Reason.MAPPER_FAILED, detail) from None


class MapperByIssuer:
    """Maps each principal with the mapper of its issuer; a principal of no known issuer has no roles.

    The claims of a principal are remembered: the same object is returned for the same principal, until they end. Then
    its mapper is asked again.

    Args:
        mappers: by the name of the issuer or authority.
        remembered: how many claims are remembered, at most.
    """

    def __init__(self, mappers: Mapping[str, ClaimMapper], *, remembered: int = DEFAULT_REMEMBERED) -> None:
        self._mappers = dict(mappers)
        self._known: Memory[Principal, Claims] = Memory(remembered)

    @property
    def caches(self) -> Mapping[str, Memory[Principal, Claims]]:
        """What is remembered, by what it is, for metrics."""
        return {"claims": self._known}

    def map(self, principal: Principal) -> Claims:
        """See :class:`authz.claims.base.ClaimMapper`."""
        known = self._known.get(principal)
        if known is not None:
            ends = known.expires_at
            # most end with the principal, which is not mapped after its end
            if ends is None or ends is principal.expires_at or ends > time.time():
                return known
        mapper = self._mappers.get(principal.issuer)
        claims = Claims(principal, expires_at=principal.expires_at) if mapper is None else mapper.map(principal)
        self._known.put(principal, claims)
        return claims
