"""What a bundle may not say: each mistake is refused with its place and what to write instead."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from authz.authn.subject import subject_problem
from authz.claims import base as claims
from authz.errors import Place, PolicyError, Problem
from authz.policy import check, load
from authz.policy.collector import collector_put_off
from authz.policy.lines import PolicyLines, _raw_lines
from authz.policy.load import load_bundle
from tests.bundle import CATALOGUE, MODEL, POLICY, write_bundle

LINES = [
    # policy lines, and the problem: line:column, words of the message, words of the remedy
    ("P, role:a, *, *, read, allow", "1:1", "defines no `P`", "did you mean `p`?"),
    ("p2, role:a, *, *, read, allow", "1:1", "defines no `p2`", "did you mean"),
    ("g3, role:a, role:b", "1:1", "defines no `g3`", "did you mean"),
    ("p role:a * * read allow", "1:1", "defines no", ""),
    ("p, role:a, *, *, read", "1:1", "has 4 fields, `p` has 5", "write p, sub, dom, obj, act, eft"),
    ("p, role:a, *, *, read, allow, x", "1:1", "has 6 fields", "write p, sub"),
    ("p, role:a, *, *, , allow", "1:18", "a field is empty", "write a value"),
    ("g, role:a", "1:1", "has 1 fields, `g` has 2", "write g, member, role"),
    (
        "p, admin, *, *, read, allow",
        "1:4",
        "`admin` is no subject",
        "`role:admin`, or `user:<prefix of the issuer>admin`",
    ),
    ("p, Role:admin, *, *, read, allow", "1:4", "`Role:admin` is no subject", "write `role:admin`"),
    ("p, role:, *, *, read, allow", "1:4", "`role:` is no role", "ASCII letters"),
    ("p, role:*, *, *, read, allow", "1:4", "`role:*` is no role", "ASCII letters"),
    ("p, user:, *, *, read, allow", "1:4", "names nobody", "prefix"),
    ("p, user:corp:*, *, *, read, allow", "1:4", "a subject is no pattern", "name the user"),
    ("p, role:a, a b, *, read, allow", "1:12", "`a b` is no namespace", "ASCII letters"),
    ("p, role:a, *-x, *, read, allow", "1:12", "ignores what follows the first `*`", "at the end only"),
    ("p, role:a, a*b*, *, read, allow", "1:12", "ignores what follows the first `*`", "at the end only"),
    ("p, role:a, *, Get, read, allow", "1:15", "`Get` is no method", "write `/shop.Orders/Get`"),
    ("p, role:a, *, /shop.Orders/Gett, read, allow", "1:15", "knows no method", "did you mean `/shop.Orders/Get`?"),
    ("p, role:a, *, /shop.Order/*, read, allow", "1:15", "matches no method", "did you mean"),
    ("p, role:a, *, /*/Get, read, allow", "1:15", "ignores what follows the first `*`", "at the end only"),
    ("p, role:a, *, api:cancel, *, allow", "1:15", "no line puts a method into", "g2, <method>, api:cancel"),
    ("p, role:a, *, *, reed, allow", "1:18", "`reed` is no access", "did you mean `read`?"),
    ("p, role:a, *, *, READ, allow", "1:18", "`READ` is no access", "did you mean `read`?"),
    ("p, role:a, *, *, read, Deny", "1:24", "`Deny` is no effect", "did you mean `deny`?"),
    ("p, role:a, *, *, read, dney", "1:24", "`dney` is no effect", "did you mean `deny`?"),
    ("p, role:a, *, *, read, deny # suspended", "1:29", "part of the value", "a line of its own"),
    ("p, role:a, *, *, read, #allow", "1:24", "part of the value", "a line of its own"),
    ('p, "role:a", *, *, read, allow', "1:4", "a quote", "leave it out"),
    ("p; role:a; *; *; read; allow", "1:2", "a semicolon does not separate", "comma"),
    ("p\trole:a\t*\t*\tread\tallow", "1:2", "a tab does not separate", "comma"),
    ("p, role:a, *,\t*, read, allow", "1:14", "U+0009", "plain blank"),
    ("p, role:a,\u00a0*, *, read, allow", "1:11", "U+00A0", "plain blank"),
    ("p, role:a, \x00*, *, read, allow", "1:12", "U+0000", "plain blank"),
    ("p, role:a, (*, *), read, allow", "1:1", "bracket", "remove"),
    ("p, role:a, [*, *, read, allow", "1:1", "bracket", "remove"),
    ("<<<<<<< ours", "1:1", "merge conflict", "resolve"),
    ("=======", "1:1", "merge conflict", "resolve"),
    (">>>>>>> theirs", "1:1", "merge conflict", "resolve"),
    ("p, role:a, *, *, read, allow\n\np,role:a,*,*,read,allow", "3:1", "is the same line as", "keep one"),
    (
        "p, role:a, *, *, read, allow\ng, role:b, role:aa",
        "2:12",
        "grants anything to `role:aa`",
        "did you mean `role:a`",
    ),
    ("p, role:a, *, *, read, allow\ng, alice, role:a", "2:4", "`alice` is no subject", "of the issuer>alice`"),
    (
        "p, user:corp:a?b, *, *, *, deny",
        "1:4",
        "is no subject of any caller: it has one of the characters",
        "audit log",
    ),
    ("p, user:corp:a\u00ad, *, *, *, deny", "1:4", "of any caller: it has a character that cannot be seen", "record"),
    ("p, role:a, *, *, read, allow\ng, user:x, user:y", "2:12", "`user:y` is no role", "write `role:y`"),
    ("p, role:a, *, *, read, allow\ng, role:b, role:a\ng, role:a, role:b", "3:1", "role:a -> role:b", "remove one"),
    ("p, role:a, *, *, read, allow\ng, role:a, role:a", "2:1", "closes the circle role:a -> role:a", "remove one"),
    ("g2, /shop.Orders/Get, read", "1:23", "`read` is no API group", "api:<name>"),
    ("g2, /shop.Orders/*, api:x", "1:5", "would not be a pattern here", "name the method"),
    ("g2, /shop.Orders/Gat, api:x", "1:5", "knows no method", "did you mean `/shop.Orders/Get`?"),
]


@pytest.mark.parametrize(("policy", "place", "message", "remedy"), LINES, ids=[line[0][:40] for line in LINES])
def test_a_line_is_refused(tmp_path: Path, policy: str, place: str, message: str, remedy: str) -> None:
    bundle = write_bundle(tmp_path / "b", policy + "\n")
    with pytest.raises(PolicyError) as refused:
        load_bundle(bundle)
    first = refused.value.problems[0]
    assert str(first.place) == f"{bundle / 'policy.csv'}:{place}"
    assert message in first.message
    assert remedy in first.remedy


MODELS = [
    # what to replace in the model, by what, and words of the problem
    ("[matchers]", "[matcher]", "unknown section `[matcher]`; did you mean `matchers`?"),
    ("[matchers]", "[matchers", "unknown section"),
    ("[request_definition]", "", "`r` stands before the first section"),
    ("r = sub, dom, obj, act", "", "`r` of `[request_definition]` is missing"),
    ("r = sub, dom, obj, act", "r = sub, dom, obj, act\nr = sub", "defined twice"),
    ("r = sub, dom, obj, act", "r = sub, domain, obj, act", "`r` asks for `domain`, which no call has; did you mean"),
    ("r = sub, dom, obj, act", "r = sub, dom, obj, act # who", "comment"),
    ("r = sub, dom, obj, act", "r = sub, sub, obj, act", "names `sub` twice"),
    ("r = sub, dom, obj, act", "r = sub, d om, obj, act", "`d om` in `r` is no name"),
    ("r = sub, dom, obj, act", "r =", "`r` has no value"),
    ("r = sub, dom, obj, act", "r1 = sub", "`r1` is no key of `[request_definition]`"),
    ("p = sub, dom, obj, act, eft", "p = sub, dom, obj, act, eft\np2 = sub", "`p2` is never decided"),
    ("r = sub, dom, obj, act", "r = dom, obj, act", "`r` does not ask for `sub`"),
    ("g = _, _", "g = _", "`g` cannot be `_`"),
    ("g = _, _", "g = _, _, (_, _)", "`g` has conditions"),
    ("g = _, _", "g = _, _, _, _", "more than one domain"),
    ("some(where (p.eft == allow)) && ", "", "allows every call that no rule denies"),
    ("(p.eft == allow)", "(p.eft==allow)", "write `some(where (p.eft == allow)) &&"),
    ("(p.eft == allow)", "(p.eft == alow)", "Casbin has no effect"),
    ("r.act == p.act", "r.act == p.actt", "`m` uses `p.actt`, which nobody defines; did you mean `p.act`?"),
    ("keyMatch(r.dom", "keymatch(r.dom", "`m` calls `keymatch`, which nobody defines; did you mean `keyMatch`?"),
    ("r.act == p.act)", "r.act == p.act", "`m` is no expression"),
    ('"*"', '"*', "does not end"),
    ('"*"', '"!"', "holds an operator"),
    ("m = g(", "m = # g(", "`m` is empty"),
    ("&& \\\n", "&& \\\n\n", "must be continued"),
]


@pytest.mark.parametrize(("old", "new", "problem"), MODELS, ids=[f"{old[:20]}->{new[:30]}" for old, new, _ in MODELS])
def test_a_model_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    model = MODEL.replace("&& (p.act", "&& \\\n(p.act")
    assert old in model
    with pytest.raises(PolicyError, match=re.escape(problem)):
        load_bundle(write_bundle(tmp_path / "b", model=model.replace(old, new, 1)))


@pytest.mark.parametrize(
    "deep", ["!" * 150, "!" * 1500, "!" * 100_000, "(1 == 1 && " * 99 + "1 == 1" + ")" * 99 + " && "]
)
def test_a_matcher_nested_too_deep_is_refused(tmp_path: Path, deep: str) -> None:
    with pytest.raises(PolicyError, match=r"model.conf:15:5: `m` is no expression: "):
        load_bundle(write_bundle(tmp_path / "b", model=MODEL.replace("m = ", f"m = {deep}")))


def test_a_model_that_ends_in_the_middle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="the last line ends in"):
        load_bundle(write_bundle(tmp_path / "b", model=MODEL + "x = 1 \\"))


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", "p, role:a, *, *, reed, allow\np, role:a, *, *, read, dney\n")
    with pytest.raises(PolicyError) as refused:
        load_bundle(bundle)
    assert [problem.place.line for problem in refused.value.problems] == [1, 2]


def test_the_lines_of_every_file_in_order(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", "# first\r\n" + POLICY.replace("\n", "\r\n"))
    (bundle / "policy.d").mkdir()
    (bundle / "policy.d" / "20.csv").write_text("p,role:y,  ns-1 ,*,*,deny")
    (bundle / "policy.d" / "10.csv").write_text("  p, role:x, *, *, read, allow\n")
    for name in (".gitkeep", "10.csv~", "#10.csv#", ".10.csv.swp"):
        (bundle / "policy.d" / name).write_text("no policy")
    (bundle / "policy.d" / ".#10.csv").symlink_to("somebody@somewhere")
    revision = load_bundle(bundle)
    assert revision.warnings == ()
    assert [str(line.place).rpartition("/")[2] + " " + line.text for line in revision.lines] == [
        "policy.csv:2:1 p, role:reader, *, *, read, allow",
        "policy.csv:3:1 p, role:writer, *, *, write, allow",
        "policy.csv:4:1 g, role:writer, role:reader",
        "10.csv:1:3 p, role:x, *, *, read, allow",
        "20.csv:1:1 p, role:y, ns-1, *, *, deny",
    ]
    assert [revision.lines[i] for i in range(-5, 0)] == list(revision.lines) == list(revision.lines[:])
    with pytest.raises(IndexError):
        revision.lines[5]


def test_the_id_is_of_names_and_bytes(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    first = load_bundle(bundle)
    assert re.fullmatch("[0-9a-f]{64}", first.id)
    assert load_bundle(write_bundle(tmp_path / "other")).id == first.id
    assert first.id != hashlib.sha256(POLICY.encode()).hexdigest()
    (bundle / "policy.csv").write_text(POLICY + "\n")
    assert load_bundle(bundle).id != first.id
    (bundle / "policy.csv").write_text(POLICY)
    (bundle / "tests.yaml").write_text("tests: are no part of it")
    assert load_bundle(bundle).id == first.id
    (bundle / "policy.d").mkdir()
    (bundle / "policy.d" / "empty.csv").touch()
    assert load_bundle(bundle).id != first.id


@pytest.mark.parametrize(
    ("file", "data", "problem"),
    [
        ("policy.csv", b"p, role:a, *, *, read, allow\np, role:\xff", "policy.csv:2:9: is not UTF-8"),
        ("policy.csv", b"\xef\xbb\xbfp, role:a, *, *, read, deny", "policy.csv:1:1: begins with a byte order mark"),
        ("model.conf", b"\xef\xbb\xbf" + MODEL.encode(), "model.conf:1:1: begins with a byte order mark"),
        ("catalogue.yaml", b"services: {}", "names no method"),
    ],
)
def test_a_file_is_refused(tmp_path: Path, file: str, data: bytes, problem: str) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / file).write_bytes(data)
    with pytest.raises(PolicyError, match=problem):
        load_bundle(bundle)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is no folder"):
        load_bundle(tmp_path / "nowhere")
    bundle = write_bundle(tmp_path / "b")
    (bundle / "policy.csv").unlink()
    (bundle / "model.conf").unlink()
    (bundle / "model.conf").mkdir()
    with pytest.raises(PolicyError) as refused:
        load_bundle(bundle)
    assert [problem.message for problem in refused.value.problems] == ["is no regular file", "is missing"]
    (bundle / "model.conf").rmdir()
    os.mkfifo(bundle / "model.conf")
    (bundle / "policy.csv").symlink_to("policy.csv")
    with pytest.raises(PolicyError) as refused:
        load_bundle(bundle)
    assert [problem.message.split(":")[0] for problem in refused.value.problems] == [
        "is no regular file",
        "cannot be read",
    ]


def test_a_bundle_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(PolicyError, match="b: cannot be read: Permission denied"):
        load_bundle(write_bundle(tmp_path / "b"))


WARNINGS = [
    # a policy, and what is said of it
    ("", ["has no rule: every call is denied"]),
    ("# nothing\ng2, /shop.Orders/Get, api:x", ["no rule names the API group `api:x`", "has no rule"]),
    (POLICY + "g2, /shop.Orders/Get, api:unused", ["no rule names the API group `api:unused`"]),
    (POLICY + "g2, /shop.Orders/Get, api:a\ng2, api:a, api:b", ["no rule names the API group `api:b`"]),
    ("p, role:a, *, /shop.Orders/Get, write, deny", ["`/shop.Orders/Get` is read, not write; write `read`"]),
    (POLICY + "p, role:a, *, /shop.Orders/Put, read, deny", ["is write, not read"]),
    ("p, role:a, *, /shop.Orders/Get, *, deny", []),
    ("p, role:a, shop, /shop.Orders/Regions, read, allow", ["has scope cluster, and `shop` is a namespace"]),
    ("p, role:a, shop-*, /shop.Orders/Regions, read, allow", ["has scope cluster, and `shop-*` is a namespace"]),
    ("p, role:a, @cluster, /shop.Orders/Regions, read, allow\np, role:b, *, /shop.Orders/Regions, *, allow", []),
    ("p, role:a, @cluster, /shop.Orders/Get, read, allow", []),
    ("p, role:a, *, *, *, allow\np, role:a, *, *, *, deny", ["allowed by another line, which has no effect then"]),
]


@pytest.mark.parametrize(("policy", "said"), WARNINGS)
def test_warnings(tmp_path: Path, policy: str, said: list[str]) -> None:
    warnings = load_bundle(write_bundle(tmp_path / "b", policy)).warnings
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert words in str(warning)


def test_a_chain_too_long_for_others(tmp_path: Path) -> None:
    steps = "".join(f"g, role:r{i}, role:r{i + 1}\n" for i in range(12))
    policy = "p, role:r12, *, *, read, allow\n" + steps
    assert "12 steps from its last role" in str(load_bundle(write_bundle(tmp_path / "c", policy)).warnings[0])


OTHER_MODELS = [
    # what to replace in the model, by what, a policy, and the problem; none: it loads
    ("g = _, _\ng2 = _, _\n", "", "g, role:a, role:b", "the model defines no `g`"),
    ("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)", "g, role:a, role:b, sho*p", "would not be a pattern here"),
    ("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)", "g, role:a, role:b, sh op", "is no namespace"),
    ("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)", "p, role:b, *, *, *, allow\ng, role:a, role:b, shop", ""),
    ("keyMatch(r.dom, p.dom)", "r.dom == p.dom", "p, role:a, *, *, read, allow", "would not be a pattern here"),
    ("keyMatch(r.dom, p.dom)", "keyMatch2(r.dom, p.dom)", "p, role:a, a*b, *, read, allow", ""),
    ("keyMatch(r.obj", "regexMatch(r.obj", "p, role:a, shop, ^/shop.*/Get$, read, allow", ""),
    ("(p.act ==", "(regexMatch(r.act, p.act) || p.act ==", "p, role:a, shop, *, (read)|(write), allow", ""),
    (" && !some(where (p.eft == deny))", "", "p, role:a, *, *, read, deny", "the model's effect ignores every denial"),
    ("act, eft", "act, eft, priority", "p, role:a, *, *, read, allow, high", "`high` is no priority; write a number"),
    ("act, eft", "act, eft, note", "p, role:a, *, *, read, allow, since spring", ""),
    ("act, eft", "act", "p, role:a, *, *, read", ""),
    ("keyMatch(r.dom, p.dom) && ", "g3(r.dom, p.dom) && ", "p, role:a, shop, *, read, allow\ng3, a, b", ""),
]


@pytest.mark.parametrize(("old", "new", "policy", "problem"), OTHER_MODELS)
def test_the_meaning_of_a_field_is_the_models(tmp_path: Path, old: str, new: str, policy: str, problem: str) -> None:
    assert old in MODEL
    model = MODEL.replace(old, new)
    if old.startswith("g = "):
        model = model.replace("[role_definition]\n", "").replace("g(r.sub, p.sub)", "r.sub == p.sub")
        model = model.replace("g2(r.obj, p.obj) || ", "")
    if "r.dom)" in new and new.startswith("g("):
        model = model.replace("g = _, _", "g = _, _, _")
    if "g3" in new:
        model = model.replace("g = _, _", "g3 = _, _\ng = _, _")
    bundle = write_bundle(tmp_path / "b", policy, model=model)
    if problem:
        with pytest.raises(PolicyError, match=re.escape(problem)):
            load_bundle(bundle)
    else:
        assert load_bundle(bundle).lines


def test_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_BYTES_LIMIT", 64)
    with pytest.raises(PolicyError, match="is larger than 64 bytes"):
        load_bundle(write_bundle(tmp_path / "b"))


def test_a_line_is_told_as_it_is_read(tmp_path: Path) -> None:
    policy = "# first\n\n  p,role:a ,  *,*, read,allow\r\np, role:b, *, *, read, allow"
    lines = load_bundle(write_bundle(tmp_path / "b", policy)).lines
    assert isinstance(lines, PolicyLines)
    assert [lines.written(index) for index in range(2)] == [(line.text, line.place) for line in lines]
    assert lines.written(0) == ("p, role:a, *, *, read, allow", Place(str(tmp_path / "b" / "policy.csv"), 3, 3))
    assert lines.at(1) == (str(tmp_path / "b" / "policy.csv"), 4)


def test_lines_are_read_again_when_they_were_let_go(tmp_path: Path) -> None:
    lines = load_bundle(write_bundle(tmp_path / "b")).lines
    assert isinstance(lines, PolicyLines)
    before = [list(row) for row in lines.rows()]
    assert list(lines.take_rows()) == before
    assert lines.rows() == before == [[line.ptype, *line.fields] for line in lines]
    assert len(list(lines.take_rows())) == len(before)
    problems: list[Problem] = []
    lines.add("p, role:z, *, *, read, allow", "more.csv", problems)
    assert lines.rows() == [*before, ["p", "role:z", "*", "*", "read", "allow"]]
    assert lines.place(len(before), 3) == Place("more.csv", 1, 15)


BLANKS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if chr(code).isspace() or unicodedata.category(chr(code)) in ("Cc", "Zs", "Zl", "Zp")
]


NAMES = st.text(st.sampled_from("abcäöß7#()[;,|*@:/ .'-_=+<>"), min_size=1, max_size=8)


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.one_of(NAMES, st.text(max_size=4)))
@example("José O'Neil (Ops)")
def test_whoever_can_be_proven_can_be_denied(name: str) -> None:
    """A subject that no line can name could do whatever its roles allow, and no rule could take that back."""
    assume(not subject_problem(name))
    lines, problems = PolicyLines(), list[Problem]()
    lines.add(f"p, user:corp:{name}, *, *, *, deny", "policy.csv", problems)
    assert not problems
    assert check._subject(f"user:corp:{name}") is None
    assert [line.fields[0] for line in lines] == [f"user:corp:{name}"]


@pytest.mark.parametrize("place", ["deny{}", "{}p, role:x", "role:x{}", ", *,{} *", "re{}ad"])
def test_no_character_but_the_plain_blank_is_a_blank(place: str) -> None:
    """Of any other, one Casbin makes a part of the value, and another one none: a denial would be no denial."""
    text = "p, role:x, *, *, read, deny"
    assert len(BLANKS) > 60
    for blank in BLANKS:
        if blank == "\n" or (blank == " " and place == "re{}ad"):
            continue
        lines, problems = PolicyLines(), list[Problem]()
        lines.add(text.replace(place.replace("{}", ""), place.format(blank), 1), "policy.csv", problems)
        if blank == " " or (blank == "\r" and place == "deny{}"):
            assert not problems
            assert [line.text for line in lines] == [text]
        else:
            assert f"U+{ord(blank):04X}" in problems[0].message, hex(ord(blank))


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_what_only_looks_like_the_end_of_a_line_hides_no_rule(tmp_path: Path, end: str) -> None:
    policy = f"{POLICY}# suspended{end}p, role:reader, *, *, *, deny\n"
    with pytest.raises(PolicyError, match=rf"policy.csv:4:12: the character U\+{ord(end):04X} ends no line"):
        load_bundle(write_bundle(tmp_path / "b", policy))
    assert len(load_bundle(write_bundle(tmp_path / "b", POLICY.replace("\n", "\r\n") + "# the end\r")).lines) == 3


def test_a_line_is_read_again_as_it_was_read_before(tmp_path: Path) -> None:
    policy = " p ,role:a , *,*,read,allow \r\n  p,role:b,*, * ,write , deny  "
    lines = load_bundle(write_bundle(tmp_path / "b", policy)).lines
    assert isinstance(lines, PolicyLines)
    before = list(lines.take_rows())
    assert before == [["p", "role:a", "*", "*", "read", "allow"], ["p", "role:b", "*", "*", "write", "deny"]]
    assert lines.rows() == before == [[line.ptype, *line.fields] for line in (lines[0], lines[1])]
    assert [lines.written(index)[0] for index in (0, 1)] == [", ".join(row) for row in before]


def test_the_collector_is_as_it_was_before() -> None:
    assert gc.isenabled()
    with collector_put_off():
        assert not gc.isenabled()
        with collector_put_off():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_put_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_service_that_is_one_entry(tmp_path: Path) -> None:
    policy = "p, role:a, *, /shop.Internal/Anything, admin, allow\np, role:a, *, /shop.Internal/Some*, admin, allow\n"
    assert len(load_bundle(write_bundle(tmp_path / "b", policy, catalogue=CATALOGUE)).lines) == 2


def test_a_role_means_the_same_here_and_in_claims() -> None:
    assert check._ROLE.pattern == claims._ROLE.pattern


def test_a_reload_does_not_put_off_the_next_full_collection() -> None:
    gc.collect(1)
    count = gc.get_count()[2]
    assert count > 0
    with collector_put_off():
        pass
    assert gc.get_count()[2] == count


def test_a_text_is_taken_apart_in_parts_as_it_is_as_a_whole() -> None:
    for text in (
        "",
        "\n",
        "a\nb",
        "a\n\nb\n",
        "x" * 200_000,
        ("x" * 99 + "\n") * 2000,
        "\n" * 70_000 + "p, a",
        "\r\n" * 40_000,
    ):
        assert list(_raw_lines(text)) == text.split("\n")


def test_what_no_policy_may_hold_is_noticed_wherever_it_stands(tmp_path: Path) -> None:
    text = "".join(f"p, role:r{number}, *, *, read, allow\n" for number in range(6_000))
    for line in (0, 3_000, 5_999):
        lines = text.split("\n")
        lines[line] = lines[line].replace("read", "re\u00a0ad")
        with pytest.raises(PolicyError, match=rf":{line + 1}:.*U\+00A0"):
            load_bundle(write_bundle(tmp_path / "b", "\n".join(lines)))
