"""Stock Casbin, asked as the decision room is meant to ask it: an independent answer for the bundles' tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import casbin

from authz.call import Scope
from authz.decision.base import Effect
from authz.policy.catalogue import Catalogue, read_catalogue
from authz.policy.revision import NOWHERE

POLICIES = Path(__file__).parents[2] / "policies"


class Stock:
    """A bundle in stock Casbin. Each subject is asked alone; any deny wins, else any allow."""

    def __init__(self, bundle: str) -> None:
        folder = POLICIES / bundle
        self.catalogue: Catalogue = read_catalogue(folder / "catalogue.yaml")
        enforcer: Any = casbin.Enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))
        self._enforcer = enforcer
        self.ask = cache(self._ask)

    def _ask(self, subject: str, domain: str, method: str, access: str) -> Effect:
        allowed, rule = self._enforcer.enforce_ex(subject, domain, method, access)
        if allowed:
            return Effect.ALLOW
        return Effect.DENY if rule else Effect.NO_OPINION

    def decide(
        self,
        method: str,
        namespaces: Iterable[str | None] = (None,),
        *,
        user: str = "",
        system: Iterable[str] = (),
        roles: Mapping[str, Iterable[str]] | None = None,
        proven: bool = True,
    ) -> Effect:
        """What the bundle says of a caller with the roles ``system`` everywhere and ``roles`` by namespace."""
        entry = self.catalogue.find(method)
        if entry is None:
            return Effect.NO_OPINION
        everywhere = [f"role:{role}" for role in system] + ["role:everyone"]
        everywhere += ["role:authenticated", f"user:{user}"] if proven else []
        effects = set()
        for namespace in (None,) if entry.scope is Scope.CLUSTER else tuple(namespaces):
            subjects = [*everywhere]
            if namespace is not None:
                subjects += [f"role:{role}" for role in (roles or {}).get(namespace, ())]
            domain = NOWHERE if namespace is None else namespace
            effects.add(self._all(subjects, domain, method, entry.access.value))
        return next(effect for effect in (Effect.DENY, Effect.NO_OPINION, Effect.ALLOW) if effect in effects)

    def _all(self, subjects: list[str], domain: str, method: str, access: str) -> Effect:
        found = {self.ask(subject, domain, method, access) for subject in subjects}
        return next((effect for effect in (Effect.DENY, Effect.ALLOW) if effect in found), Effect.NO_OPINION)
