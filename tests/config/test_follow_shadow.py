"""A server whose shadow policy is edited: its differences are those of the new text; a broken one changes nothing."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

import authz
from authz.admin.sign import new_key, sign
from authz.cli import main
from authz.config.policy import PolicyMaker
from authz.decision.shadow import ShadowAuthorizer
from authz.engine import Policy
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.signature import SIGNATURE
from examples.orders.keys import Keys
from tests.adapters.orders import POLICIES, configure
from tests.config.test_follow import METHOD, events, eventually

READS = "p, role:reader, *, *, read, allow"


def ask(engine: authz.Engine, keys: Keys) -> authz.Decision:
    token = authz.BearerToken(keys.ec.mint(sub="rita", permissions=["acme:read"]))
    return engine.check(authz.Call(METHOD, ("acme",)), [token])


def configured(tmp_path: Path) -> tuple[Path, Keys, Path, Path]:
    """The configuration, its keys, and the policy files of the bundle in force and of the shadow."""
    config, keys = configure(tmp_path)
    for name in ("bundle", "next"):
        shutil.copytree(POLICIES / "default", tmp_path / name)
    text = config.read_text().replace(str(POLICIES / "default"), "bundle\n  shadow: {bundle: next}")
    config.write_text(text)
    return config, keys, tmp_path / "bundle" / "policy.csv", tmp_path / "next" / "policy.csv"


def test_an_edited_shadow_is_asked(tmp_path: Path) -> None:
    config, keys, policy, shadow = configured(tmp_path)
    original = shadow.read_text()
    with authz.load_config(config) as engine:
        assert ask(engine, keys).shadow is None
        shadow.write_text(original.replace(READS, READS.replace("*", "shop", 1)))
        eventually(lambda: ask(engine, keys).shadow is not None)
        assert ask(engine, keys)

        # the bundle in force changes: it still has the shadow beside it
        policy.write_text(original + "# a remark\n")
        eventually(lambda: engine.policy.revision.id == load_bundle(policy.parent).id)
        decision = ask(engine, keys)
        assert decision
        assert decision.shadow is not None
        assert decision.shadow.revision == load_bundle(shadow.parent).id

        shadow.write_text(original)
        eventually(lambda: ask(engine, keys).shadow is None)
        assert engine.policy.revision.id == load_bundle(policy.parent).id


def test_a_shadow_that_was_broken_at_start_is_asked_when_it_is_mended(tmp_path: Path) -> None:
    config, keys, _, shadow = configured(tmp_path)
    original = shadow.read_text()
    shadow.write_text(original.replace(READS, "p, role:reader, *, *, read, alow"))
    with authz.load_config(config) as engine:
        decision = ask(engine, keys)
        assert decision
        assert decision.shadow is None
        shadow.write_text(original.replace(READS, READS.replace("*", "shop", 1)))
        eventually(lambda: ask(engine, keys).shadow is not None)


def test_the_log_tells_which_of_the_two_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, _, policy, shadow = configured(tmp_path)
    bundle, following = policy.parent, shadow.parent
    old, asked = load_bundle(bundle).id, load_bundle(following).id
    with authz.load_config(config):
        shadow.write_text(shadow.read_text() + "# a remark\n")
        eventually(lambda: len(events(bundle)) == 2)
        later = load_bundle(following).id

        policy.write_text(policy.read_text() + "# another remark\n")
        eventually(lambda: len(events(bundle)) == 3)
        new = load_bundle(bundle).id

        # a shadow that is broken is asked as it was, also when the bundle in force changes meanwhile
        shadow.write_text("p, broken\n")
        policy.write_text(policy.read_text() + "# the last one\n")
        eventually(lambda: len(events(bundle)) == 4)
        last = load_bundle(bundle).id
    fields = ("before", "policy_version", "shadow_before", "shadow_version")
    assert [tuple(event[name] for name in fields) for event in events(bundle)] == [
        (None, old, None, asked),
        (old, old, asked, later),
        (old, new, later, later),
        (new, last, later, later),
    ]
    assert main(["audit", "changes", str(tmp_path / "audit.jsonl")]) == 0
    shown = capsys.readouterr().out.splitlines()
    told = [f"none to {asked[:12]}", f"{asked[:12]} to {later[:12]}", f"  {later[:12]}  ", f"  {later[:12]}  "]
    assert all(words in line for words, line in zip(told, shown[1:], strict=True)), shown


def test_a_shadow_is_followed_while_the_signature_is_that_of_the_next_bundle(tmp_path: Path) -> None:
    config, keys, policy, shadow = configured(tmp_path)
    bundle, waiting = policy.parent, tmp_path / "waiting"
    new_key(tmp_path / "key.pem")
    sign(bundle, tmp_path / "key.pem")
    shutil.copytree(bundle, waiting)
    (waiting / "policy.csv").write_text(policy.read_text() + "# the next one\n")
    sign(waiting, tmp_path / "key.pem")
    config.write_text(config.read_text().replace("shadow:", "require_signature: [key.pub.pem]\n  shadow:"))
    with authz.load_config(config) as engine:
        (bundle / SIGNATURE).write_text((waiting / SIGNATURE).read_text())
        shadow.write_text(shadow.read_text().replace(READS, READS.replace("*", "shop", 1)))
        eventually(lambda: ask(engine, keys).shadow is not None)
        assert engine.policy.revision.id == load_bundle(bundle).id


@pytest.mark.parametrize("slow", ["bundle", "shadow"])
def test_two_watchers_that_adopt_at_once_lose_no_change(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two changes is read, and held up before it is put in force; the other one comes meanwhile."""
    config, _, policy, shadow = configured(tmp_path)
    read = threading.Event()
    make = PolicyMaker.make
    with authz.load_config(config) as engine:
        first = engine.policy

        def make_slowly(maker: PolicyMaker, revision: Revision, *, in_force: bool = False) -> Policy:
            made = make(maker, revision, in_force=in_force)
            if not read.is_set() and (revision.id != first.revision.id) == (slow == "bundle"):
                read.set()
                until = time.monotonic() + 2
                # without a lock the other one is in force long before this, and is then overwritten
                while engine.policy is first and time.monotonic() < until:
                    time.sleep(0.01)
            return made

        monkeypatch.setattr(PolicyMaker, "make", make_slowly)
        files = [policy, shadow] if slow == "bundle" else [shadow, policy]
        files[0].write_text(files[0].read_text() + "# a remark\n")
        assert read.wait(20)
        files[1].write_text(files[1].read_text() + "# another remark\n")
        eventually(lambda: len(events(policy.parent)) == 3)
        assert engine.policy.revision.id == load_bundle(policy.parent).id
        asked = engine.policy.authorizer
        assert isinstance(asked, ShadowAuthorizer)
        assert asked.revision == load_bundle(shadow.parent).id
