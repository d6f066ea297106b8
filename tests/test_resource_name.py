from __future__ import annotations

import re

import pytest

from authz.resource_name import ResourceName

ORDERS = "projects/{namespace}/orders/*"


@pytest.mark.parametrize(
    ("pattern", "name", "namespace"),
    [
        (ORDERS, "projects/acme/orders/7", "acme"),
        (ORDERS, "projects/acme/orders/7/8", None),
        (ORDERS, "projects/acme/orders/", None),
        (ORDERS, "projects//orders/7", None),
        (ORDERS, "projects/acme/orders/7\n", "acme"),
        (ORDERS, "x/projects/acme/orders/7", None),
        (ORDERS, "Projects/acme/orders/7", None),
        ("{namespace}/**", "acme/a/b", "acme"),
        ("{namespace}/**", "acme/", None),
        ("a.b/{namespace}", "aXb/acme", None),
        ("{namespace}", "acme", "acme"),
        ("{namespace}/**", "mine/a..b/.c/...", "mine"),
        ("{namespace}/**", "mine/../other/orders/1", None),
        ("{namespace}/**", "mine/a/..", None),
        ("{namespace}/**", "mine/./a", None),
        ("{namespace}/**", "mine//a", None),
        ("{namespace}/**", "mine/a/", None),
        ("projects/{namespace}/**", "projects/mine/../other/orders/1", None),
        ("projects/*/{namespace}", "projects/../acme", None),
        ("projects/{namespace}/*", "projects/../acme", None),
        ("projects/{namespace}/*", "projects/acme/.", None),
    ],
)
def test_the_whole_name_must_match(pattern: str, name: str, namespace: str | None) -> None:
    assert ResourceName(pattern).namespace(name) == namespace


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("projects/*/orders/*", "it must have `{namespace}` once"),
        ("{namespace}/{namespace}", "it must have `{namespace}` once"),
        ("projects/{tenant}", "`{tenant}` is no segment"),
        ("projects/(.*)", "no segment"),
        ("**/{namespace}", "`**` is no segment"),
        ("**", "`**` is no segment"),
        ("a//{namespace}", "`` is no segment"),
        ("/{namespace}", "`` is no segment"),
        ("a/../{namespace}", "`..` is no segment"),
    ],
)
def test_what_is_no_pattern(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        ResourceName(pattern)
