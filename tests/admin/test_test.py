"""Policy tests: what a table asks, what its reader refuses, and what a run says of a policy that answers otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from authz.admin.cases import Case, read_cases
from authz.admin.test import Results, run_tests
from authz.authn.base import ANONYMOUS
from authz.decision.base import Effect
from authz.errors import PolicyError
from authz.policy.load import load_bundle

POLICIES = Path(__file__).parents[2] / "policies"
CATALOGUE = """
services:
  shop.v1.Orders:
    namespaces: [namespace]
    methods: {Get: read, List: read, Create: write, Purge: admin, Regions: {access: read, scope: cluster}}
  shop.v1.Stock:
    namespaces: [namespace]
    methods: {Get: read}
  shop.v1.Internal:
    methods: {"*": {access: admin, scope: cluster}}
"""
POLICY = """
p, role:reader, *, *, read, allow
p, role:worker, *, api:work, *, allow
p, role:everyone, frozen, api:all, write, deny
p, user:mallory, *, *, *, deny
g2, /shop.v1.Orders/Create, api:work
g2, /shop.v1.Orders/Create, api:all
"""
CALLERS = """
callers:
  reader: {system: [reader]}
  shop-worker: {namespaces: {shop: [worker]}}
  mallory: {user: mallory}
  anonymous: {anonymous: true}
tests:
"""
ORDERS, STOCK = "/shop.v1.Orders/", "/shop.v1.Stock/"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shutil.copy(POLICIES / "default" / "model.conf", tmp_path)
    (tmp_path / "policy.csv").write_text(POLICY)
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    return tmp_path


def cases(bundle: Path, text: str) -> tuple[Case, ...]:
    (bundle / "tests.yaml").write_text(text)
    return read_cases(bundle / "tests.yaml", load_bundle(bundle))


def run(bundle: Path, tests: str) -> Results:
    (bundle / "tests.yaml").write_text(CALLERS + tests)
    return run_tests(bundle)


@pytest.mark.parametrize("name", ["default", "temporal", "break-glass"])
def test_the_bundles_that_ship_answer_as_their_tests_say(name: str) -> None:
    results = run_tests(POLICIES / name)
    assert results.passed
    assert results.failures == ()
    assert results.untested == ()
    assert results.revision.warnings == ()
    assert {outcome.verdict.revision for outcome in results.outcomes} == {results.revision.id}


def test_a_table_is_callers_by_namespaces_by_methods(bundle: Path) -> None:
    expect = "    expect: {reader: {allow: [List]}, mallory: deny}"
    table = "  t:\n    namespaces: [shop, frozen]\n    methods: [read]\n" + expect
    found = [(case.caller, case.namespace, case.call.method, case.expected) for case in cases(bundle, CALLERS + table)]
    assert found == [
        (caller, namespace, method, expected)
        for caller, listed, others in (
            ("reader", Effect.ALLOW, Effect.NO_OPINION),
            ("mallory", Effect.DENY, Effect.DENY),
        )
        for namespace in ("shop", "frozen")
        for method, expected in ((ORDERS + "Get", others), (ORDERS + "List", listed), (STOCK + "Get", others))
    ]


def test_outside_every_namespace_every_method_is_asked(bundle: Path) -> None:
    found = cases(bundle, CALLERS + "  t:\n    expect: {reader: no_opinion}")
    assert {case.namespace for case in found} == {"@cluster"}
    assert {case.call.namespaces for case in found} == {(None,)}
    assert [case.call.method for case in found] == [
        *(ORDERS + name for name in ("Get", "List", "Create", "Purge", "Regions")),
        STOCK + "Get",
        "/shop.v1.Internal/AnyOther",
    ]


@pytest.mark.parametrize(
    ("word", "methods"),
    [
        ("'*'", ["Orders/Get", "Orders/List", "Orders/Create", "Orders/Purge", "Stock/Get"]),
        ("read", ["Orders/Get", "Orders/List", "Stock/Get"]),
        ("admin", ["Orders/Purge"]),
        ("List", ["Orders/List"]),
        ("/shop.v1.Orders/Get", ["Orders/Get"]),
        ("/shop.v1.Orders/*", ["Orders/Get", "Orders/List", "Orders/Create", "Orders/Purge"]),
        ("/shop.v1.S*", ["Stock/Get"]),
        ("api:work", ["Orders/Create"]),
    ],
)
def test_words_for_methods(bundle: Path, word: str, methods: list[str]) -> None:
    table = f"  t:\n    namespaces: [shop]\n    methods: [{word}]\n    expect: {{reader: allow}}"
    assert [case.call.method for case in cases(bundle, CALLERS + table)] == [f"/shop.v1.{name}" for name in methods]


def test_a_method_without_an_entry_of_its_own(bundle: Path) -> None:
    table = "  t:\n    methods: [/shop.v1.Internal/Reload]\n    expect: {reader: allow}"
    assert [case.call.method for case in cases(bundle, CALLERS + table)] == ["/shop.v1.Internal/Reload"]


def test_callers(bundle: Path) -> None:
    table = (
        "  t:\n    methods: [Regions]\n    expect: {reader: deny, shop-worker: deny, mallory: deny, anonymous: deny}"
    )
    claims = {case.caller: case.claims for case in cases(bundle, CALLERS + table)}
    assert claims["reader"].system == {"reader"}
    assert dict(claims["shop-worker"].namespaces) == {"shop": {"worker"}}
    assert claims["mallory"].principal.id == "user:mallory"
    assert claims["reader"].principal.id == "user:@reader"
    assert claims["anonymous"].principal is ANONYMOUS


def test_what_a_run_says(bundle: Path) -> None:
    results = run(
        bundle,
        "  t:\n    namespaces: [shop, frozen]\n    methods: [/shop.v1.Orders/*]\n"
        "    expect:\n      reader: {allow: [/shop.v1.Orders/Get]}\n      shop-worker: {allow: [Create]}\n",
    )
    assert not results.passed
    assert [str(failure).replace(f"{bundle}/", "") for failure in results.failures] == [
        f"tests.yaml:12:15: reader in shop, {ORDERS}List: must be no_opinion, is allow "
        "(policy.csv:2:1: p, role:reader, *, *, read, allow)",
        f"tests.yaml:12:15: reader in frozen, {ORDERS}List: must be no_opinion, is allow "
        "(policy.csv:2:1: p, role:reader, *, *, read, allow)",
        f"tests.yaml:12:15: reader in frozen, {ORDERS}Create: must be no_opinion, is deny "
        "(policy.csv:4:1: p, role:everyone, frozen, api:all, write, deny)",
        f"tests.yaml:13:20: shop-worker in frozen, {ORDERS}Create: must be allow, is deny "
        "(policy.csv:4:1: p, role:everyone, frozen, api:all, write, deny)",
    ]
    assert [line.text for line in results.untested] == ["p, user:mallory, *, *, *, deny"]


def test_a_failure_without_a_rule_says_why(bundle: Path) -> None:
    results = run(bundle, "  t:\n    methods: [Regions]\n    expect: {anonymous: allow}")
    assert str(results.failures[0]).startswith(f"{bundle}/tests.yaml:")
    assert "must be allow, is no_opinion (" in str(results.failures[0])


def test_another_file_of_tests(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(CALLERS + "  t: {namespaces: [shop], methods: [List], expect: {reader: allow}}")
    assert run_tests(bundle, other).passed
    with pytest.raises(PolicyError, match=r"tests\.yaml: cannot be read"):
        run_tests(bundle)


TABLE = "  t: {namespaces: [shop], "
REFUSED = {
    "no tests": (CALLERS + "  {}", "`tests` asks nothing"),
    "no callers": ("tests: {}", "`callers` is missing"),
    "unknown key": (CALLERS + TABLE + "expects: {reader: allow}, expect: {reader: allow}}", "did you mean `expect`?"),
    "unknown caller": (
        CALLERS + TABLE + "expect: {raeder: allow}}",
        "no caller is named `raeder`; did you mean `reader`?",
    ),
    "unknown effect": (
        CALLERS + TABLE + "expect: {reader: denied}}",
        "`tests.t.expect.reader` cannot be `denied`; write one of: allow, deny, no_opinion",
    ),
    "unknown list": (
        CALLERS + TABLE + "expect: {reader: {alow: [read]}}}",
        "unknown key `tests.t.expect.reader.alow`; did you mean `allow`?",
    ),
    "unknown method": (
        CALLERS + TABLE + "expect: {reader: {allow: [Lst]}}}",
        "`Lst` is no method of the catalogue; did you mean `List`?",
    ),
    "unknown full method": (
        CALLERS + TABLE + "methods: [/shop.v1.Orders/Gat], expect: {reader: allow}}",
        "the catalogue knows no method `/shop.v1.Orders/Gat`; did you mean `/shop.v1.Orders/Get`?",
    ),
    "unknown beginning": (
        CALLERS + TABLE + "methods: [/shop.v2.Orders/*], expect: {reader: allow}}",
        "`/shop.v2.Orders/*` matches no method of the catalogue",
    ),
    "unknown group": (
        CALLERS + TABLE + "methods: [api:wrok], expect: {reader: allow}}",
        "no line puts a method into the API group `api:wrok`; did you mean `api:work`?",
    ),
    "a name of several": (
        CALLERS + TABLE + "methods: [Get], expect: {reader: allow}}",
        "`Get` is several methods of the catalogue; write one of: /shop.v1.Orders/Get, /shop.v1.Stock/Get",
    ),
    "not asked": (
        CALLERS + TABLE + "methods: [read], expect: {reader: {allow: [Create]}}}",
        "`Create` is not among the `methods` of this test; add it there",
    ),
    "allowed and denied": (
        CALLERS + TABLE + "expect: {reader: {allow: [read], deny: [List]}}}",
        "`/shop.v1.Orders/List` is listed in `allow` too; keep one of them",
    ),
    "no namespace": (
        CALLERS + TABLE + "methods: [Regions], expect: {reader: allow}}",
        '`Regions` touches no namespace; write `namespaces: ["@cluster"]` in a test of its own',
    ),
    "not a namespace": (
        CALLERS + "  t: {namespaces: [shop*], expect: {reader: allow}}",
        "`shop*` is not a namespace; write a namespace (1 to 255 ASCII letters",
    ),
    "a caller's namespace": (
        "callers: {a: {namespaces: {'*': [reader]}}}\ntests: {}",
        "`*` is not a namespace; a namespace is 1 to 255 ASCII letters",
    ),
    "a caller's role": (
        "callers: {a: {system: [everyone]}}\ntests: {}",
        "`everyone` is not a role that a caller can be given",
    ),
    "a caller's roles in a namespace": (
        "callers: {a: {namespaces: {b: ['role:c']}}}\ntests: {}",
        "`role:c` is not a role",
    ),
    "an anonymous caller's role": (
        "callers: {a: {anonymous: true, system: [reader]}}\ntests: {}",
        "unknown key `callers.a.system`",
    ),
    "an unknown key of a caller": ("callers: {a: {sytem: [reader]}}\ntests: {}", "did you mean `system`?"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(bundle: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        cases(bundle, text)
    assert str(caught.value).startswith(f"{bundle}/tests.yaml:")
    assert message in str(caught.value)


def test_an_access_that_no_method_has(bundle: Path) -> None:
    (bundle / "catalogue.yaml").write_text(CATALOGUE.replace("Create: write", "Create: read"))
    (bundle / "policy.csv").write_text(POLICY.replace("write, deny", "read, deny"))
    with pytest.raises(PolicyError, match="no method of the catalogue has the access `write`; leave it out"):
        cases(bundle, CALLERS + TABLE + "methods: [write], expect: {reader: allow}}")


def test_tells_everything_that_is_wrong_in_one_go(bundle: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        cases(bundle, CALLERS + "  a: {expect: {nobody: allow}}\n  b: {methods: [Nothing], expect: {reader: allow}}\n")
    assert [problem.place.line for problem in caught.value.problems] == [8, 9]
