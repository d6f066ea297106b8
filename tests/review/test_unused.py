"""What was not used: by every rule that matched, and for as long as it was in force."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authz.audit.shelf import SHELF
from authz.authn.base import Principal, PrincipalKind
from authz.call import Call
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.policy.load import load_bundle
from authz.review.logs import Logs
from authz.review.matching import Matching
from authz.review.unused import Unused, unused
from examples.incident.__main__ import NOON, OTTO, RITA, WALT
from tests.review.world import ROOT, World

READERS = "p, role:reader, *, *, read, allow"
RITA_READS = "p, user:staff:rita, acme, *, read, allow"
NOBODY = "p, role:nobody, *, *, read, allow"
DAY = 24 * 60


def idle(found: Unused) -> dict[str, tuple[datetime | None, bool]]:
    return {line.text: (line.since, line.whole) for line in (*found.rules, *found.grants)}


def at(minutes: float) -> datetime:
    return (NOON + timedelta(minutes=minutes)).replace(tzinfo=None)


def test_a_rule_that_also_matched_is_used(world: World) -> None:
    bundle = world.bundle("a", RITA_READS, NOBODY)
    world.recorder.load(bundle)
    world.recorder.call(RITA, "GetOrder", "acme")
    found = world.ask(bundle, 30, DAY)
    assert (found.decided, found.alone) == (1, 0)
    assert {READERS, RITA_READS}.isdisjoint(idle(found)), "one of them decided, and both allowed it"
    assert NOBODY in idle(found)


def test_by_a_policy_that_was_not_kept_one_rule_is_known(world: World) -> None:
    old = world.bundle("a", RITA_READS)
    world.recorder.load(old)
    world.recorder.call(RITA, "GetOrder", "acme")
    new = world.bundle("b", RITA_READS, NOBODY)
    world.recorder.load(new)
    assert RITA_READS not in idle(world.ask(new, 30, DAY)), "the policy that decided is on the shelf"
    shutil.rmtree(world.folder / SHELF)
    found = world.ask(new, 30, DAY)
    assert (found.decided, found.alone) == (1, 1)
    assert {READERS, RITA_READS} & set(idle(found)), "one of them is named by the record"


def test_what_allowed_nothing_because_a_denial_won_is_not_used(world: World) -> None:
    bundle = world.bundle("a", RITA_READS, "p, user:staff:rita, acme, *, *, deny")
    world.recorder.load(bundle)
    world.recorder.call(RITA, "GetOrder", "acme")
    lines = idle(world.ask(bundle, 30, DAY))
    assert RITA_READS in lines
    assert "p, user:staff:rita, acme, *, *, deny" not in lines


def test_a_rule_is_judged_by_the_time_that_it_was_in_force(world: World) -> None:
    world.recorder.load(world.bundle("a"))
    world.recorder.call(RITA, "GetOrder", "acme")
    world.recorder.at(37 * DAY)
    new = world.bundle("b", NOBODY)
    world.recorder.load(new)
    world.recorder.at(40 * DAY)
    world.recorder.call(WALT, "CreateOrder", "acme")
    found = world.ask(new, 30, 40 * DAY)
    since, whole = idle(found)[NOBODY]
    assert (since, whole) == (at(37 * DAY), False), "three days"
    assert idle(found)[READERS] == (at(0), True), "its use was before"
    assert found.any
    assert found.rules[-1].text == NOBODY, "what says less comes last"
    assert idle(world.ask(new, 2, 40 * DAY))[NOBODY] == (at(37 * DAY), True)


def test_a_break_begins_the_time_anew(world: World) -> None:
    with_it, without = world.bundle("a", NOBODY), world.bundle("b")
    for minutes, bundle in ((1, with_it), (2, without), (3, with_it), (4, with_it)):
        world.recorder.at(minutes * DAY)
        world.recorder.load(bundle)
    found = idle(world.ask(with_it, 30, 5 * DAY))
    assert found[NOBODY][0] == at(3 * DAY)
    assert found[READERS][0] == at(1 * DAY)


def test_before_a_policy_that_was_not_kept_nothing_is_known(world: World) -> None:
    old, new = world.bundle("a", NOBODY), world.bundle("b")
    world.recorder.load(old)
    world.recorder.at(3 * DAY)
    world.recorder.load(new)
    assert idle(world.ask(new, 2, 4 * DAY))[READERS][0] == at(0)
    shutil.rmtree(world.folder / SHELF)
    assert idle(world.ask(new, 2, 4 * DAY))[READERS][0] == at(3 * DAY)


def test_a_copy_that_was_changed_is_another_policy(world: World) -> None:
    old, new = world.bundle("a", NOBODY), world.bundle("b")
    world.recorder.load(old)
    world.recorder.at(3 * DAY)
    world.recorder.load(new)
    world.log.tend()
    for file in (world.folder / SHELF).rglob("policy.csv"):
        file.write_text(file.read_text() + "# another\n")
    assert idle(world.ask(new, 2, 4 * DAY))[READERS][0] == at(3 * DAY)


def test_what_the_log_does_not_show_in_force_is_not_judged(world: World) -> None:
    world.recorder.load(world.bundle("a"))
    found = world.ask(world.bundle("b", NOBODY), 30, 31 * DAY)
    assert found.in_force is None
    assert idle(found)[NOBODY] == (None, False)
    assert idle(found)[READERS] == (at(0), True), "it stood in the policy that was"


def test_the_incident_is_too_young_to_judge(incident: Path) -> None:
    policy = incident / "policies" / "default"
    with Logs([incident / "audit"]) as logs:
        found = unused(logs, policy, 30, datetime(2026, 11, 21, tzinfo=UTC))
        assert "p, role:worker, *, api:work, *, allow" in idle(found)
        assert READERS not in idle(found)
        assert not any(whole for _, whole in idle(found).values())
        assert found.in_force == at(0)
        later = unused(logs, policy, 1, datetime(2030, 1, 1, tzinfo=UTC))
        assert len(later.rules) > len(found.rules)
        assert all(line.whole for line in later.rules)


def test_every_way_by_which_a_rule_is_reached_counts(world: World) -> None:
    bundle = world.bundle("a", "g, user:staff:otto, role:reader")
    world.recorder.load(bundle)
    world.recorder.call(OTTO, "GetOrder", "acme")
    assert "g, user:staff:otto, role:reader" not in idle(world.ask(bundle, 30, DAY))


@pytest.mark.parametrize("bundle", sorted(ROOT.glob("policies/*/policy.csv")), ids=lambda path: path.parent.name)
def test_what_matched_says_what_the_authorizer_says(bundle: Path) -> None:
    revision = load_bundle(bundle.parent)
    matching, authorizer = Matching(revision), authorizer_for(revision)
    roles = ["reader", "writer", "admin", "worker", "auditor", "reviewer"]
    namespaces: list[tuple[str | None, ...]] = [
        ("acme",),
        (None,),
        ("acme", "frozen-1"),
        ("billing-1",),
        ("temporal-system",),
    ]
    allowed = 0
    for name in ("alice", "mallory"):
        principal = Principal(PrincipalKind.TOKEN, "corp", name, "staff:")
        for claims in [Claims(principal, frozenset({role})) for role in roles]:
            for method in revision.catalogue.methods:
                for names in namespaces:
                    call = Call(method, names)
                    verdict = authorizer.authorize(claims, call)
                    rules = matching.matched(claims, call, 0.0)
                    assert matching.authorize(claims, call).effect is verdict.effect
                    assert verdict.rule is None or verdict.rule.text in {rule.text for rule in rules}
                    allowed += bool(verdict.effect)
    assert allowed
