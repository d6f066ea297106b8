"""What is left to Casbin's evaluator, and what nobody can evaluate."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from authz.call import Call
from authz.decision import authorizer_for
from authz.decision.casbin import CasbinAuthorizer, Matcher
from authz.decision.compiled import CompiledAuthorizer
from authz.decision.index import Index
from authz.decision.rules import Rules
from authz.decision.selector import NotCompilable
from authz.errors import EvaluationError, PolicyError
from authz.policy.load import load_bundle
from authz.policy.model import read_model
from tests.bundle import MODEL, caller, write_bundle
from tests.decision.stock import enforcer, lines_of

GENERIC = """\
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act{eft}
[role_definition]
g = {g}
[policy_effect]
e = {effect}
[matchers]
m = {matcher}
"""


def model(matcher: str, *, effect: str = "some(where (p.eft == allow))", g: str = "_, _", eft: str = "") -> str:
    return GENERIC.format(matcher=matcher, effect=effect, g=g, eft=eft)


def built(text: str, policy: str) -> tuple[Rules, Index, Matcher]:
    rules = Rules(read_model(text, "model"), lines_of(policy).rows())
    return rules, Index(rules), Matcher(rules)


SLOW = [
    # a matcher that is slow, a policy, requests and why
    ("eval(p.sub) && r.obj == p.obj", "p, r.sub == 'a' || r.sub != 'b', o, x\np, !(r.act == 'x'), o2, x", "eval"),
    ("r.sub == p.sub && eval(p.obj) && eval(p.act)", "p, a, r.obj == 'o', r.act == 'x' && r.sub != 'b'", "eval"),
    ("r.sub == p.sub && r.obj + 'x' == p.obj + 'x'", "p, a, o, x\np, b, o2, x", "r.obj + 'x'"),
    ("r.sub == p.sub && r.obj < p.obj", "p, a, o2, x\np, b, o2, x", "r.obj < p.obj"),
    ("r.sub == p.sub && timeMatch(p.obj, p.act)", "p, a, _, _\np, b, 2999-01-01 00:00:00, _", "timeMatch"),
    ("r.sub == p.sub && timeMatch(r.obj, p.obj) && r.act == p.act", "p, d, _, x", "timeMatch"),
    ("r.sub == p.sub && keyMatch(r.obj, p.obj, r.act)", "p, a, o*, x", "keyMatch"),
    ("r.sub == p.sub && p.obj == 1", "p, a, 1, x", "1"),
    ("g(r.sub, p.sub) && eval(p.obj)", "p, a, r.obj == 'o', x\ng, b, a", "eval"),
    ("eval(p.sub)", "p, r.obj == 'o', o, x\np, r.obj == 'o', o2, x", "eval"),
    ("r.sub == p.sub && timeMatch('_', p.obj)", "p, a, _, x", "timeMatch"),
    ("r.sub == p.sub && keyMatch(r.obj + '', p.obj)", "p, a, o*, x", "r.obj + ''"),
    ("r.sub == p.sub && (r.obj == p.obj) == (r.act == p.act)", "p, a, o, x", "r.obj == p.obj"),
    ("r.sub == p.sub && 'a' < r.obj < p.obj", "p, a, o2, x", "'a' < r.obj < p.obj"),
]


@pytest.mark.parametrize(("matcher", "policy", "why"), SLOW)
def test_what_is_slow_agrees_with_casbin(matcher: str, policy: str, why: str) -> None:
    text = model(matcher)
    _, index, evaluator = built(text, policy)
    assert why in index.slow
    stock = enforcer(text, policy)
    for request in [(sub, obj, act) for sub in ("a", "b", "c") for obj in ("o", "o1", "o2") for act in ("x", "y")]:
        assert bool(evaluator.found(request, index.found(request))) is stock.enforce(*request), request


FAST = [
    # further matchers that compile, each with a policy
    ("g(r.sub, p.sub, r.obj) && r.act == p.act", "_, _", "p, a, o, x\ng, b, a"),
    ("g(r.sub, p.sub, r.obj) && r.act == p.act", "_, _, _", "p, a, o, x\ng, b, a, o\ng, c, a, o2"),
    ("g(r.sub, p.sub, p.obj) && r.act == p.act", "_, _, _", "p, a, o, x\ng, b, a, o"),
    ("g(r.sub, p.sub, 'o') && r.act == p.act", "_, _, _", "p, a, o, x\ng, b, a, o"),
    ("g('b', p.sub) && r.act == p.act", "_, _", "p, a, o, x\ng, b, a"),
    ("ipMatch(r.sub, p.sub) && r.act == p.act", "_, _", "p, 10.0.0.0/8, o, x"),
    ("keyMatch(p.sub, r.sub) && p.act == r.act", "_, _", "p, a, o, x"),
    ("r.sub in ['a', 'c'] && 'x' == p.act", "_, _", "p, a, o, x\np, a, o, y"),
    ("r.sub != 'a' && p.act != r.act && !(r.obj == p.obj && r.act == 'y')", "_, _", "p, a, o, x\np, a, o2, y"),
    ("(r.sub == p.sub || r.obj == p.obj) && r.act == p.act", "_, _", "p, a, o, x\np, b, o2, y"),
    ("r.sub == 'a' && r.obj == 'o' || r.act == 'y'", "_, _", "p, a, o, x"),
    ("regexMatch(r.obj, p.obj) && r.sub == p.sub", "_, _", "p, a, o|b, x\np, b, ^o.$, x\np, c, o2?, x"),
    ("globMatch(r.obj, p.obj) && r.sub == p.sub", "_, _", "p, a, o*, x\np, b, o?, x"),
    ("r.sub == p.sub && p.obj == p.obj && r.act == p.act", "_, _", "p, a, o, x"),
    ("g(r.sub, p.sub) && r.act == p.act", "_, _", "p, d, o, x\ng, a, b\ng, a, c\ng, b, d\ng, c, d"),
    ("r.sub == p.sub && r.sub == p.sub && r.obj == p.obj", "_, _", "p, a, o, x"),
    ("regexMatch(r.obj, 'o[12]') && r.sub == p.sub", "_, _", "p, a, o, x"),
]


@pytest.mark.parametrize(("matcher", "g", "policy"), FAST)
def test_what_is_fast_agrees_with_casbin(matcher: str, g: str, policy: str) -> None:
    text = model(matcher, g=g)
    stock = enforcer(text, policy)
    _, index, _ = built(text, policy)
    assert not index.slow
    index.forget_rows()
    for request in [(s, obj, act) for s in ("a", "b", "c", "10.1.2.3") for obj in ("o", "o2") for act in ("x", "y")]:
        try:
            expected = stock.enforce(*request)
        except ValueError:
            with pytest.raises(ValueError):
                index.decide(request)
        else:
            assert (index.decide(request)[0] == 1) is expected, request


def test_a_pattern_that_is_none_counts_only_where_casbin_would_look() -> None:
    text = model("r.sub == p.sub && regexMatch(r.obj, p.obj)")
    policy = "p, a, *, x\np, b, o, x"
    stock = enforcer(text, policy)
    _, index, _ = built(text, policy)
    assert index.decide(("b", "o", "x"))[0] == 1
    assert stock.enforce("b", "o", "x")
    for ask in (stock.enforce, lambda *request: index.decide(request)):
        with pytest.raises(Exception, match="nothing to repeat"):
            ask("a", "o", "x")


def test_without_any_rule_casbin_asks_about_an_empty_one() -> None:
    for matcher, allowed in (("r.sub == p.sub || r.sub == 'root'", True), ("r.sub == p.sub", False)):
        _, index, _ = built(model(matcher), "g, a, b")
        assert (index.decide(("root", "o", "x"))[0] == 1) is allowed
        assert enforcer(model(matcher), "g, a, b").enforce("root", "o", "x") is allowed


REFUSED = [
    (model("eval(p.sub, p.obj)"), "p, a, o, x", "`eval` takes one field of the rule"),
    (model("eval(r.sub)"), "p, a, o, x", "`eval` takes one field of the rule"),
    (model("eval(p.sub)"), "p, r.sub ==, o, x", "`r.sub ==` is no expression"),
    (model("r.sub == p.sub"), "p, a, o", "some rule has not 3 fields"),
    (model("g(r.sub, p.sub)", g="_, _, _"), "g, a, b", "some line has less than 3 fields"),
    (model("g(r.sub, p.sub)", g="_, _, _, _"), "g, a, b, c, d", "more than one domain"),
    (model("r.sub == p.sub", eft=", priority"), "p, a, o, x, 1\np, a, o, x, high", "some priorities are numbers"),
    (
        model("r.sub == p.sub", effect="subjectPriority(p.eft) || deny"),
        "g, a, b\ng, b, a\np, a, o, x",
        "the subjects form a circle",
    ),
]


@pytest.mark.parametrize(("text", "policy", "problem"), REFUSED)
def test_what_nobody_can_evaluate(text: str, policy: str, problem: str) -> None:
    with pytest.raises(PolicyError, match=problem.replace("(", r"\(")):
        built(text, policy)


def test_what_no_dictionary_can_hold() -> None:
    _, index, _ = built(model("r.sub == p.sub"), "p, a, o, x")
    index.forget_rows()
    with pytest.raises(TypeError):
        index.decide((["a"], "o", "x"))  # type: ignore[arg-type]


def test_lines_of_no_known_type_are_overlooked_as_casbin_does() -> None:
    policy = "p, a, o, x\np2, b, o, x\nx, y"
    rules, index, _ = built(model("r.sub == p.sub"), policy)
    assert rules.rows == [["a", "o", "x"]]
    assert index.decide(("b", "o", "x"))[0] != 1


def test_an_answer_that_is_neither_true_nor_false() -> None:
    _, index, matcher = built(model("r.sub + p.sub"), "p, a, o, x")
    assert index.slow
    with pytest.raises(EvaluationError, match="the matcher gave str, not true or false"):
        matcher.matches(("a", "o", "x"), ("a", "o", "x"))


def test_a_matcher_that_is_nested_too_deep() -> None:
    rules, _, matcher = built(model("r.sub + p.sub == 'aa'"), "p, a, o, x")
    assert matcher.matches(("a", "o", "x"), rules.rows[0])
    deep = Matcher(rules)
    deep._tree = read_deep()
    with pytest.raises(EvaluationError, match="nested too deep"):
        deep.matches(("a", "o", "x"), rules.rows[0])


def read_deep() -> ast.expr:
    tree: ast.expr = ast.parse("r_sub == 'a'", mode="eval").body
    for _ in range(5_000):
        tree = ast.UnaryOp(ast.Not(), tree)
    return tree


def test_a_bundle_that_is_slow(tmp_path: Path) -> None:
    text = MODEL.rstrip() + " && r.act + 'x' == r.act + 'x'\n"
    revision = load_bundle(write_bundle(tmp_path / "b", model=text))
    authorizer = authorizer_for(revision)
    assert isinstance(authorizer, CasbinAuthorizer)
    assert "`r.act + 'x'` is evaluated by Casbin" in str(authorizer.slow[0])
    assert authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("a",))).effect
    with pytest.raises(NotCompilable):
        CompiledAuthorizer(revision)


def test_a_bundle_whose_matcher_fails(tmp_path: Path) -> None:
    text = MODEL.rstrip() + " && r.act + 1 == r.act\n"
    for build in (authorizer_for, lambda revision: CasbinAuthorizer(revision, indexed=False)):
        authorizer = build(load_bundle(write_bundle(tmp_path / "b", model=text)))
        with pytest.raises(EvaluationError, match="TypeError"):
            authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("a",)))


def test_an_evaluation_error_stays_what_it_is(tmp_path: Path) -> None:
    text = MODEL.replace("m = g(", "m = r.sub + p.sub + r.dom + p.dom + r.obj + p.obj + r.act + p.act || g(")
    authorizer = authorizer_for(load_bundle(write_bundle(tmp_path / "b", model=text)))
    with pytest.raises(EvaluationError, match=r"^the matcher gave str"):
        authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("a",)))


def test_two_rules_that_differ_in_their_effect_alone(tmp_path: Path) -> None:
    policy = "p, role:a, *, *, read, allow\np, role:a, *, *, read, deny\n"
    revision = load_bundle(write_bundle(tmp_path / "b", policy))
    assert "the same is allowed by another line" in str(revision.warnings)
    assert not authorizer_for(revision).authorize(caller("a"), Call("/shop.Orders/Get", ("a",))).effect


def test_another_error_of_a_function_is_an_evaluation_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorizer = CompiledAuthorizer(load_bundle(write_bundle(tmp_path / "b")))

    def fail(*_: object) -> None:
        raise EvaluationError("on purpose")

    monkeypatch.setattr(authorizer, "_at", fail)
    with pytest.raises(EvaluationError, match=r"^on purpose$"):
        authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("a",)))
