"""Generated models, policies and requests: Hypothesis strategies for the differential tests and for the corpus.

The alphabets are small, so that rules match, overlap, deny each other and inherit.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from authz.policy.model import PolicyEffect

NAMES = ["alice", "bob", "root", "a"]
DOMAINS = ["d1", "d10", "1d"]
OBJECTS = ["/o/1", "/o/12", "/p/x/y", "grp"]
ACTIONS = ["read", "write", "readwrite"]
SUB_VALUES = [*NAMES, "*", "a*"]
DOM_VALUES = [*DOMAINS, "*", "d*", "1*", "*1"]
OBJ_VALUES = [*OBJECTS, "*", "/o/*", "o*", "1*", "/o/:id", "/p/{x}/y", "/p/{x}/{x}", "/o/1*2"]
ACT_VALUES = [*ACTIONS, "*"]
EFFECTS = ["allow", "deny", "indeterminate"]

SUBJECTS = ["r.sub == p.sub", "g(r.sub, p.sub)", '(g(r.sub, p.sub) || p.sub == "*")', "keyMatch(r.sub, p.sub)"]
PORTABLE = {
    "dom": ["r.dom == p.dom", "keyMatch(r.dom, p.dom)", 'r.dom == p.dom || p.dom == "*"', "g3(r.dom, p.dom)"],
    "obj": [
        "r.obj == p.obj",
        "keyMatch(r.obj, p.obj)",
        "keyMatch2(r.obj, p.obj)",
        "g2(r.obj, p.obj)",
        "(g2(r.obj, p.obj) || keyMatch(r.obj, p.obj))",
    ],
    "act": ["r.act == p.act", '(p.act == "*" || r.act == p.act)', "keyMatch(r.act, p.act)"],
}
FURTHER = {
    "dom": ["globMatch(r.dom, p.dom)", "p.dom != r.dom", "r.dom in [p.dom, 'd2']"],
    "obj": [
        "keyMatch3(r.obj, p.obj)",
        "keyMatch4(r.obj, p.obj)",
        "keyMatch5(r.obj, p.obj)",
        "globMatch(r.obj, p.obj)",
        "regexMatch(r.obj, p.obj)",
        "g2(p.obj, r.obj)",
        "keyMatch(p.obj, r.obj)",
    ],
    "act": ["regexMatch(r.act, p.act)", "r.act != p.act", "p.act in ['read', '*']", "!(r.act == p.act)"],
}
EXTRAS = [
    "",
    "",
    "",
    '|| r.sub == "root"',
    '&& r.sub != "bob"',
    "&& r.obj != p.sub",
    "|| r.sub == p.obj && r.act == p.act",
]
SLOW = ["&& r.act + 'x' == p.act + 'x'", "&& r.act <= p.act", "|| r.act > p.obj"]


@dataclass(frozen=True)
class Example:
    """A model, a policy for it, and requests."""

    model: str
    policy: str
    requests: tuple[tuple[str, str, str, str], ...]


@st.composite
def examples(draw: st.DrawFn, *, portable: bool = False, slow: bool = False) -> Example:
    """Any example; ``portable``: one that every Casbin reads alike; ``slow``: also what cannot be compiled."""

    def one_of(field: str) -> str:
        return draw(st.sampled_from(PORTABLE[field] if portable else PORTABLE[field] + FURTHER[field]))

    by_domain = draw(st.booleans())
    subject = "g(r.sub, p.sub, r.dom)" if by_domain else draw(st.sampled_from(SUBJECTS))
    parts = [subject, f"({one_of('dom')})", one_of("obj"), one_of("act")]
    parts = draw(st.permutations(parts))[: draw(st.integers(1, 4))] if draw(st.booleans()) else parts
    extras = EXTRAS[:5] if portable else EXTRAS + (SLOW * 2 if slow else [])
    effect = draw(st.sampled_from(list(PolicyEffect)))
    has_effect = draw(st.integers(0, 4)) > 0
    has_priority = effect is PolicyEffect.PRIORITY and draw(st.booleans())
    names = ["priority"] * has_priority + ["sub", "dom", "obj", "act"] + ["eft"] * has_effect
    if not has_priority and effect is not PolicyEffect.SUBJECT_PRIORITY and not portable:
        names = draw(st.permutations(names))
    values = {
        "priority": st.sampled_from(["1", "2", "10"]),
        "sub": st.sampled_from(SUB_VALUES),
        "dom": st.sampled_from(DOM_VALUES),
        "obj": st.sampled_from(OBJ_VALUES),
        "act": st.sampled_from(ACT_VALUES),
        "eft": st.sampled_from(EFFECTS[:2] if portable else EFFECTS),
    }
    least = draw(st.sampled_from([0, 1, 6, 10]))
    least = max(least, int(portable))
    rules = draw(st.lists(st.tuples(*(values[name] for name in names)), min_size=least, max_size=14))
    lines = ["p, " + ", ".join(rule) for rule in rules]
    circles = effect is not PolicyEffect.SUBJECT_PRIORITY and not portable
    for key, universe in (("g", NAMES), ("g2", OBJECTS), ("g3", DOMAINS)):
        pairs = st.tuples(*[st.integers(0, len(universe) - 1)] * 2)
        for member, role in draw(st.lists(pairs, min_size=draw(st.sampled_from([0, 0, 5])), max_size=7)):
            if member < role or circles:
                domain = f", {draw(st.sampled_from(DOMAINS))}" if key == "g" and by_domain else ""
                lines.append(f"{key}, {universe[member]}, {universe[role]}{domain}")
    model = f"""\
[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = {", ".join(names)}
[role_definition]
g = _, _{", _" * by_domain}
g2 = _, _
g3 = _, _
[policy_effect]
e = {effect.value}
[matchers]
m = {" && ".join(parts)} {draw(st.sampled_from(extras))}
"""
    request = st.tuples(
        st.sampled_from(NAMES), st.sampled_from(DOMAINS), st.sampled_from(OBJECTS), st.sampled_from(ACTIONS)
    )
    requests = draw(st.lists(request, min_size=8, max_size=16))
    return Example(model, "\n".join(dict.fromkeys(draw(st.permutations(lines)))), tuple(requests))
