"""The facade: what it names, what it loads, and that the words of the documentation are the words of the code."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import authz


def test_every_name_of_the_facade_is_there() -> None:
    for name in authz.__all__:
        assert getattr(authz, name) is not None
    assert set(authz.__all__) <= set(dir(authz))


def test_every_public_name_is_in_all() -> None:
    program = "import authz; print(*(n for n in vars(authz) if not n.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {"annotations", "importlib", "TYPE_CHECKING", "Any"}
    rooms = {name for name in done.stdout.split() if isinstance(getattr(authz, name), types.ModuleType)}
    assert set(done.stdout.split()) - rooms - imported <= set(authz.__all__)


def test_importing_the_package_loads_neither_grpc_nor_casbin() -> None:
    program = "import sys, authz; print(*({'grpc', 'casbin'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod_config'"):
        authz.laod_config  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'grcp'"):
        authz.adapters.grcp  # noqa: B018


def test_an_effect_and_a_decision_are_true_only_for_an_allow() -> None:
    assert [bool(effect) for effect in authz.Effect] == [True, False, False]
    for effect in authz.Effect:
        decision = authz.Decision(effect, authz.Reason.ALLOWED, None, "", None, None, "")
        assert bool(decision) is (effect is authz.Effect.ALLOW)


def test_every_reason_has_a_status_and_only_one_of_them_is_ok() -> None:
    statuses = {reason: reason.status for reason in authz.Reason}
    assert [reason for reason, status in statuses.items() if status == "OK"] == [authz.Reason.ALLOWED]
    assert set(statuses.values()) == {
        "OK",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "INTERNAL",
    }
