"""RuleMapper: the rules of one issuer. MapperByIssuer: the mapper of each issuer, and what they worked out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from authz.authn.base import Principal
from authz.authn.memory import Memory
from authz.claims.base import ClaimMapper, Claims
from authz.claims.grants import Ceiling, Grants
from authz.claims.rules import Rule

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


class MapperByIssuer:
    """Maps each principal with the mapper of its issuer; a principal of no known issuer has no roles.

    The claims of a principal are remembered: the same object is returned for the same principal.

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
            return known
        mapper = self._mappers.get(principal.issuer)
        claims = Claims(principal, expires_at=principal.expires_at) if mapper is None else mapper.map(principal)
        self._known.put(principal, claims)
        return claims
