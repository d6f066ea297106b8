"""Calls that outlive the right to them: an expired credential, a policy that takes the right back; also when idle.

The handlers here wait for far longer than a test may take, so a call that ends has been ended.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

import authz
from authz.adapters.admission import Admission
from authz.call import Call
from authz.credentials import BearerToken
from authz.decision import authorizer_for
from authz.engine import Policy
from authz.policy.load import load_bundle
from examples.orders import orders_pb2 as pb
from tests.adapters.forms import (
    BOTH,
    KINDS,
    REQUESTS,
    RESPONSES,
    SERVICE,
    UNARY,
    Behaviours,
    Form,
    Message,
    Ran,
    Server,
)
from tests.adapters.orders import POLICIES, async_port, configure, sync_port

FOREVER = 60.0


class Waiting:
    """Lets handlers wait, and lets them go when a test is over."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()

    def plain(self) -> None:
        self.reached.set()
        self.over.wait(FOREVER)

    async def on_loop(self) -> None:
        self.reached.set()
        await asyncio.sleep(FOREVER)


def plain(waiting: Waiting) -> Behaviours:
    def unary(request: Any, context: Any) -> Any:
        waiting.plain()
        return pb.Order()

    def responses(request: Any, context: Any) -> Iterator[Any]:
        yield pb.Order(id="first")
        waiting.plain()

    def requests(iterator: Iterator[Any], context: Any) -> Any:
        for _ in iterator:
            waiting.reached.set()
        return pb.Order()

    def both(iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in iterator:
            yield pb.Order(id=request.id)
            waiting.reached.set()

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


def calling_back(waiting: Waiting) -> Behaviours:
    def responses(request: Any, context: Any, send: Any) -> None:
        send(pb.Order(id="first"))
        waiting.reached.set()

    vars(responses)["experimental_non_blocking"] = True
    return {**plain(waiting), RESPONSES: responses}


def coroutines(waiting: Waiting) -> Behaviours:
    async def unary(request: Any, context: Any) -> Any:
        await waiting.on_loop()
        return pb.Order()

    async def responses(request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.Order(id="first")
        await waiting.on_loop()

    async def requests(iterator: AsyncIterator[Any], context: Any) -> Any:
        async for _ in iterator:
            waiting.reached.set()
        return pb.Order()

    async def both(iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in iterator:
            yield pb.Order(id=request.id)
            waiting.reached.set()

    return {UNARY: unary, RESPONSES: responses, REQUESTS: requests, BOTH: both}


FORMS = {
    "sync": (sync_port, plain),
    "sync callbacks": (sync_port, calling_back),
    "aio": (async_port, coroutines),
    "aio plain functions": (async_port, plain),
}


@contextmanager
def serving(
    form: str, folder: Path, *, recheck: str, authn: str = "", bundle: Path | None = None
) -> Iterator[tuple[Server, Waiting]]:
    serve, behaviours = FORMS[form]
    config, keys = configure(folder)
    text = config.read_text().replace(
        "  # a caller who shows nothing", f"  leeway: 0s\n{authn}  # a caller who shows nothing"
    )
    text = text.replace(str(POLICIES / "default"), str(bundle or POLICIES / "default"))
    config.write_text(f"{text}\nenforcement: {{recheck: {recheck}, interval: 50ms}}\n")
    waiting = Waiting()
    with authz.load_config(config) as engine:
        made = Form(serve, lambda _: behaviours(waiting))
        with made.serving(engine, Ran()) as port:
            try:
                yield Server(port, Ran(), keys, folder, engine), waiting
            finally:
                waiting.over.set()


class IdleCall:
    """A call with one message, whose stream of requests, if it has one, stays open."""

    def __init__(self, server: Server, method: str, metadata: Any) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        kinds = {REQUESTS: "stream_unary", RESPONSES: "unary_stream", BOTH: "stream_stream", UNARY: "unary_unary"}
        make = getattr(self._channel, kinds[method])
        stub = make(f"/{SERVICE}/{method}", Message.SerializeToString, pb.Order.FromString)
        self._next: list[Any] = [Message(namespace="acme", id="1")]
        self._more = threading.Condition()
        argument = self._messages() if method in (REQUESTS, BOTH) else self._next[0]
        self.call = stub.future(argument, metadata=metadata, timeout=30) if method in (UNARY, REQUESTS) else stub(
            argument, metadata=metadata, timeout=30
        )  # fmt: skip
        self._streams = method in (RESPONSES, BOTH)

    def _messages(self) -> Iterator[Any]:
        while True:
            with self._more:
                while not self._next:
                    self._more.wait()
                message = self._next.pop(0)
            if message is None:
                return
            yield message

    def send(self, message: Any) -> None:
        with self._more:
            self._next.append(message)
            self._more.notify()

    def ended(self) -> tuple[str, dict[str, Any]]:
        """Wait for the end: the code and the trailers."""
        with suppress(grpc.RpcError):
            list(self.call) if self._streams else self.call.result()
        code, trailers = self.call.code().name, dict(self.call.trailing_metadata() or ())
        self.send(None)
        self._channel.close()
        return code, trailers


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_an_idle_call_ends_soon_after_its_token(form: str, method: str, tmp_path: Path) -> None:
    with serving(form, tmp_path, recheck="at_once") as (server, waiting):
        token = server.token(permissions=["acme:write"], exp=int(time.time()) + 2)
        began = time.monotonic()
        idle = IdleCall(server, method, token)
        assert waiting.reached.wait(5)
        code, trailers = idle.ended()
        assert code == "UNAUTHENTICATED"
        assert time.monotonic() - began < 10
        record = server.records[-1]
        assert (record["reason"], record["id"]) == ("token_expired", trailers["x-audit-id"])
        assert len(server.records) == 2


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_an_idle_call_ends_when_a_new_policy_takes_the_right_back(form: str, method: str, tmp_path: Path) -> None:
    with serving(form, tmp_path / "server", recheck="at_once") as (server, waiting):
        idle = IdleCall(server, method, server.token(permissions=["acme:write"]))
        assert waiting.reached.wait(5)
        server.engine.adopt(without_rights(tmp_path / "bundle"))
        code, trailers = idle.ended()
        assert code == "PERMISSION_DENIED"
        assert (server.records[-1]["reason"], server.records[-1]["id"]) == ("no_rule", trailers["x-audit-id"])


@pytest.mark.parametrize("form", FORMS)
def test_an_idle_call_ends_when_its_caller_is_revoked(form: str, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.txt"
    revoked.touch()
    with serving(form, tmp_path, recheck="at_once", authn="  revocations: revoked.txt\n") as (server, waiting):
        idle = IdleCall(server, RESPONSES, server.token(sub="walt", permissions=["acme:write"]))
        assert waiting.reached.wait(5)
        revoked.write_text("subject staff walt\n")
        code, trailers = idle.ended()
        assert code == "UNAUTHENTICATED"
        record = server.records[-1]
        assert (record["reason"], record["id"]) == ("credential_revoked", trailers["x-audit-id"])


def without_rights(folder: Path, rule: str = "p, role:nobody, *, *, read, allow") -> Policy:
    """The default bundle with one rule: for a role that nobody has, if not another."""
    shutil.copytree(POLICIES / "default", folder)
    (folder / "policy.csv").write_text(f"{rule}\n")
    revision = load_bundle(folder)
    return Policy(revision, authorizer_for(revision))


@pytest.mark.parametrize("form", FORMS)
def test_a_call_goes_on_under_a_new_policy_that_leaves_it_its_right(form: str, tmp_path: Path) -> None:
    with serving(form, tmp_path, recheck="at_once") as (server, waiting):
        idle = IdleCall(server, BOTH, server.token(permissions=["acme:write"]))
        assert waiting.reached.wait(5)
        revision = load_bundle(POLICIES / "default")
        server.engine.adopt(Policy(revision, authorizer_for(revision)))
        time.sleep(0.2)
        idle.send(Message(namespace="acme", id="2"))
        idle.send(None)
        assert [order.id for order in idle.call] == ["1", "2"]
        assert idle.call.code().name == "OK"
        assert [record["decision"] for record in server.records] == ["allow"], "looking again leaves no record"


@pytest.mark.parametrize("change", ["expiry", "policy"])
@pytest.mark.parametrize("method", [REQUESTS, BOTH])
@pytest.mark.parametrize("form", FORMS)
def test_the_next_message_ends_a_call_whose_right_has_ended(
    form: str, method: str, change: str, tmp_path: Path
) -> None:
    with serving(form, tmp_path / "server", recheck="next_message") as (server, waiting):
        ends = {"exp": int(time.time()) + 2} if change == "expiry" else {}
        idle = IdleCall(server, method, server.token(permissions=["acme:write"], **ends))
        assert waiting.reached.wait(5)
        if change == "policy":
            server.engine.adopt(without_rights(tmp_path / "bundle"))
        else:
            time.sleep(2.1)
        time.sleep(0.2)
        assert not idle.call.done(), "an idle call stays until its next message"
        idle.send(Message(namespace="acme", id="2"))
        code, _ = idle.ended()
        assert code == ("UNAUTHENTICATED" if change == "expiry" else "PERMISSION_DENIED")


def outside_every_namespace(folder: Path) -> Path:
    """The default bundle, with a catalogue in which it takes no message to decide a call."""
    shutil.copytree(POLICIES / "default", folder)
    catalogue = folder / "catalogue.yaml"
    text = catalogue.read_text()
    for method in KINDS:
        text = re.sub(rf"{method}: \w+", f"{method}: {{access: read, scope: cluster}}", text)
    catalogue.write_text(text)
    (folder / "tests.yaml").unlink()
    return folder


@pytest.mark.parametrize("change", ["expiry", "policy", "catalogue", "revocation"])
@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("form", ["sync", "aio"])
def test_a_first_message_comes_too_late_when_the_right_has_ended(
    form: str, method: str, change: str, tmp_path: Path
) -> None:
    bundle, revoked = outside_every_namespace(tmp_path / "bundle"), tmp_path / "revoked.txt"
    revoked.touch()
    authn = f"  revocations: {revoked}\n"
    with serving(form, tmp_path / "server", recheck="next_message", authn=authn, bundle=bundle) as (server, waiting):
        ends = {"exp": int(time.time()) + 2} if change == "expiry" else {}
        metadata = server.token(sub="rita", permissions=["system:read"], **ends)
        late = threading.Event()

        def messages() -> Iterator[Any]:
            late.wait(FOREVER)
            yield Message(namespace="acme", id="1")

        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            # on the wire, one message is a stream of one
            make = channel.stream_stream if method in (RESPONSES, BOTH) else channel.stream_unary
            stub = make(f"/{SERVICE}/{method}", Message.SerializeToString, pb.Order.FromString)
            call = (stub if method in (RESPONSES, BOTH) else stub.future)(messages(), metadata=metadata, timeout=10)
            until(lambda: [record["decision"] for record in server.records] == ["allow"])
            if change == "policy":
                server.engine.adopt(without_rights(tmp_path / "without"))
            elif change == "catalogue":
                # by the new one it does take the message, and the right outside every namespace is none in that one
                server.engine.adopt(without_rights(tmp_path / "without", "p, role:reader, @cluster, *, *, allow"))
            elif change == "revocation":
                revoked.write_text("subject staff rita\n")
                token = BearerToken(metadata[0][1].removeprefix("Bearer "))
                until(lambda: server.engine.refuse(Call(f"/{SERVICE}/{method}"), [token]) is not None)
            else:
                time.sleep(2.1)
            before = len(server.records)
            late.set()
            with pytest.raises(grpc.RpcError) as refused:
                list(call) if method in (RESPONSES, BOTH) else call.result()
        code = "PERMISSION_DENIED" if change in ("policy", "catalogue") else "UNAUTHENTICATED"
        assert refused.value.code().name == code
        assert not waiting.reached.is_set(), "a handler was given the message"
        assert len(server.records) == before + 1
        record = server.records[-1]
        reason = {"expiry": "token_expired", "revocation": "credential_revoked"}.get(change, "no_rule")
        assert (record["reason"], record["id"]) == (reason, dict(refused.value.trailing_metadata())["x-audit-id"])


@pytest.mark.parametrize("change", ["policy", "catalogue"])
@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("form", ["sync", "aio"])
def test_a_message_that_is_waited_for_is_decided_by_the_policy_in_force_when_it_comes(
    form: str, method: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven, late = threading.Event(), threading.Event()
    refuse_unproven = Admission.refuse_unproven

    def noted(admission: Admission) -> Any:
        proven.set()
        return refuse_unproven(admission)

    monkeypatch.setattr(Admission, "refuse_unproven", noted)

    def messages() -> Iterator[Any]:
        late.wait(FOREVER)
        yield Message(namespace="acme", id="1")

    with serving(form, tmp_path / "server", recheck="next_message") as (server, waiting):
        waiting.over.set()
        metadata = server.token(permissions=["acme:write", "system:read"])
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = channel.stream_stream(f"/{SERVICE}/{method}", Message.SerializeToString, pb.Order.FromString)
            call = stub(messages(), metadata=metadata, timeout=10)
            assert proven.wait(10)
            if change == "policy":
                server.engine.adopt(without_rights(tmp_path / "without"))
            else:
                # by the new one it would not have taken the message
                revision = load_bundle(outside_every_namespace(tmp_path / "bundle"))
                server.engine.adopt(Policy(revision, authorizer_for(revision)))
            late.set()
            if change == "policy":
                with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                    list(call)
                assert not waiting.reached.is_set()
            else:
                assert waiting.reached.wait(10), "the handler was not given the message"
        (record,) = server.records
        assert record["policy_version"] == server.engine.policy.revision.id


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail if it does not in time."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("form", ["sync", "aio"])
def test_calls_that_have_ended_are_not_looked_at_again(form: str, tmp_path: Path) -> None:
    with serving(form, tmp_path, recheck="at_once") as (server, waiting):
        waiting.over.set()
        method = RESPONSES if form == "sync" else BOTH
        for _ in range(20):
            assert server.call(method, "acme", metadata=server.token(permissions=["acme:read"]))[0] == "OK"
        before = len(server.records)
        server.engine.adopt(without_rights(tmp_path / "bundle"))
        time.sleep(0.3)
        assert len(server.records) == before
