"""Rules that end: at their moment, whatever was remembered before, and as a stock Casbin decides them."""

from __future__ import annotations

import ast
import itertools
import threading
from datetime import UTC, datetime
from pathlib import Path

import casbin
import pytest

from authz.call import Call
from authz.decision import authorizer_for, compiled
from authz.decision.base import Effect
from authz.decision.casbin import CasbinAuthorizer
from authz.decision.ending import EndingAuthorizer
from authz.decision.memory import Memory
from authz.decision.rules import Rules
from authz.errors import PolicyError
from authz.policy.ending import end_field, read_end, without_end
from authz.policy.load import load_bundle
from authz.policy.matcher import parse_matcher
from authz.policy.model import read_model
from authz.policy.revision import Revision
from tests.bundle import MODEL, caller, write_bundle

ENDING = MODEL.replace("obj, act, eft\n", "obj, act, eft, until\n").rstrip() + " && validUntil(p.until)\n"
SLOW = ENDING.replace("validUntil(p.until)", '(p.until == "never" || validUntil(p.until))')
POLICY = """\
p, role:reader, *, *, read, allow, never
p, user:corp:alice, shop, *, write, allow, 2026-06-01T00:00:00Z
p, user:corp:alice, *, /shop.Orders/Put, write, allow, 2026-07-01T00:00:00Z
p, role:writer, *, *, write, deny, 2026-06-15T12:00:00Z
"""
MOMENTS = [
    "2026-05-31T23:59:59Z", "2026-06-01T00:00:00Z", "2026-06-15T11:59:59Z",
    "2026-06-15T12:00:00Z", "2026-06-30T23:59:59Z", "2026-07-01T00:00:00Z",
]  # fmt: skip
PUT, CANCEL = "/shop.Orders/Put", "/shop.Orders/Cancel"


class Clock:
    """A clock that a test sets."""

    def __init__(self, at: str) -> None:
        self.now = read_end(at)

    def __call__(self) -> float:
        return self.now


def bundle(folder: Path, model: str = ENDING, policy: str = POLICY) -> Revision:
    return load_bundle(write_bundle(folder, policy, model=model))


@pytest.mark.parametrize("model", [ENDING, SLOW], ids=["compiled", "by Casbin"])
def test_as_stock_casbin_decides_at_every_moment(model: str, tmp_path: Path) -> None:
    revision = bundle(tmp_path, model)
    clock = Clock(MOMENTS[0])
    ours = authorizer_for(revision, clock)
    assert isinstance(ours, EndingAuthorizer if model is ENDING else CasbinAuthorizer)
    stock = casbin.Enforcer(str(tmp_path / "model.conf"), str(tmp_path / "policy.csv"), enable_log=False)

    def now() -> str:
        return datetime.fromtimestamp(clock.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    stock.add_function("validUntil", lambda until: until == "never" or now() < until)
    alice, writer = caller(), caller("writer", user="bob")
    for moment in MOMENTS:
        clock.now = read_end(moment)
        for (claims, subjects), space, (method, access) in itertools.product(
            ((alice, ["user:corp:alice"]), (writer, ["user:corp:bob", "role:writer"])),
            ("shop", "other"),
            ((PUT, "write"), (CANCEL, "write"), ("/shop.Orders/Get", "read")),
        ):
            told = ours.authorize(claims, Call(method, (space,)))
            assert bool(told.effect) == any(stock.enforce(s, space, method, access) for s in subjects), (moment, space)


def test_no_answer_outlives_its_rule(tmp_path: Path) -> None:
    clock = Clock("2026-05-31T23:59:59Z")
    authorizer = authorizer_for(bundle(tmp_path), clock)
    alice, call = caller(), Call(CANCEL, ("shop",))
    for _ in range(3):
        assert authorizer.authorize(alice, call).effect
    clock.now += 1
    told = authorizer.authorize(alice, call)
    assert not told.effect
    assert "shop" not in told.detail, "a rule that has ended is no near miss"


def test_what_has_ended_before_it_is_read(tmp_path: Path) -> None:
    authorizer = authorizer_for(bundle(tmp_path), Clock("2030-01-01T00:00:00Z"))
    assert not authorizer.authorize(caller(), Call(PUT, ("shop",))).effect
    assert authorizer.authorize(caller("reader"), Call("/shop.Orders/Get", ("shop",))).effect


def test_a_policy_without_ends_asks_no_clock(tmp_path: Path) -> None:
    revision = load_bundle(write_bundle(tmp_path))
    assert not isinstance(authorizer_for(revision), EndingAuthorizer)


def test_in_many_threads_nobody_is_let_in_late(tmp_path: Path) -> None:
    lines = [f"p, user:corp:u{n}, shop, *, write, allow, 2026-06-01T00:{n:02}:00Z\n" for n in range(50)]
    clock = Clock("2026-05-31T23:59:00Z")
    authorizer = authorizer_for(bundle(tmp_path, policy="".join(lines)), clock)
    callers = [caller(user=f"u{n}") for n in range(50)]
    ends = [read_end(f"2026-06-01T00:{n:02}:00Z") for n in range(50)]
    late: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            for number, claims in enumerate(callers):
                began = clock.now
                if authorizer.authorize(claims, Call(PUT, ("shop",))).effect and began >= ends[number]:
                    late.append(number)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for end in ends:
        clock.now = end
        done.wait(0.004)
    done.set()
    for thread in threads:
        thread.join()
    assert late == []


@pytest.mark.parametrize(
    "until", ["2026-06-01", "2026-06-01T00:00:00", "2026-13-01T00:00:00Z", "Never", "2026-06-01T00:00:00+00:00"]
)
def test_an_end_that_is_none_is_refused_with_its_column(until: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as raised:
        bundle(tmp_path, policy=f"p, role:reader, *, *, read, allow, {until}\n")
    assert f"policy.csv:1:36: `{until}` is no end of a rule; write `never`, or a moment in UTC" in str(raised.value)


def test_rules_that_nobody_has_checked(tmp_path: Path) -> None:
    model = read_model(ENDING, "model.conf")
    with pytest.raises(PolicyError, match="`soon` is no end of a rule"):
        Rules(model, [("p", "role:a", "*", "*", "read", "allow", "soon")])


@pytest.mark.parametrize("condition", ["validUntil(r.obj)", 'validUntil("never")', "validUntil(p.until, p.eft)"])
def test_a_condition_of_another_form_is_no_end(condition: str) -> None:
    model = read_model(ENDING.replace("validUntil(p.until)", condition), "model.conf")
    tree = parse_matcher(model)
    assert end_field(tree) == ""
    assert without_end(tree) is tree


def test_a_matcher_that_asks_for_the_end_alone_is_left_as_it_is() -> None:
    tree = ast.parse("validUntil(p_until)", mode="eval").body
    assert end_field(tree) == "until"
    assert without_end(tree) is tree


def test_who_waited_while_another_ended_the_rules_ends_nothing_more(tmp_path: Path) -> None:
    clock = Clock("2026-05-31T00:00:00Z")
    authorizer = authorizer_for(bundle(tmp_path), clock)
    assert isinstance(authorizer, EndingAuthorizer)
    before = authorizer._known
    authorizer._turn(clock.now)
    assert authorizer._known is before


def test_a_thread_that_read_the_clock_just_before_does_not_keep_an_answer_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = bundle(tmp_path, policy=f"p, role:writer, *, *, write, allow, {MOMENTS[1]}\n")
    clock, moment = threading.local(), read_end(MOMENTS[1])
    ours = authorizer_for(revision, lambda: getattr(clock, "now", moment - 1))
    first, late, cancel = caller("writer"), caller("writer", user="bob"), Call(CANCEL, ("shop",))
    assert ours.authorize(first, cancel).effect, "what is remembered now is the answer to all who have the role"
    forgetting, forgotten = threading.Event(), threading.Event()
    # each memory is made anew: whichever is new already, no other may be the old one
    made = itertools.count()

    class Slowly(Memory[object, object]):
        def __init__(self, limit: int) -> None:
            if next(made) == 1:
                forgetting.set()
                forgotten.wait(5)
            super().__init__(limit)

    monkeypatch.setattr(compiled, "Memory", Slowly)

    def end() -> None:
        clock.now = moment + 1
        ours.authorize(caller("writer"), cancel)

    ending = threading.Thread(target=end)
    ending.start()
    assert forgetting.wait(5)
    ours.authorize(late, cancel)
    forgotten.set()
    ending.join(5)
    clock.now = moment + 1
    assert not ours.authorize(late, cancel).effect
    assert not ours.authorize(first, cancel).effect


@pytest.mark.parametrize("model", [ENDING, SLOW], ids=["compiled", "by Casbin"])
def test_a_clock_that_is_set_right_brings_back_what_a_wrong_one_ended(model: str, tmp_path: Path) -> None:
    clock = Clock(MOMENTS[2])
    ours = authorizer_for(bundle(tmp_path, model), clock)
    writer, put = caller("writer"), Call(PUT, ("shop",))
    for at, effect in [(2, Effect.DENY), (5, Effect.NO_OPINION), (2, Effect.DENY), (4, Effect.ALLOW), (0, Effect.DENY)]:
        clock.now = read_end(MOMENTS[at])
        assert ours.authorize(writer, put).effect is effect
