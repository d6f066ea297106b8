"""The smallest rule that would allow what was refused, whatever the model; or why there is none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from authz.audit.masking import Masking
from authz.audit.settings import LogSettings
from authz.audit.shelf import SHELF
from authz.audit.writer import AuditLog
from authz.authn.base import ANONYMOUS
from authz.claims.base import Claims
from authz.review.denied import denied
from authz.review.logs import Logs
from authz.review.replay import replay
from examples.incident.__main__ import RITA
from tests.audit.logs import ALICE, record
from tests.review.world import DEFAULT, ROOT, World

CREATE = "/example.orders.v1.Orders/CreateOrder"
MODEL = """
[request_definition]
r = sub, dom, obj, act

[policy_definition]
p = {p}

[role_definition]
g = _, _
g2 = _, _

[policy_effect]
e = some(where (p.eft == allow)){e}

[matchers]
m = {m}
"""
EXCEPT = " && !some(where (p.eft == deny))"


def remedies(world: World, policy: Path | None = None) -> dict[str, str]:
    """The remedy of each refusal, by its namespaces."""
    world.log.tend()
    with Logs([world.folder / "audit.jsonl"]) as logs:
        return {each.namespace: each.remedy for each in denied(logs, bundle=policy)}


def bundle(world: World, model: str, policy: str = "") -> Path:
    path = world.folder / "bundle"
    shutil.copytree(DEFAULT, path)
    for odd in ("tests.yaml", "policy.csv"):
        (path / odd).unlink(missing_ok=True)
    (path / "model.conf").write_text(model)
    (path / "policy.csv").write_text(policy or "# nobody may do anything\n")
    return path


MODELS = {
    "ending": (
        MODEL.format(
            p="sub, dom, obj, act, eft, until",
            e=EXCEPT,
            m="g(r.sub, p.sub) && keyMatch(r.dom, p.dom) && (g2(r.obj, p.obj) || keyMatch(r.obj, p.obj)) "
            '&& (p.act == "*" || r.act == p.act) && validUntil(p.until)',
        ),
        f"p, user:staff:rita, acme, {CREATE}, write, allow, never",
    ),
    "without namespaces": (
        MODEL.format(p="sub, obj, eft", e=EXCEPT, m="g(r.sub, p.sub) && r.obj == p.obj"),
        f"p, user:staff:rita, {CREATE}, allow",
    ),
    "in another order": (
        MODEL.format(p="act, where, sub, what", e="", m="r.what == p.what").replace("r.what == p.what",
            "r.act == p.act && r.dom == p.where && g(r.sub, p.sub) && keyMatch(r.obj, p.what)"),
        f"p, write, acme, user:staff:rita, {CREATE}",
    ),
    "by Casbin itself": (
        MODEL.format(p="sub, dom, obj, act, eft", e=EXCEPT,
            m="g(r.sub, p.sub) && r.dom == p.dom && r.obj == p.obj && (r.act == p.act || r.act == p.act + p.dom)"),
        f"p, user:staff:rita, acme, {CREATE}, write, allow",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_rule_is_of_the_model_and_allows_it(world: World, name: str) -> None:
    model, remedy = MODELS[name]
    path = bundle(world, model)
    world.recorder.load(path)
    world.recorder.call(RITA, "CreateOrder", "acme")
    assert remedies(world) == {"acme": remedy}
    (path / "policy.csv").write_text(f"{remedy}\n")
    with Logs([world.folder / "audit.jsonl"]) as logs:
        assert [flip.after for flip in replay(logs, path).flips] == ["allow"]


@pytest.mark.parametrize(
    "matcher",
    ['r.sub == "user:staff:root" && g(r.sub, p.sub) && r.dom == p.dom', 'g(r.sub, p.sub) && p.dom == "only"'],
)
def test_where_no_rule_about_the_call_alone_would_do_that_is_said(world: World, matcher: str) -> None:
    model = MODEL.format(p="sub, dom, eft", e=EXCEPT, m=matcher)
    world.recorder.load(bundle(world, model))
    world.recorder.call(RITA, "CreateOrder", "acme")
    assert remedies(world)["acme"].startswith("none: no rule about this caller")


def test_a_rule_for_each_namespace_that_is_lacking(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.write(record(allow=False, method=CREATE, namespaces=("acme", "globex")))
    with Logs([tmp_path]) as logs:
        (found,) = denied(logs, bundle=DEFAULT)
    assert found.namespace == "acme, globex"
    assert found.remedy == " and ".join(
        f"p, user:corp:alice, {ns}, {CREATE}, write, allow" for ns in ("acme", "globex")
    )


def test_without_its_policy_nothing_is_made_up(world: World) -> None:
    world.recorder.load(world.bundle("a"))
    world.recorder.call(RITA, "CreateOrder", "acme")
    assert remedies(world)["acme"].startswith("p, user:staff:rita, acme")
    shutil.rmtree(world.folder / SHELF)
    assert remedies(world)["acme"].startswith("unknown: the policy that decided is not at hand")
    assert remedies(world, DEFAULT)["acme"].startswith("p, user:staff:rita, acme")
    assert remedies(world, ROOT / "policies" / "temporal")["acme"].startswith("none: the API catalogue")
    line = f"p, user:staff:rita, acme, {CREATE}, write, allow"
    assert remedies(world, world.bundle("b", line)) == {"acme": "none is needed: this policy allows it"}


def test_nobody_and_somebody_hashed_have_no_rule_of_their_own(tmp_path: Path) -> None:
    masking = Masking(b"k" * 32, plain=["anonymous"])
    with AuditLog(tmp_path / "audit.jsonl", LogSettings(masking=masking)) as log:
        log.write(record(allow=False, method=CREATE))
        log.write(record(allow=False, method=CREATE, namespaces=("other",), claims=Claims(ANONYMOUS)))
    with Logs([tmp_path]) as logs:
        found = {each.namespace: each.remedy for each in denied(logs, bundle=DEFAULT)}
    assert found["acme"] == "none: the subject is hashed in the log"
    assert found["other"].startswith("none: the caller showed nothing")


def test_a_subject_that_no_policy_can_hold_has_no_rule(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        for subject, namespace in (("a,b", "acme"), ("c", "other")):
            log.write(
                record(
                    allow=False, method=CREATE, namespaces=(namespace,), claims=Claims(replace(ALICE, subject=subject))
                )
            )
    with Logs([tmp_path]) as logs:
        found = {each.namespace: each.remedy for each in denied(logs, bundle=DEFAULT)}
    assert (
        found["acme"] == "none: the rule that would holds what no line of a policy can, such as a comma in the subject"
    )
    assert found["other"] == f"p, user:corp:c, other, {CREATE}, write, allow"
