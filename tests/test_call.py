from __future__ import annotations

import pytest

from authz.call import is_method, is_namespace


@pytest.mark.parametrize("text", ["acme", "a", "billing-eu", "team.ns", "_x", "A1", "x" * 255])
def test_namespaces(text: str) -> None:
    assert is_namespace(text)


@pytest.mark.parametrize(
    "text",
    ["", "*", "acme*", "a b", " acme", "acme\n", "a:b", "a,b", "a/b", "@cluster", "-a", ".a", "..", "x" * 256, "ácme",
     "a\0", "a?", "[a]", "a|b", "^a$", "a\u202e"],
)  # fmt: skip
def test_what_can_be_no_namespace(text: str) -> None:
    assert not is_namespace(text)


@pytest.mark.parametrize("text", ["/a.b.C/M", "/S/M", "/grpc.health.v1.Health/Check"])
def test_methods(text: str) -> None:
    assert is_method(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//",
        "S/M",
        "/S/M/",
        "/S//M",
        "/S/M\n",
        "/S/*",
        "/S/M?x",
        "/S",
        "/S/M/N",
        "/./M",
        "/S/M ",
        "/S/é",
        "/S/M\0",
    ],
)
def test_what_can_be_no_method(text: str) -> None:
    assert not is_method(text)
