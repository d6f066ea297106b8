"""The catalogue: what it accepts, and what it says of what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.call import Access, ApiMethod, Scope
from authz.errors import PolicyError
from authz.policy.catalogue import Catalogue, parse_catalogue, read_catalogue

GOOD = """
services:
  shop.v1.Orders:
    namespaces: [namespace]
    methods:
      Get: read
      Move: {access: write, namespaces: [namespace, moves.target_namespace]}
      Find: {access: read, opaque: [order_id]}
      ListRegions: {access: read, scope: cluster}
  shop.v1.Internal:
    methods:
      "*": {access: admin, scope: cluster}
      Ping: {access: read, scope: cluster}
"""


def parse(text: str) -> Catalogue:
    return parse_catalogue(text.encode(), Path("catalogue.yaml"))


def test_every_form_of_an_entry() -> None:
    get, move = "/shop.v1.Orders/Get", "/shop.v1.Orders/Move"
    find, regions = "/shop.v1.Orders/Find", "/shop.v1.Orders/ListRegions"
    everything, ping = "/shop.v1.Internal/*", "/shop.v1.Internal/Ping"
    assert dict(parse(GOOD).methods) == {
        get: ApiMethod(get, Access.READ, Scope.NAMESPACE, ("namespace",)),
        move: ApiMethod(move, Access.WRITE, Scope.NAMESPACE, ("namespace", "moves.target_namespace")),
        find: ApiMethod(find, Access.READ, Scope.NAMESPACE, ("namespace",), ("order_id",)),
        regions: ApiMethod(regions, Access.READ, Scope.CLUSTER),
        everything: ApiMethod(everything, Access.ADMIN, Scope.CLUSTER),
        ping: ApiMethod(ping, Access.READ, Scope.CLUSTER),
    }


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ("/shop.v1.Orders/Get", "/shop.v1.Orders/Get"),
        ("/shop.v1.Orders/get", None),
        ("/shop.v1.Orders/Gets", None),
        ("/shop.v1.Internal/Ping", "/shop.v1.Internal/Ping"),
        ("/shop.v1.Internal/Anything", "/shop.v1.Internal/*"),
        ("/shop.v1.Internal/*", None),
        ("/shop.v1.Internal/", None),
        ("/shop.v1.Internal/a/b", None),
        ("/shop.v1.Internal/a\n", None),
        ("shop.v1.Internal/Ping", None),
        ("/shop.v1.Internals/Ping", None),
        ("", None),
        ("*", None),
    ],
)
def test_finds_a_method_by_its_exact_name_or_its_service(method: str, found: str | None) -> None:
    entry = parse(GOOD).find(method)
    assert (entry and entry.method) == found


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(GOOD)
    assert read_catalogue(path).methods == parse(GOOD).methods
    with pytest.raises(PolicyError, match="cannot be read"):
        read_catalogue(tmp_path / "nothing.yaml")


REFUSED = {
    "nothing": ("services: {}", "1:11: `services` names no method: every call would be denied"),
    "no services": ("methods: {}", "1:1: `services` is missing"),
    "unknown key at the top": (
        "services: {a.B: {methods: {C: {access: read, scope: cluster}}}}\nservice: {}",
        "2:1: unknown key `service`; did you mean `services`?",
    ),
    "unknown key of a service": (
        "services:\n  a.B:\n    namespace: [n]\n    methods: {C: read}",
        "3:5: unknown key `services.a.B.namespace`; did you mean `namespaces`?",
    ),
    "unknown key of a method": (
        "services:\n  a.B:\n    methods:\n      C: {acces: read, access: read, scope: cluster}",
        "4:11: unknown key `services.a.B.methods.C.acces`; did you mean `access`?",
    ),
    "a method twice": (
        "services:\n  a.B:\n    namespaces: [n]\n    methods:\n      C: read\n      C: write",
        "6:7: `C` is given twice, first on line 5; keep one of them",
    ),
    "a service twice": (
        "services:\n  a.B: {namespaces: [n], methods: {C: read}}\n  a.B: {namespaces: [n], methods: {D: read}}",
        "3:3: `a.B` is given twice",
    ),
    "not a service": ("services:\n  /a.B/: {methods: {C: read}}", "2:10: `/a.B/` is not a gRPC service"),
    "not a method": (
        "services:\n  a.B: {namespaces: [n], methods: {C/D: read}}",
        "2:41: `/a.B/C/D` is not a gRPC full method; a full method is /package.Service/Method",
    ),
    "bad access": (
        "services:\n  a.B: {namespaces: [n], methods: {C: read-only}}",
        "2:39: `services.a.B.methods.C` cannot be `read-only`; write one of: read, write, admin",
    ),
    "no access": (
        "services:\n  a.B: {methods: {C: {scope: cluster}}}",
        "2:22: `services.a.B.methods.C.access` is missing",
    ),
    "nothing as access": ("services:\n  a.B: {namespaces: [n], methods: {C: }}", "must be text, not nothing"),
    "bad scope": (
        "services:\n  a.B: {methods: {C: {access: read, scope: global}}}",
        "cannot be `global`; write one of: namespace, cluster",
    ),
    "cluster with namespaces": (
        "services:\n  a.B: {methods: {C: {access: read, scope: cluster, namespaces: [n]}}}",
        "2:65: `/a.B/C` has scope cluster, so its request names no namespace; leave `namespaces` out",
    ),
    "cluster with opaque": (
        "services:\n  a.B: {methods: {C: {access: read, scope: cluster, opaque: [n]}}}",
        "has scope cluster, so its request names no namespace; leave `opaque` out",
    ),
    "no path, short": (
        "services:\n  a.B: {methods: {C: read}}",
        "2:22: nothing says where the request of `/a.B/C` names its namespace; add `namespaces: [<field path>]`",
    ),
    "no path, long": (
        "services:\n  a.B: {methods: {C: {access: read}}}",
        "nothing says where the request of `/a.B/C` names its namespace",
    ),
    "no path for all": (
        "services:\n  a.B: {methods: {'*': admin}}",
        "nothing says where the request of `/a.B/*` names its namespace",
    ),
    "bad path": (
        "services:\n  a.B: {namespaces: [n..m], methods: {C: read}}",
        "2:21: `n..m` is not a field path; write protobuf field names joined by dots, e.g. `order.namespace`",
    ),
    "path with an index": ("services:\n  a.B: {namespaces: ['n[0]'], methods: {C: read}}", "is not a field path"),
    "path with a newline": ('services:\n  a.B: {namespaces: ["n\\n"], methods: {C: read}}', "is not a field path"),
    "path twice": (
        "services:\n  a.B: {namespaces: [n, n], methods: {C: read}}",
        "`n` is listed twice in `services.a.B.namespaces`",
    ),
    "paths as text": (
        "services:\n  a.B: {namespaces: n, methods: {C: read}}",
        "`services.a.B.namespaces` must be a list, not text; write `namespaces: [n]`",
    ),
    "path and opaque": (
        "services:\n  a.B: {namespaces: [n], methods: {D: read, C: {access: read, opaque: [n]}}}",
        "`n` is listed in `namespaces` too; keep one of them",
    ),
    "paths that nothing uses": (
        "services:\n  a.B: {namespaces: [n], methods: {C: {access: read, scope: cluster}}}",
        "2:21: no method of `a.B` uses these paths; leave them out",
    ),
    "not YAML": ("services: [", "is not YAML"),
    "empty": ("", "is empty"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert str(caught.value).startswith("catalogue.yaml")
    assert message in str(caught.value)


def test_tells_everything_that_is_wrong_in_one_go() -> None:
    with pytest.raises(PolicyError) as caught:
        parse(
            "services:\n  a.B:\n    methods:\n      C: read\n      D: {access: all, scope: cluster}\n"
            "  c/D: {methods: {E: read}}\n  e.F:\n    method: {}\n"
        )
    assert [problem.place.line for problem in caught.value.problems] == [4, 5, 6, 8]


WORDS = [
    "services:",
    "a.B:",
    "methods:",
    "C: read",
    "access",
    "{",
    "}",
    "[",
    "]",
    "*",
    "'",
    '"',
    ":",
    "-",
    "\n",
    "  ",
    "&a",
    "!!x",
]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=20).map("".join).map(str.encode) | st.binary())
def test_whatever_is_read_is_a_catalogue_or_refused_with_its_place(data: bytes) -> None:
    files = {"catalogue.yaml"}
    try:
        found = len(parse_catalogue(data, Path("catalogue.yaml")).methods)
    except PolicyError as exc:
        found, files = len(exc.problems), {problem.place.path for problem in exc.problems}
    assert found
    assert files == {"catalogue.yaml"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{access: read, metadata: X-Tenant}", "`X-Tenant` is no metadata key with text"),
        ("{access: read, metadata: authorization}", "`authorization` is no metadata key with text"),
        ("{access: read, metadata: x-tenant-bin}", "`x-tenant-bin` is no metadata key with text"),
        ("{access: read, metadata: grpc-timeout}", "`grpc-timeout` is no metadata key with text"),
        ("{access: read, constant: '*'}", "`*` is not a namespace"),
        ('{access: read, namespaces: ["name=projects/*"]}', "it must have `{namespace}` once"),
        ("{access: read, scope: cluster, metadata: x-tenant}", "has scope cluster, so its request names no namespace"),
        ("{access: read, scope: cluster, constant: shared}", "has scope cluster, so its request names no namespace"),
    ],
)
def test_other_places_of_a_namespace_are_read_strictly(entry: str, message: str) -> None:
    text = f"services:\n  shop.Orders:\n    methods:\n      Get: {entry}\n"
    with pytest.raises(PolicyError) as refused:
        parse_catalogue(text.encode(), Path("catalogue.yaml"))
    assert message in str(refused.value)
    assert "catalogue.yaml:4:" in str(refused.value)
