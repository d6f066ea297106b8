"""What a matcher may not forget to ask, and which matchers ask enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.errors import PolicyError
from authz.policy.load import load_bundle
from authz.policy.model import PolicyEffect
from tests.bundle import MODEL, POLICY, write_bundle

G, DOM = "g(r.sub, p.sub)", "keyMatch(r.dom, p.dom)"
OBJ, ACT = "(g2(r.obj, p.obj) || keyMatch(r.obj, p.obj))", '(p.act == "*" || r.act == p.act)'
MATCHER = f"{G} && {DOM} && {OBJ} && {ACT}"
RULES = "p, role:reader, *, *, read, allow\n"
BRACKETS = "put brackets around what stands on both sides of `||`"


def bundle(folder: Path, matcher: str, policy: str = RULES, **other: str) -> Path:
    """A bundle whose model has another matcher, and ``other`` definitions."""
    assert MODEL.endswith(f"m = {MATCHER}\n")
    model = MODEL.replace(MATCHER, matcher)
    for key, value in other.items():
        before = next(line for line in model.splitlines() if line.startswith(f"{key} = "))
        model = model.replace(before, f"{key} = {value}")
    return write_bundle(folder, policy, model=model)


FORGOTTEN = {
    # a matcher, and for each problem its message (without the alternative) and words of the remedy
    "the caller": (f"{DOM} && {OBJ} && {ACT}", [("`m` does not look at `r.sub` and `p.sub`: every caller", f"`{G}`")]),
    "the namespace": (f"{G} && {OBJ} && {ACT}", [("`m` does not look at `p.dom`", f"`{DOM}`, or leave `dom` out of")]),
    "the method": (f"{G} && {DOM} && {ACT}", [("`m` does not look at `p.obj`", "`keyMatch(r.obj, p.obj)`, or leave")]),
    "the access": (f"{G} && {DOM} && {OBJ}", [("`m` does not look at `p.act`", "`r.act == p.act`, or leave")]),
    "two of them": (f"{G} && {OBJ}", [("`m` does not look at `p.dom` and `p.act`", "leave `dom` and `act` out")]),
    "the brackets around ||": (
        f"{G} && {DOM} && {OBJ[1:-1]} && {ACT}",
        [
            (f"`{G} && {DOM} && g2(r.obj, p.obj)` is enough for `m`, and does not look at `p.act`", BRACKETS),
            (
                "`keyMatch(r.obj, p.obj) && p.act == '*'` is enough for `m`, and does not look at `r.sub` and `p.sub` "
                "and `p.dom`: every caller would be the same",
                BRACKETS,
            ),
        ],
    ),
    "the caller, for one value of a rule": (
        f'({G} || p.sub == "role:open") && {DOM} && {OBJ} && {ACT}',
        [("does not look at `r.sub`: every caller", BRACKETS)],
    ),
    "all who are not somebody": (
        f'{MATCHER} || r.sub != "role:guest"',
        [("`r.sub != 'role:guest'` is enough for `m`, and does not look at `r.sub`", BRACKETS)],
    ),
    "all who are not somebody, said otherwise": (
        f'{MATCHER} || !(r.sub == "role:guest" || {G})',
        [("`!(r.sub == 'role:guest') && !(g(r.sub, p.sub))` is enough", BRACKETS)],
    ),
    "everything": (f"{MATCHER} || 1 == 1", [("`1 == 1` is enough for `m`, and does not look at `r.sub`", BRACKETS)]),
    "the rule, for one access": (f'{MATCHER} || r.act == "read"', [("does not look at `r.sub`", BRACKETS)]),
    "that the request has a namespace": (
        f'{G} && p.dom != "" && {OBJ} && {ACT}',
        [("`m` does not look at `r.dom`", f"`{DOM}`")],
    ),
    "a method instead of a subject": (
        f"g(r.sub, p.obj) && {DOM} && {OBJ} && {ACT}",
        [("`m` does not look at `p.sub`", f"`{G}`")],
    ),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_what_is_forgotten_is_told_at_the_matcher(name: str, tmp_path: Path) -> None:
    matcher, expected = FORGOTTEN[name]
    folder = bundle(tmp_path, matcher)
    with pytest.raises(PolicyError) as refused:
        load_bundle(folder)
    problems = refused.value.problems
    assert {str(each.place) for each in problems} == {f"{folder / 'model.conf'}:15:5"}
    assert len(problems) == len(expected)
    for problem, (message, remedy) in zip(problems, expected, strict=True):
        assert message in problem.message
        assert remedy in problem.remedy


ENOUGH = {
    # a matcher, and what else the model says
    "the default": (MATCHER, {}),
    "roles by namespace": (MATCHER.replace("p.sub)", "p.sub, r.dom)"), {"g": "_, _, _"}),
    "equality": (
        f"r.sub == p.sub && r.dom == p.dom && {OBJ} && {ACT}",
        {"policy": "p, role:reader, shop, *, read, allow\n"},
    ),
    "a rule that says it is about everybody": (f'({G} || p.sub == "*") && {DOM} && {OBJ} && {ACT}', {}),
    "one that says it is about any namespace": (f'{G} && (r.dom == p.dom || "*" == p.dom) && {OBJ} && {ACT}', {}),
    "a caller who is excepted": (f'{MATCHER} && r.sub != "role:guest"', {}),
    "brackets multiplied out": (
        f"{G} && {DOM} && g2(r.obj, p.obj) && {ACT} || {G} && {DOM} && keyMatch(r.obj, p.obj) && {ACT}",
        {},
    ),
    "no roles": (f"r.sub == p.sub && {DOM} && {OBJ} && {ACT}", {}),
    "no namespaces, and none in the rules": (
        f"{G} && {OBJ} && {ACT}",
        {"p": "sub, obj, act, eft", "policy": "p, role:reader, *, read, allow\n"},
    ),
    "an owner beside the subject": (
        f"({G} || r.sub == p.owner) && {DOM} && {OBJ} && {ACT}",
        {"p": "sub, dom, obj, act, eft, owner", "policy": "p, role:reader, *, *, read, allow, user:x\n"},
    ),
    "a remark in each rule": (
        MATCHER,
        {"p": "sub, dom, obj, act, eft, note", "policy": "p, role:reader, *, *, read, allow, for the audit\n"},
    ),
    "rules that are conditions": (
        f"eval(p.when) && {DOM} && {OBJ} && {ACT}",
        {"p": "when, dom, obj, act, eft", "policy": "p, r.sub == 'role:a', *, *, read, allow\n"},
    ),
}


@pytest.mark.parametrize("name", ENOUGH)
def test_what_asks_enough_loads(name: str, tmp_path: Path) -> None:
    matcher, other = ENOUGH[name]
    assert load_bundle(bundle(tmp_path, matcher, **other)).warnings == ()


def test_a_caller_for_whom_no_rule_is_asked_is_told(tmp_path: Path) -> None:
    (warning,) = load_bundle(bundle(tmp_path, f'{MATCHER} || r.sub == "role:root"')).warnings
    assert str(warning).startswith(f"{tmp_path / 'model.conf'}:15:5: `r.sub == 'role:root'` is enough for `m`, so ")
    assert "also each denial" in warning.message


def test_an_end_that_one_alternative_forgets(tmp_path: Path) -> None:
    other = {"p": "sub, dom, obj, act, eft, until"}
    policy = "p, role:reader, *, *, read, allow, 2020-01-01T00:00:00Z\n"
    matcher = f"{MATCHER} && validUntil(p.until) || {G} && {DOM} && {OBJ} && r.act == p.act"
    with pytest.raises(PolicyError, match=r"is enough for `m`, and does not look at `p\.until`;"):
        load_bundle(bundle(tmp_path / "a", matcher, policy, **other))
    load_bundle(bundle(tmp_path / "b", f"{MATCHER} && validUntil(p.until)", policy, **other))


UNUSED = {
    # a matcher, further lines, and the key that is never called
    "g": (MATCHER.replace(G, "r.sub == p.sub"), "p, role:bad, *, *, *, deny\ng, user:x:eve, role:bad\n", "g"),
    "g2": (MATCHER.replace(OBJ, "keyMatch(r.obj, p.obj)"), "g2, /shop.Orders/Get, api:get\n", "g2"),
}


@pytest.mark.parametrize("name", UNUSED)
def test_lines_that_count_for_nothing_are_told(name: str, tmp_path: Path) -> None:
    matcher, lines, key = UNUSED[name]
    load_bundle(bundle(tmp_path / "without", matcher))
    folder = bundle(tmp_path / "with", matcher, RULES + lines)
    with pytest.raises(PolicyError) as refused:
        load_bundle(folder)
    (problem,) = refused.value.problems
    line = 1 + (RULES + lines).count("\n", 0, (RULES + lines).index(f"{key}, "))
    assert problem.place.path == str(folder / "model.conf")
    assert (
        problem.message == f"`m` never calls `{key}`, so its lines count for nothing: {folder / 'policy.csv'}:{line}:1"
    )


def test_roles_that_rank_the_rules_need_not_be_called(tmp_path: Path) -> None:
    matcher = MATCHER.replace(G, "r.sub == p.sub")
    ranked = PolicyEffect.SUBJECT_PRIORITY.value
    assert load_bundle(bundle(tmp_path, matcher, POLICY, e=ranked)).lines


def test_a_matcher_of_many_brackets_is_read_in_no_time(tmp_path: Path) -> None:
    many = " && ".join(f"({G} || {DOM} || {OBJ} || r.act == p.act)" for _ in range(200))
    with pytest.raises(PolicyError, match="is enough for `m`"):
        load_bundle(bundle(tmp_path, many))
