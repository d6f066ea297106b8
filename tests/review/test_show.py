"""One record, explained: by the policy of its time, asked again as at that time."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.shelf import SHELF
from authz.audit.writer import AuditLog
from authz.call import Call
from authz.cli import Exit, main
from authz.errors import AuditError
from authz.review.logs import Logs
from authz.review.search import Search
from authz.review.show import Shown, show
from examples.incident.__main__ import MISTAKE, OTTO, RITA
from tests.review.world import World, decided

PURGE = "/example.orders.v1.Orders/PurgeNamespace"


def shown(world: World, **log: Path) -> Shown:
    """The newest decision of a world's log."""
    with Logs([log.get("path", world.folder / "audit.jsonl")]) as logs:
        return show(logs, logs.find(Search.parse("event:decision"), 1)[0]["id"])


def test_a_record_is_explained_by_the_policy_of_its_time(incident: Path, logs: Logs) -> None:
    row = logs.find(Search.parse(f"method:{PURGE} decision:allow"))[0]
    shown = show(logs, row["id"])
    assert shown.bundle is not None
    assert shown.bundle.name == row["policy_version"]
    assert [text for _, text in shown.around if text == MISTAKE]
    assert shown.same is True
    with pytest.raises(AuditError, match="no record has the id nothing"):
        show(logs, "nothing")
    with pytest.raises(AuditError, match="several records have the id 01"):
        show(logs, "01")


def test_without_its_policy_a_record_is_shown_all_the_same(incident: Path, tmp_path: Path) -> None:
    shutil.copy(incident / "audit" / "audit.jsonl", tmp_path)
    with Logs([tmp_path]) as logs:
        row = logs.find(Search.parse("reason:allowed"))[0]
        assert show(logs, row["id"]).bundle is None
        shown = show(logs, row["id"], [incident / "absent", incident / "policies" / "default"])
        assert shown.same is True


def test_a_rule_that_has_ended_since_still_explains_what_it_allowed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    end = datetime(2024, 6, 1, 12, tzinfo=UTC)
    bundle = world.bundle(
        "a", f"p, user:staff:otto, acme, {PURGE}, *, allow, {end:%Y-%m-%dT%H:%M:%SZ}", like="break-glass"
    )
    world.recorder.load(bundle)
    world.log.tend()
    for minutes, before in ((-1, "allow"), (1, "no_opinion")):
        world.log.write(decided(bundle, OTTO, Call(PURGE, ("acme",)), end + timedelta(minutes=minutes)))
        with Logs([world.folder / "audit.jsonl"]) as logs:
            record = max(logs.find(Search.parse("event:decision")), key=lambda row: row["time"])
            found = show(logs, record["id"])
        assert (record["decision"], found.same) == (before, True)
        assert main(["audit", "show", record["id"], str(world.folder / "audit.jsonl")]) == Exit.OK
        assert f"asked again, it says {before}" in capsys.readouterr().out


def test_a_kept_policy_that_somebody_changed_explains_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.recorder.load(world.bundle("a"))
    world.recorder.call(RITA, "GetOrder", "acme")
    world.log.tend()
    assert shown(world).same is True
    (kept,) = (world.folder / SHELF).iterdir()
    with (kept / "policy.csv").open("a") as file:
        file.write("p, user:staff:mallory, *, *, read, allow\n")
    found = shown(world)
    assert (found.bundle, found.around, found.same) == (None, (), None)
    assert found.why.startswith("the copy of the policy that was kept is not what it was")
    assert main(["audit", "show", found.record["id"], str(world.folder / "audit.jsonl")]) == Exit.OK
    assert f"not asked again: {found.why}" in capsys.readouterr().out


def test_of_a_hash_that_a_rule_about_a_user_let_in_nothing_is_claimed(world: World) -> None:
    bundle = world.bundle("a", f"p, user:staff:rita, acme, {PURGE}, *, allow")
    world.recorder.load(bundle)
    world.log.tend()
    path = world.folder / "hashed.jsonl"
    with AuditLog(path, LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(decided(bundle, RITA, Call(PURGE, ("acme",)), datetime.now(UTC)))
    found = shown(world, path=path)
    assert "hmac-" in found.record["rule"]
    assert (found.verdict, found.same, found.why.endswith("or the subject is hashed")) == (None, None, True)
    assert found.around, "the rule is shown all the same"


def test_what_no_policy_decided_is_not_asked_again(world: World) -> None:
    world.recorder.load(world.bundle("a"))
    world.recorder.call(None, "GetOrder", "acme")
    world.log.tend()
    assert shown(world).why == "no policy decided it"
