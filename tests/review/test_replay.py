"""Recorded decisions, made again: each as at its own time, and only where the record tells enough."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.call import Call
from authz.claims.base import Claims
from authz.review.logs import Logs
from authz.review.replay import Replay, replay
from authz.review.unused import unused
from examples.incident.__main__ import OTTO, RITA
from tests.review.world import DEFAULT, World, decided

PURGE = "/example.orders.v1.Orders/PurgeNamespace"
END = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The clock on the wall of whoever reviews: the log's is UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.__setitem__("TZ", before)
    time.tzset()


def replayed(path: Path, bundle: Path) -> Replay:
    with Logs([path]) as logs:
        return replay(logs, bundle)


def ending(world: World, name: str, *ends: datetime) -> Path:
    lines = [f"p, user:staff:otto, acme, {PURGE}, *, allow, {end:%Y-%m-%dT%H:%M:%SZ}" for end in ends]
    return world.bundle(name, *lines, like="break-glass")


@pytest.mark.usefixtures("zone")
def test_the_policy_that_was_in_force_says_what_it_said(world: World) -> None:
    bundle = ending(world, "a", END, END - timedelta(days=3))
    for minutes in (-120, -1, 1, 120):
        world.log.write(decided(bundle, OTTO, Call(PURGE, ("acme",)), END + timedelta(minutes=minutes)))
    result = replayed(world.folder / "audit.jsonl", bundle)
    assert (result.decided, result.flips) == (4, [])


@pytest.mark.usefixtures("zone")
def test_another_policy_is_asked_what_it_would_have_said_then(world: World) -> None:
    bundle, later = ending(world, "a", END), ending(world, "b", END - timedelta(hours=2))
    for minutes in (-180, -60, -1, 60):
        world.log.write(decided(bundle, OTTO, Call(PURGE, ("acme",)), END + timedelta(minutes=minutes)))
    flips = replayed(world.folder / "audit.jsonl", later).flips
    assert [(flip.before, flip.after, flip.count) for flip in flips] == [("allow", "no_opinion", 2)]


@pytest.mark.usefixtures("zone")
def test_a_rule_was_used_up_to_its_end(world: World) -> None:
    lines = [
        f"p, user:staff:otto, {ns}, {PURGE}, *, allow, {end}"
        for ns, end in (("*", "never"), ("acme", f"{END:%Y-%m-%dT%H:%M:%SZ}"))
    ]
    bundle = world.bundle("a", *lines, like="break-glass")
    world.recorder.load(bundle)
    world.log.write(decided(bundle, OTTO, Call(PURGE, ("acme",)), END - timedelta(minutes=1)))
    world.log.tend()
    with Logs([world.folder / "audit.jsonl"]) as logs:
        found = unused(logs, bundle, 30, END)
    assert {line.text for line in found.rules}.isdisjoint(lines), "the record names one, and both allowed it"


def test_what_a_record_does_not_tell_is_not_made_up(world: World) -> None:
    path = world.folder / "hashed.jsonl"
    with AuditLog(path, LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(decided(DEFAULT, RITA, Call(PURGE, ("acme",)), END))
    assert (replayed(path, DEFAULT).decided, replayed(path, DEFAULT).skipped) == (0, 1), "it names user:staff:mallory"
    other = world.bundle("a")
    text = (other / "policy.csv").read_text()
    (other / "policy.csv").write_text(text.replace("user:staff:mallory", "user:corp:mallory"))
    assert (replayed(path, other).decided, replayed(path, other).skipped) == (1, 0), "nobody of that issuer"


def test_a_record_that_was_cut_is_skipped(world: World) -> None:
    many = Claims(RITA.principal, frozenset(f"role-{number}" for number in range(65)))
    world.log.write(decided(DEFAULT, many, Call(PURGE, ("acme",)), END))
    assert replayed(world.folder / "audit.jsonl", DEFAULT).skipped == 1
