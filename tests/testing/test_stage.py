"""The stage: what it lets a test say about callers, and that its assertions fail when they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from authz.call import Call
from authz.credentials import from_metadata
from authz.reason import Reason
from authz.testing import Stage
from authz.testing.stage import Metadata, Roles
from tests.bundle import POLICY, write_bundle

GET, PUT = Call("/shop.Orders/Get", ("acme",)), Call("/shop.Orders/Put", ("acme",))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    policy = POLICY + "p, user:test:olga, acme, *, write, allow\np, role:everyone, frozen, *, *, deny\n"
    return Stage(write_bundle(tmp_path / "bundle", policy), anonymous=["/shop.Orders/List"])


def ask(stage: Stage, call: Call, metadata: Metadata = ()) -> bool:
    return bool(stage.engine.check(call, from_metadata(metadata)))


HELD: list[tuple[dict[str, Roles], Roles, bool, bool]] = [
    ({}, (), False, False),
    ({"acme": "reader"}, (), True, False),
    ({"acme": ["reader", "writer"]}, (), True, True),
    ({"globex": "writer"}, (), False, False),
    ({}, "reader", True, False),
    ({}, ["writer"], True, True),
]


@pytest.mark.parametrize(("roles", "system", "reads", "writes"), HELD)
def test_a_caller_has_the_roles_that_the_test_says(
    stage: Stage, roles: dict[str, Roles], system: Roles, reads: bool, writes: bool
) -> None:
    caller = stage.as_caller("rita", roles, system=system)
    assert ask(stage, GET, caller) is reads
    assert ask(stage, PUT, caller) is writes
    assert stage.decisions.records[0]["sub"] == "user:test:rita"


def test_a_caller_can_be_named_by_the_policy(stage: Stage) -> None:
    assert ask(stage, PUT, stage.as_caller("olga"))
    stage.decisions.assert_allowed(rule="p, user:test:olga, acme, *, write, allow")


def test_a_token_can_have_ended(stage: Stage) -> None:
    assert not ask(stage, GET, stage.as_caller(system="reader", expires_in=-60))
    stage.decisions.assert_denied(reason=Reason.TOKEN_EXPIRED)
    assert ask(stage, GET, stage.as_caller(system="reader", expires_in=80_000))


def test_who_shows_nothing_is_refused_unless_the_method_is_open(stage: Stage) -> None:
    assert not ask(stage, GET)
    stage.decisions.assert_denied(reason="credential_missing")
    assert not ask(stage, Call("/shop.Orders/List", ("acme",)))
    stage.decisions.assert_denied(reason="no_rule")


def test_a_token_of_another_stage_is_no_better(stage: Stage) -> None:
    metadata = stage.as_caller(system="reader")
    forged = metadata[0][1][:-6] + "AAAAAA"
    assert not ask(stage, GET, (("authorization", forged),))
    stage.decisions.assert_denied(reason="token_signature_wrong")


@pytest.mark.parametrize("roles", [{"*": "reader"}, {"": "reader"}, {"acme": "re ader"}, {"acme": ["everyone"]}])
def test_what_cannot_be_held_is_a_mistake_in_the_test(stage: Stage, roles: dict[str, Roles]) -> None:
    with pytest.raises(ValueError, match=r"is not a namespace|cannot be granted"):
        stage.as_caller("rita", roles)


def test_an_assertion_about_nothing_fails(stage: Stage) -> None:
    for assertion in (stage.decisions.assert_allowed, stage.decisions.assert_denied):
        with pytest.raises(AssertionError, match="nothing was decided"):
            assertion()
    ask(stage, GET, stage.as_caller(system="reader"))
    stage.decisions.clear()
    with pytest.raises(AssertionError, match="nothing was decided"):
        stage.decisions.assert_allowed()


def test_an_assertion_that_does_not_hold_tells_what_was_decided(stage: Stage) -> None:
    ask(stage, GET, stage.as_caller("rita", system="reader"))
    told = r"user:test:rita calling /shop.Orders/Get in acme was answered allowed: by `p, role:reader, .*policy.csv:1\)"
    with pytest.raises(AssertionError, match="expected a denial, but " + told):
        stage.decisions.assert_denied()
    with pytest.raises(AssertionError, match="expected the rule `p, x`, but " + told):
        stage.decisions.assert_allowed(rule="p, x")
    ask(stage, Call("/shop.Orders/Get", ("frozen",)), stage.as_caller("rita", system="reader"))
    with pytest.raises(AssertionError, match=r"expected an allow, but .* was answered denied_by_rule"):
        stage.decisions.assert_allowed()
    with pytest.raises(AssertionError, match=r"expected no_rule, but .* was answered denied_by_rule"):
        stage.decisions.assert_denied(reason="no_rule")
    with pytest.raises(AssertionError, match="there is no reason `no_rulle`"):
        stage.decisions.assert_denied(reason="no_rulle")
    ask(stage, GET)
    with pytest.raises(AssertionError, match=r"a caller who is not proven .*: no credential was shown"):
        stage.decisions.assert_allowed()


@pytest.mark.parametrize("statement", ["import authz", "import authz.testing", "from authz.testing import Stage"])
def test_only_who_asks_for_fixtures_or_servers_loads_pytest_or_grpc(statement: str) -> None:
    program = f"import sys\n{statement}\nprint(*({{'pytest', 'grpc'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_not_there_is_an_attribute_error() -> None:
    import authz.testing

    for name in authz.testing.__all__:
        assert getattr(authz.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sevre'"):
        authz.testing.sevre  # noqa: B018
