"""NarrowRules: rules about one caller, one method and one namespace, in the form of a policy's model.

Each field of a rule says what the matcher compares it with, and so what to write in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from authz.authn.base import Principal, PrincipalKind
from authz.call import ApiMethod, Scope
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Authorizer
from authz.decision.bundle import request_values
from authz.errors import Place, PolicyError, Problem
from authz.policy.check import LineCheck
from authz.policy.ending import NEVER, end_field
from authz.policy.lines import PolicyLines
from authz.policy.load import MODEL
from authz.policy.matcher import parse_matcher
from authz.policy.model import read_model
from authz.policy.revision import PolicyLine, Revision

METHOD_UNKNOWN: Final = "none: the API catalogue does not know the method"
HASHED: Final = "none: the subject is hashed in the log"
NOBODY: Final = "none: the caller showed nothing, and a rule for role:everyone would be for all"
BEYOND: Final = "none: no rule about this caller, this method and this namespace alone would, by the policy's model"
UNWRITABLE: Final = "none: the rule that would holds what no line of a policy can, such as a comma in the subject"


class NarrowRules:
    """Makes rules for the model of ``revision``.

    Raises:
        PolicyError: its model is none.
    """

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._model = read_model(revision.model, str(revision.path / MODEL))
        self._tree = parse_matcher(self._model)
        self._names = self._model.policies["p"]
        self._compared = _compared(self._tree)
        self._fixed = {"eft": "allow", "priority": "1", end_field(self._tree): NEVER}

    def make(self, sub: str, namespace: str | None, method: str, entry: ApiMethod) -> PolicyLine:
        """The rule that is to allow ``sub`` the method with the catalogue's ``entry``."""
        place = None if entry.scope is Scope.CLUSTER else namespace
        asked = {**request_values(place, method, entry), "sub": sub}
        values = [self._fixed.get(name) or asked.get(self._compared.get(name, ""), "*") for name in self._names]
        return PolicyLine("p", tuple(values), Place("policy.csv"))

    def writable(self, lines: Iterable[PolicyLine]) -> set[PolicyLine]:
        """Those of ``lines`` that, written to a file of the policy, are read as they are meant."""
        asked = [line for line in dict.fromkeys(lines) if "\n" not in line.text]
        problems: list[Problem] = []
        written = PolicyLines()
        written.add("\n".join(line.text for line in asked), "policy.csv", problems)
        problems += LineCheck(self._model, self._tree, self._revision.catalogue, written).problems
        odd = {problem.place.line for problem in problems}
        read = {written.place(at).line: row for at, row in enumerate(written.rows())}
        return {
            line for at, line in enumerate(asked, 1) if at not in odd and read.get(at) == [line.ptype, *line.fields]
        }

    def authorizer(self, lines: Iterable[PolicyLine]) -> Authorizer | None:
        """What decides by ``lines`` and nothing else; None: by the model, they cannot be a policy."""
        try:
            return authorizer_for(replace(self._revision, lines=list(lines)))
        except PolicyError:
            return None


def without_roles(sub: str, iss: str) -> Claims:
    """Somebody who has no role."""
    return Claims(Principal(PrincipalKind.TOKEN, iss, sub.removeprefix("user:")))


def _compared(tree: ast.expr) -> dict[str, str]:
    """Field of the rule -> the field of the request that the matcher compares it with: the first of several."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.Call):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else node.args
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            asked = [name[2:] for name in names if name.startswith("r_")]
            for name in names:
                if name.startswith("p_") and asked:
                    found.setdefault(name[2:], asked[0])
    return found
