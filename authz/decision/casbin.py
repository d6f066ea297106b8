"""CasbinAuthorizer: decides with Casbin's own evaluator, for whatever the compiler cannot compile, and as its oracle.

Of Casbin, the expression evaluator and the built-in functions are used, not the Enforcer: that one parses the matcher
on every call, remembers every name it is ever asked about, and silences loggers of the whole process. The matcher is
parsed once for each revision; nothing that a request says is kept.
"""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from casbin.model import FunctionMap
from casbin.util import SimpleEval
from casbin.util.util import escape_assertion

from authz.call import ApiMethod
from authz.claims.base import Claims
from authz.decision.base import Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.index import Index
from authz.decision.roles import Roles
from authz.decision.rules import Rules, decides, resolve
from authz.errors import EvaluationError, PolicyError, Problem
from authz.policy.distributions import refuse_two_casbins
from authz.policy.ending import FUNCTION, read_end
from authz.policy.matcher import parse_matcher
from authz.policy.revision import Revision

refuse_two_casbins()


class Matcher:
    """A model's matcher, evaluated by Casbin. Thread-safe.

    Args:
        rules: the rules; what the matcher calls ``eval`` on is parsed here, once.
        functions: further functions by name, in place of the model's roles or of Casbin's functions.
    """

    def __init__(self, rules: Rules, functions: Mapping[str, Callable[..., object]] | None = None) -> None:
        self._rules = rules
        self._tree = parse_matcher(rules.model)
        self._request = [f"r_{name}" for name in rules.model.request]
        self._policy = [f"p_{name}" for name in rules.model.policies["p"]]
        self._functions: dict[str, Any] = dict(FunctionMap.load_function_map().get_functions())
        self._functions |= {key: _member_of(roles) for key, roles in rules.roles.items()}
        self._functions |= functions or {}
        self._local = threading.local()
        self._evaluated = sorted(_evaluated(self._tree))
        self._trees: dict[tuple[str, ...], ast.expr] = {}
        for row in rules.rows if self._evaluated else ():
            texts = tuple(row[self._policy.index(name)] for name in self._evaluated)
            if texts not in self._trees:
                self._trees[texts] = _with_rules(self._tree, dict(zip(self._evaluated, texts, strict=True)))

    def matches(self, request: Sequence[object], row: Sequence[str]) -> bool:
        """Whether the rule ``row`` matches ``request``.

        Raises:
            Exception: whatever the matcher runs into, of any type.
        """
        names = dict(zip(self._policy, row, strict=True))
        tree = self._tree
        if self._evaluated:
            tree = self._trees[tuple(names[name] for name in self._evaluated)]
        evaluator = getattr(self._local, "evaluator", None)
        if evaluator is None:
            evaluator = self._local.evaluator = SimpleEval("", dict(self._functions))
        evaluator.ast_parsed_value = tree
        evaluator.expr = ""
        try:
            result = evaluator.eval(dict(zip(self._request, request, strict=True), **names))
        except RecursionError:
            raise EvaluationError("the matcher is nested too deep") from None
        finally:
            evaluator.names = {}
        if not isinstance(result, bool | float):
            raise EvaluationError(f"the matcher gave {type(result).__name__}, not true or false")
        return bool(result)

    def found(self, request: Sequence[object], candidates: Iterable[int]) -> list[int]:
        """Those of ``candidates`` that match, in their order, up to the rule at which Casbin stops.

        Raises:
            Exception: whatever the matcher runs into, of any type.
        """
        found = []
        for rule in candidates:
            if self.matches(request, self._rules.rows[rule]):
                found.append(rule)
                if decides(self._rules.model.effect, self._rules.effects[rule]):
                    break
        return found


def _member_of(roles: Roles) -> Callable[..., bool]:
    if roles.domains:
        return lambda name, role, domain="", *_: roles.has(name, role, str(domain))
    return lambda name, role, *_: roles.has(name, role)


def _evaluated(tree: ast.expr) -> set[str]:
    """The fields that the matcher calls ``eval`` on."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "eval":
            if len(node.args) != 1 or not isinstance(node.args[0], ast.Name) or node.args[0].id[:2] != "p_":
                raise PolicyError.at("m", "`eval` takes one field of the rule, e.g. `eval(p.sub_rule)`")
            found.add(node.args[0].id)
    return found


def _with_rules(tree: ast.expr, texts: Mapping[str, str]) -> ast.expr:
    """``tree`` with each ``eval(field)`` replaced by the expression that the field holds."""

    class Insert(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            if isinstance(node.func, ast.Name) and node.func.id == "eval":
                return _parsed(texts[ast.unparse(node.args[0])])
            return self.generic_visit(node)

    copied = ast.parse(ast.unparse(tree), mode="eval").body
    return ast.Expression(Insert().visit(copied)).body


def _parsed(text: str) -> ast.expr:
    expression = escape_assertion(text).replace("&&", " and ").replace("||", " or ")
    expression = expression.replace("!=", "\0").replace("!", " not ").replace("\0", "!=")
    try:
        tree: ast.expr = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise PolicyError.at("policy", f"`{text}` is no expression") from None
    return tree


class CasbinAuthorizer(BundleAuthorizer):
    """Decides calls by evaluating the matcher with Casbin, for those rules that an index cannot rule out.

    Args:
        revision: what to decide by.
        clock: now, in seconds since the epoch, for rules that end.
        indexed: False evaluates every rule: the plainest way there is, to compare others with.
    """

    def __init__(self, revision: Revision, *, indexed: bool = True, clock: Callable[[], float] = time.time) -> None:
        """
        Raises:
            PolicyError: the revision's model cannot be evaluated.
        """
        super().__init__(revision)
        self._matcher = Matcher(self._rules, {FUNCTION: lambda end: clock() < read_end(end)})
        self._index = Index(self._rules) if indexed else None
        if self._index is None or self._index.slow:
            why = self._index.slow if self._index else "asked for"
            message = f"rules that nothing else rules out are evaluated by Casbin, one by one: {why}"
            self.slow = (Problem(self._model.places["m"], message),)

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        values = request_values(namespace, method, api)
        subjects = subjects_of(claims, namespace)
        found: dict[int, str] = {}
        for subject in subjects:
            values["sub"] = subject
            request = [values[name] for name in self._model.request]
            candidates = self._index.found(request) if self._index else range(len(self._rules.rows))
            for rule in self._matcher.found(request, candidates):
                found.setdefault(rule, subject)
        effect, rule = resolve(self._model.effect, sorted(found), self._rules.effects)
        decided = self._rule(self._rules.lines[rule], subjects, found[rule], values["dom"]) if rule >= 0 else None
        return self._answer(EFFECTS[effect], decided)
