"""How a method is presented to a server: who is waited for, and that a guard is made once for a handler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from authz.adapters import presenting, recognized
from authz.adapters.presenting import Presenting
from authz.adapters.recognized import Recognized
from authz.call import Access, ApiMethod, Scope

READ, LIST = "/shop.Orders/Get", "/shop.Orders/List"
CATALOGUE = {
    READ: ApiMethod(READ, Access.READ, Scope.NAMESPACE, ("namespace",)),
    LIST: ApiMethod(LIST, Access.READ, Scope.CLUSTER),
}
RITA = (("authorization", "Bearer rita"), ("user-agent", "x"))


class Engine:
    """As much of an engine as it takes."""

    policy = SimpleNamespace(revision=SimpleNamespace(catalogue=SimpleNamespace(find=CATALOGUE.get)))
    reads_certificates = False


def details(method: str = READ, metadata: Any = RITA) -> Any:
    return SimpleNamespace(method=method, invocation_metadata=metadata)


@pytest.fixture
def made() -> list[tuple[str, bool]]:
    return []


@pytest.fixture
def presenting_(made: list[tuple[str, bool]]) -> Presenting:
    def guard(handler: Any, method: str, caller_first: bool) -> Any:
        made.append((method, caller_first))
        return ("guarded", handler, caller_first)

    return Presenting(Engine(), guard)  # type: ignore[arg-type]


UNARY, STREAM = SimpleNamespace(request_streaming=False), SimpleNamespace(request_streaming=True)


def test_a_stranger_is_taken_first_and_a_known_caller_by_the_message(presenting_: Presenting) -> None:
    assert presenting_.present(UNARY, details()) == ("guarded", UNARY, True)
    presenting_.recognized.add(RITA)
    assert presenting_.present(UNARY, details()) == ("guarded", UNARY, False)
    assert presenting_.present(UNARY, details(metadata=(("authorization", "Bearer mallory"),)))[2]
    assert presenting_.present(UNARY, details(metadata=None))[2]
    assert presenting_.present(UNARY, details(LIST))[2], "no message says where it is"
    assert presenting_.present(UNARY, details("/not.In/TheCatalogue"))[2]
    assert not presenting_.present(STREAM, details())[2], "a stream is one already"


def test_a_guard_is_made_once_for_a_handler(presenting_: Presenting, made: list[tuple[str, bool]]) -> None:
    for _ in range(3):
        presenting_.present(UNARY, details())
    assert made == [(READ, True)]
    other = SimpleNamespace(request_streaming=False)
    assert presenting_.present(other, details())[1] is other, "another handler is never taken for the first"
    assert len(made) == 2


def test_handlers_without_end_take_no_memory_without_end(
    presenting_: Presenting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presenting, "_LIMIT", 3)
    for number in range(10):
        presenting_.present(UNARY, details(f"/shop.Orders/Get{number}"))
        assert len(presenting_._guards) <= 3


@pytest.mark.parametrize(
    "metadata",
    [
        (*RITA, RITA[0]),
        (*RITA, ("x-forwarded-client-cert", "Cert=abc")),
        (("authorization", "bearer rita"),),
        (),
    ],
    ids=["twice", "forwarded", "other", "none"],
)
def test_only_the_same_single_token_is_recognized(metadata: Any) -> None:
    known = Recognized(without_token=False)
    known.add(RITA)
    assert RITA in known
    assert metadata not in known


def test_whoever_shows_no_token_may_have_a_certificate() -> None:
    known = Recognized(without_token=True)
    assert () in known
    assert RITA not in known
    assert (("x-forwarded-client-cert", "Cert=abc"),) not in known


def test_what_is_recognized_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognized, "_LIMIT", 3)
    known = Recognized(without_token=False)
    for number in range(10):
        known.add((("authorization", f"Bearer {number}"),))
        assert len(known._hashes) <= 3
    assert (("authorization", "Bearer 9"),) in known
