"""Calls through the proxy that outlive the right to them, most of all while the client has yet to say something."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from authz.adapters.admission import Admission
from authz.decision import authorizer_for
from authz.engine import Policy
from authz.policy.load import load_bundle
from tests.adapters.behind import BOTH, REQUESTS, SERVICE, SETTINGS, UNARY, Front, Message, echo_behind_proxy
from tests.adapters.orders import POLICIES

BEFORE = "{access: read, constant: acme}"
"""An entry of the catalogue by which a call is decided before its message."""
BY_MESSAGE = "{access: read, namespaces: [namespace]}"
KINDS = [UNARY, REQUESTS, BOTH]


def policy(folder: Path, entry: str, rules: str | None = None) -> Policy:
    """The default bundle, with ``entry`` for each of the methods that are called here, and perhaps other rules."""
    shutil.copytree(POLICIES / "default", folder, ignore=shutil.ignore_patterns("tests.yaml"))
    text = (folder / "catalogue.yaml").read_text()
    for line in text.splitlines():
        if line.strip().partition(":")[0] in KINDS:
            text = text.replace(line, f"{line.partition(':')[0]}: {entry}")
    (folder / "catalogue.yaml").write_text(text)
    if rules is not None:
        (folder / "policy.csv").write_text(rules)
    revision = load_bundle(folder)
    return Policy(revision, authorizer_for(revision))


@contextmanager
def running(folder: Path, entry: str, recheck: str) -> Iterator[Front]:
    """The proxy, with a policy that has ``entry``, and a list of the revoked in ``revoked.txt``."""
    (folder / "revoked.txt").touch()
    settings = f"{SETTINGS}enforcement: {{{{recheck: {recheck}, interval: 50ms}}}}\n"
    with echo_behind_proxy(folder, settings, "  leeway: 0s\n  revocations: revoked.txt\n") as front:
        front.server._engine.adopt(policy(folder / "first", entry))
        yield front


def order(namespace: str) -> bytes:
    return bytes(Message(namespace=namespace, id="1").SerializeToString())


def until(found: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


class Said:
    """A call whose messages are said one by one."""

    def __init__(self, front: Front, method: str, **claims: Any) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue()
        self._channel = front.channel()
        metadata = front.token(sub="rita", permissions=["acme:read"], **claims)
        stub = self._channel.stream_stream(f"/{SERVICE}/{method}")
        self.replies = stub(iter(self._queue.get, None), metadata=metadata, timeout=20)

    def say(self, *messages: bytes | None) -> None:
        """Say each; None: that there will be no more."""
        for message in messages:
            self._queue.put(message)

    def code(self) -> str:
        """What the call comes to."""
        try:
            list(self.replies)
        except grpc.RpcError:
            pass
        finally:
            self._queue.put(None)
            self._channel.close()
        return str(self.replies.code().name)


@pytest.mark.parametrize("method", KINDS)
def test_messages_are_read_as_the_catalogue_says_that_is_in_force_when_they_come(tmp_path: Path, method: str) -> None:
    with running(tmp_path, BEFORE, "next_message") as front:
        said = Said(front, method)
        until(lambda: front.records)
        if method == BOTH:
            said.say(order("globex"))
            assert next(said.replies) == order("globex"), "so far, nobody asks what is in the messages"
        before = list(front.heard.messages)
        front.server._engine.adopt(policy(tmp_path / "second", BY_MESSAGE))
        said.say(order("globex"), None)
        assert said.code() == "PERMISSION_DENIED"
        assert front.heard.messages == before
        assert front.records[-1]["namespaces"] == ["globex"]


def lose(front: Front, how: str) -> str:
    """Take the right from the caller; the reason that counts from now on."""
    if how == "expiry":
        time.sleep(2.1)
        return "token_expired"
    if how == "revocation":
        (front.folder / "revoked.txt").write_text("subject staff rita\n")
        until(lambda: "keys.changed" in (front.folder / "audit.jsonl").read_text())
        return "credential_revoked"
    front.server._engine.adopt(policy(front.folder / "second", BEFORE, "p, role:nobody, *, *, read, allow\n"))
    return "no_rule"


LOSSES = ["expiry", "revocation", "policy"]


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("method", KINDS)
def test_a_call_that_is_decided_before_its_message_is_decided_again_with_it(
    tmp_path: Path, method: str, how: str
) -> None:
    with running(tmp_path, BEFORE, "next_message") as front:
        said = Said(front, method, **({"exp": int(time.time()) + 2} if how == "expiry" else {}))
        until(lambda: front.records)
        reason = lose(front, how)
        said.say(order("acme"), None)
        assert said.code() == ("PERMISSION_DENIED" if how == "policy" else "UNAUTHENTICATED")
        assert front.records[-1]["reason"] == reason
        assert front.heard.messages == []


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("method", KINDS)
def test_a_silent_caller_is_ended_with_the_right_to_the_call(tmp_path: Path, method: str, how: str) -> None:
    with running(tmp_path, BEFORE, "at_once") as front:
        said = Said(front, method, **({"exp": int(time.time()) + 2} if how == "expiry" else {}))
        until(lambda: front.records)
        reason = lose(front, how)
        assert said.code() == ("PERMISSION_DENIED" if how == "policy" else "UNAUTHENTICATED")
        assert [record["reason"] for record in front.records] == ["allowed", reason]
        assert front.heard.messages == []


@pytest.mark.parametrize("recheck", ["at_once", "next_message"])
@pytest.mark.parametrize("method", KINDS)
def test_a_caller_who_keeps_the_right_may_take_its_time(tmp_path: Path, method: str, recheck: str) -> None:
    with running(tmp_path, BEFORE, recheck) as front:
        said = Said(front, method)
        until(lambda: front.records)
        front.server._engine.adopt(policy(tmp_path / "second", BY_MESSAGE))
        time.sleep(0.3)
        said.say(order("acme"), None)
        assert said.code() == "OK"
        assert front.heard.messages == [order("acme")]
        assert [record["decision"] for record in front.records] == ["allow"]


@pytest.mark.parametrize("method", [REQUESTS, BOTH])
def test_the_end_of_a_stream_is_not_passed_on_for_a_caller_who_lost_the_right(tmp_path: Path, method: str) -> None:
    with running(tmp_path, BY_MESSAGE, "next_message") as front:
        said = Said(front, method, exp=int(time.time()) + 2)
        said.say(order("acme"))
        until(lambda: front.heard.messages)
        lose(front, "expiry")
        said.say(None)
        assert said.code() == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", KINDS)
def test_a_message_that_is_waited_for_is_decided_by_the_policy_in_force_when_it_comes(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = threading.Event()
    refuse_unproven = Admission.refuse_unproven

    def noted(admission: Admission) -> Any:
        proven.set()
        return refuse_unproven(admission)

    monkeypatch.setattr(Admission, "refuse_unproven", noted)
    with running(tmp_path, BY_MESSAGE, "next_message") as front:
        said = Said(front, method)
        assert proven.wait(10)
        lose(front, "policy")
        said.say(order("acme"), None)
        assert said.code() == "PERMISSION_DENIED"
        assert (front.heard.metadata, front.heard.messages) == ([], [])
