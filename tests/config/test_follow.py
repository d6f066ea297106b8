"""A server whose policy files are edited: the new answers come, and a broken file changes nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import authz
from authz.admin.sign import new_key, sign
from authz.policy.load import load_bundle
from examples.orders.keys import Keys
from tests.adapters.orders import POLICIES, configure

METHOD = "/example.orders.v1.Orders/GetOrder"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[authz.Engine, Keys, Path]]:
    config, keys = configure(tmp_path)
    bundle = tmp_path / "bundle"
    shutil.copytree(POLICIES / "default", bundle)
    config.write_text(config.read_text().replace(str(POLICIES / "default"), "bundle"))
    with authz.load_config(config) as engine:
        yield engine, keys, bundle


def allowed(engine: authz.Engine, keys: Keys) -> bool:
    token = authz.BearerToken(keys.ec.mint(sub="rita", permissions=["acme:read"]))
    return bool(engine.check(authz.Call(METHOD, ("acme",)), [token]))


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def events(bundle: Path) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in (bundle.parent / "audit.jsonl").read_text().splitlines())
    return [line for line in lines if str(line["event"]).startswith("policy.")]


def test_an_edited_policy_comes_into_force_and_a_broken_one_does_not(running: tuple[authz.Engine, Keys, Path]) -> None:
    engine, keys, bundle = running
    policy = bundle / "policy.csv"
    original = policy.read_text()
    assert allowed(engine, keys)
    first = engine.policy.revision.id

    policy.write_text(original.replace("p, role:reader, *, *, read, allow", "p, role:reader, shop, *, read, allow"))
    eventually(lambda: not allowed(engine, keys))
    second = engine.policy.revision.id

    policy.write_text(original.replace("p, role:reader, *, *, read, allow", "p, role:reader, *, *, read, alow"))
    eventually(lambda: events(bundle)[-1]["event"] == "policy.rejected")
    assert not allowed(engine, keys)
    assert engine.policy.revision.id == second
    assert "policy.csv:" in str(events(bundle)[-1]["problems"])

    policy.write_text(original)
    eventually(lambda: allowed(engine, keys))
    assert engine.policy.revision.id == first
    names = [event["event"] for event in events(bundle)]
    assert names == ["policy.loaded", "policy.loaded", "policy.rejected", "policy.loaded"]


SIGNED = "bundle\n  require_signature: [key.pub.pem]"


def test_a_bundle_that_is_edited_in_place_comes_into_force_when_it_is_signed(tmp_path: Path) -> None:
    config, keys = configure(tmp_path)
    shutil.copytree(POLICIES / "default", bundle := tmp_path / "bundle")
    new_key(tmp_path / "key.pem")
    sign(bundle, tmp_path / "key.pem")
    config.write_text(config.read_text().replace(str(POLICIES / "default"), SIGNED))
    policy = bundle / "policy.csv"
    with authz.load_config(config) as engine:
        assert allowed(engine, keys)
        first = engine.policy.revision.id
        policy.write_text(policy.read_text() + "p, user:staff:rita, *, *, *, deny\n")
        eventually(lambda: events(bundle)[-1]["event"] == "policy.rejected")
        assert "a file was changed since" in str(events(bundle)[-1]["problems"])
        assert engine.policy.revision.id == first

        sign(bundle, tmp_path / "key.pem")
        eventually(lambda: engine.policy.revision.id == load_bundle(bundle).id)
        assert not allowed(engine, keys)
    names = [event["event"] for event in events(bundle)]
    assert names == ["policy.loaded", "policy.rejected", "policy.loaded"]


def test_a_policy_that_is_not_watched_stays(tmp_path: Path) -> None:
    config, keys = configure(tmp_path)
    shutil.copytree(POLICIES / "default", tmp_path / "bundle")
    text = config.read_text().replace(str(POLICIES / "default"), "bundle\n  watch: false")
    config.write_text(text)
    with authz.load_config(config) as engine:
        (tmp_path / "bundle" / "policy.csv").write_text("p, role:nobody, *, *, read, allow\n")
        time.sleep(1)
        assert allowed(engine, keys)
