"""The policy engines that are measured side by side: each loads the same policy from files, and answers the same calls.

Casbin is asked once for each of the caller's subjects, as its users do who keep roles in tokens. For Cedar and OPA the
application expands inherited roles itself, and OPA's data is laid out for its own index.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Protocol

from authz.call import Call
from authz.claims.base import Claims
from benchmarks.policies import GROUP_OF, METHODS, Workload, subjects


class Engine(Protocol):
    """A policy engine with a policy in it."""

    def ask(self, claims: Claims, call: Call) -> str:
        """``allow``, ``deny`` or ``no_opinion``."""
        ...


def write_policies(work: Workload, folder: Path) -> Path:
    """The policy of ``work`` in ``folder``, in each engine's own language."""
    work.write(folder)
    (folder / "policies.cedar").write_text("\n".join(map(_cedar, work.rules)))
    actions = [
        {
            "uid": {"type": "Action", "id": method},
            "attrs": {},
            "parents": [{"type": "Action", "id": each} for each in (f"access:{access}", GROUP_OF.get(method)) if each],
        }
        for method, access in METHODS.items()
    ]
    above = {parent["id"] for action in actions for parent in action["parents"]}  # type: ignore[index]
    above |= {f"service:{method.rsplit('/', 1)[0]}" for method in METHODS}
    for action, method in zip(actions, METHODS, strict=True):
        action["parents"].append({"type": "Action", "id": f"service:{method.rsplit('/', 1)[0]}"})  # type: ignore[attr-defined]
    actions += [{"uid": {"type": "Action", "id": each}, "attrs": {}, "parents": []} for each in sorted(above)]
    (folder / "entities.json").write_text(json.dumps(actions))
    data: dict[str, Any] = {"exact": {}, "patterns": {}, "methods": {}, "above": {}}
    for subject, domain, obj, act, effect in work.rules:
        where = data["patterns"] if domain.endswith("*") else data["exact"]
        there = where.setdefault(domain.removesuffix("*"), {}).setdefault(subject, {})
        there.setdefault(f"{obj}|{act}", []).append(effect)
    for method, access in METHODS.items():
        named = [method, GROUP_OF.get(method, method), method.rsplit("/", 1)[0] + "/*", "*"]
        data["methods"][method] = [f"{obj}|{act}" for obj in dict.fromkeys(named) for act in (access, "*")]
    (folder / "data.json").write_text(json.dumps(data))
    return folder


def _cedar(rule: tuple[str, str, str, str, str]) -> str:
    subject, domain, obj, act, effect = rule
    head, conditions = "action", [f'context.subjects.contains("{subject}")']
    if obj.endswith("/*"):
        head = f'action in Action::"service:{obj[:-2]}"'
    elif obj != "*":
        head = f'action in Action::"{obj}"' if obj.startswith("api:") else f'action == Action::"{obj}"'
    if act != "*":
        conditions.append(f'action in Action::"access:{act}"')
    resource = "resource"
    if not domain.endswith("*"):
        resource = f'resource == Namespace::"{domain}"'
    elif domain != "*":
        conditions.append(f'context.namespace like "{domain}"')
    word = "permit" if effect == "allow" else "forbid"
    return f"{word}(principal, {head}, {resource}) when {{ {' && '.join(conditions)} }};"


class Ours:
    """authz."""

    def __init__(self, folder: Path) -> None:
        from authz.decision import authorizer_for
        from authz.policy.load import load_bundle

        self.authorizer = authorizer_for(load_bundle(folder))

    def ask(self, claims: Claims, call: Call) -> str:
        """Ask the authorizer."""
        return self.authorizer.authorize(claims, call).effect.value


class Casbin:
    """pycasbin's Enforcer."""

    def __init__(self, folder: Path) -> None:
        import casbin

        logging.disable(logging.CRITICAL)
        self._enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))

    def ask(self, claims: Claims, call: Call) -> str:
        """Ask for each subject, until one is denied."""
        (where,) = call.namespaces
        allowed = False
        for subject in subjects(claims, str(where)):
            answer, rule = self._enforcer.enforce_ex(subject, where, call.method, METHODS[call.method])
            if rule and rule[-1] == "deny":
                return "deny"
            allowed = allowed or answer
        return "allow" if allowed else "no_opinion"


INHERITED = {
    "role:admin": ["role:writer", "role:reader"],
    "role:writer": ["role:reader"],
    "role:reader-lead": ["role:reader"],
}


def _expanded(claims: Claims, where: str) -> list[str]:
    mine = subjects(claims, where)
    return sorted({*mine, *(role for each in mine for role in INHERITED.get(each, ()))})


class Cedar:
    """cedarpy, with one PolicySet."""

    def __init__(self, folder: Path) -> None:
        import cedarpy

        self._cedar = cedarpy
        self._policies = cedarpy.PolicySet.from_str((folder / "policies.cedar").read_text())
        self._entities = cedarpy.Entities.from_json_str((folder / "entities.json").read_text())

    def ask(self, claims: Claims, call: Call) -> str:
        """Ask Cedar; which policies decided tells a denial from no opinion."""
        (where,) = call.namespaces
        request = {
            "principal": {"type": "User", "id": claims.principal.id},
            "action": {"type": "Action", "id": call.method},
            "resource": {"type": "Namespace", "id": where},
            "context": {"subjects": _expanded(claims, str(where)), "namespace": where},
        }
        result = self._cedar.is_authorized(request, self._policies, self._entities)
        if result.allowed:
            return "allow"
        return "deny" if result.diagnostics.reasons else "no_opinion"


REGO = """
package bench
import rego.v1
keys := data.methods[input.method]
effects contains effect if {
    some subject in input.subjects
    some key in keys
    some effect in data.exact[input.namespace][subject][key]
}
effects contains effect if {
    some prefix, by in data.patterns
    startswith(input.namespace, prefix)
    some subject in input.subjects
    some key in keys
    some effect in by[subject][key]
}
default decision := "no_opinion"
decision := "deny" if "deny" in effects
decision := "allow" if { "allow" in effects; not "deny" in effects }
"""
QUERY = "answer := data.bench.decision"


class Opa:
    """OPA in this process, with its data laid out to be looked up. (The bindings declare a newer Python than they need:
    ``pip install --ignore-requires-python opa-golib-python-bindings``.)"""

    def __init__(self, folder: Path) -> None:
        from opa_bindings import OpaEngine

        self._engine = OpaEngine()
        self._engine.add_policy("bench.rego", REGO)
        self._engine.add_data(json.loads((folder / "data.json").read_text()))
        self._engine.eval_query(QUERY, {"subjects": [], "namespace": "", "method": ""})

    def ask(self, claims: Claims, call: Call) -> str:
        """Ask OPA."""
        (where,) = call.namespaces
        question = {"subjects": _expanded(claims, str(where)), "namespace": where, "method": call.method}
        found = self._engine.eval_query(QUERY, question)
        return str(found[0]["answer"])


ENGINES: dict[str, type[Ours] | type[Casbin] | type[Cedar] | type[Opa]] = {
    "authz": Ours,
    "pycasbin": Casbin,
    "cedarpy": Cedar,
    "opa": Opa,
}
