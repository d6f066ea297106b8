"""Who did what beside who can, and the least policy that covers what somebody did."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.authn.base import ANONYMOUS
from authz.claims.base import Claims
from authz.errors import AuditError
from authz.review.logs import Logs
from authz.review.replay import replay
from authz.review.search import Search
from authz.review.usage import Doer, suggest, who_did
from examples.incident.__main__ import RITA
from tests.audit.logs import ALICE, METHOD, record
from tests.review.test_denied import EXCEPT, MODEL, MODELS
from tests.review.test_denied import bundle as bundle_of
from tests.review.world import DEFAULT, ROOT, World

CREATE = "/example.orders.v1.Orders/CreateOrder"


def doers(path: Path, method: str, namespace: str | None = None, bundle: Path | None = DEFAULT) -> dict[str, Doer]:
    with Logs([path]) as logs:
        return {doer.sub: doer for doer in who_did(logs, method, namespace, bundle)}


def test_who_did_beside_who_can(incident: Path) -> None:
    found = doers(incident / "audit", "*CreateOrder")
    assert (found["user:staff:walt"].did, found["user:staff:walt"].can) == (73, True)
    assert (found["user:staff:rita"].did, found["user:staff:rita"].can) == (0, False)
    assert (found["user:staff:ada"].did, found["user:staff:ada"].can) == (0, True), "who can, and did not"
    assert all(doer.can is None for doer in doers(incident / "audit", "*CreateOrder", "acme", None).values())


def test_who_can_goes_by_the_latest_roles_in_each_namespace(tmp_path: Path) -> None:
    def claims(*system: str, **namespaces: str) -> Claims:
        return Claims(ALICE, frozenset(system), {name: frozenset({role}) for name, role in namespaces.items()})

    with AuditLog(tmp_path / "audit.jsonl") as log:
        for held, namespaces in (
            (claims("reader", acme="admin", globex="writer"), ("acme",)),
            (claims("admin", acme="writer", globex="writer"), ("globex", "acme")),
            (claims(initech="reader"), ("initech",)),
            (claims(), (None,)),
        ):
            log.write(record(method=CREATE, namespaces=namespaces, claims=held))
    (alice,) = doers(tmp_path, CREATE, "globex").values()
    assert alice.roles == ("reader@initech", "writer@acme", "writer@globex")
    assert (alice.did, alice.can) == (1, True)
    assert doers(tmp_path, CREATE, "initech")["user:corp:alice"].can is False


def test_every_caller_is_asked_about_every_call(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        for number in range(1500):
            log.write(record(namespaces=(f"ns{number:04d}",), claims=Claims(ALICE, frozenset({"reader"}))))
        held = {"ns1499": frozenset({"reader"})}
        log.write(
            record(
                method=CREATE, namespaces=("ns1499",), claims=Claims(replace(ALICE, subject="zed"), frozenset(), held)
            )
        )
    assert doers(tmp_path, METHOD)["user:corp:zed"].can is True


def test_of_roles_that_the_log_does_not_have_nothing_is_told(tmp_path: Path) -> None:
    many = Claims(ALICE, frozenset(f"role-{number:02d}" for number in range(65)))
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.write(record(claims=many))
    assert doers(tmp_path, METHOD)["user:corp:alice"].can is None


def test_of_a_hash_only_what_holds_for_every_user_is_told(world: World, tmp_path: Path) -> None:
    path = tmp_path / "hashed.jsonl"
    with AuditLog(path, LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(record())
    assert [doer.can for doer in doers(path, METHOD).values()] == [True]
    named = world.bundle("named", "p, user:corp:alice, *, *, read, deny")
    assert [doer.can for doer in doers(path, METHOD, None, named).values()] == [None]


def test_the_policy_that_is_suggested_covers_what_was_done_and_no_more(
    incident: Path, logs: Logs, tmp_path: Path
) -> None:
    lines = [each.line for each in suggest(logs, "user:staff:walt")]
    assert lines == [
        f"p, user:staff:walt, {ns}, /example.orders.v1.Orders/CreateOrder, write, allow" for ns in ("acme", "globex")
    ]
    shutil.copytree(incident / "policies" / "default", tmp_path / "new")
    (tmp_path / "new" / "policy.csv").write_text("\n".join(lines) + "\n")
    result = replay(logs, tmp_path / "new", Search.parse("sub:staff:walt"))
    assert (result.decided, result.flips) == (73, [])


def suggested(path: Path, subject: str, bundle: Path | None = None) -> list[tuple[str, int]]:
    with Logs([path]) as logs:
        return [(each.line, each.count) for each in suggest(logs, subject, None, bundle)]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_suggested_is_of_the_model_and_covers_what_was_done(world: World, name: str) -> None:
    model, line = MODELS[name]
    path = bundle_of(world, model, f"{line}\n")
    world.recorder.load(path)
    world.recorder.call(RITA, "CreateOrder", "acme")
    world.log.tend()
    log = world.folder / "audit.jsonl"
    assert suggested(log, "user:staff:rita") == [(line, 1)]
    (path / "policy.csv").write_text(f"{line}\n")
    with Logs([log]) as logs:
        result = replay(logs, path)
    assert (result.decided, result.flips) == (1, [])


def test_one_rule_is_told_once(world: World) -> None:
    """Where the model makes no difference between namespaces."""
    model, line = MODELS["without namespaces"]
    world.recorder.load(bundle_of(world, model, f"{line}\n"))
    for namespace in ("acme", "globex", "acme"):
        world.recorder.call(RITA, "CreateOrder", namespace)
    world.log.tend()
    assert suggested(world.folder / "audit.jsonl", "user:staff:rita") == [(line, 3)]


def test_where_no_rule_can_be_suggested_that_is_said(world: World, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    with AuditLog(path) as log:
        for subject in ("a,b", "#c", "(d", "*", "e f"):
            log.write(record(claims=Claims(replace(ALICE, subject=subject), frozenset({"reader"}))))
        log.write(record(claims=Claims(ANONYMOUS)))
    assert suggested(path, "user:corp:e f", DEFAULT) == [(f"p, user:corp:e f, acme, {METHOD}, read, allow", 1)]
    for subject in ("a,b", "#c", "(d", "*"):
        assert suggested(path, f"user:corp:{subject}", DEFAULT)[0][0].startswith(
            "none: the rule that would holds what no line"
        )
    assert suggested(path, ANONYMOUS.id, DEFAULT)[0][0].startswith("none: the caller showed nothing")
    assert suggested(path, "user:corp:e f", ROOT / "policies" / "temporal")[0][0].startswith("none: the API catalogue")
    assert suggested(path, "user:corp:nobody") == []
    with pytest.raises(AuditError, match="is not at hand; name a folder of it with --policy"):
        suggested(path, "user:corp:e f")
    hashed = tmp_path / "hashed.jsonl"
    with AuditLog(hashed, LogSettings(masking=Masking(b"k" * 32))) as log:
        log.write(record())
    with Logs([hashed]) as logs:
        sub = logs.ask("SELECT sub FROM decisions")[0]["sub"]
    assert suggested(hashed, sub, DEFAULT) == [("none: the subject is hashed in the log", 1)]
    matcher = 'g(r.sub, p.sub) && r.dom == p.dom && r.dom == "only" && r.obj == p.obj && r.act == p.act'
    model = MODEL.format(p="sub, dom, obj, act, eft", e=EXCEPT, m=matcher)
    assert suggested(path, "user:corp:e f", bundle_of(world, model))[0][0].startswith("none: no rule about this caller")
