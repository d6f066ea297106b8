"""Who did what beside who can, and the least policy that covers what somebody did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.writer import AuditLog
from authz.claims.base import Claims
from authz.review.logs import Logs
from authz.review.usage import Doer, who_did
from tests.audit.logs import ALICE, METHOD, record
from tests.review.world import DEFAULT, World

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
