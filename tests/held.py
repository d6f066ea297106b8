"""Forks a server's engine while another thread holds a lock of it, once for each lock: which of them stop the child.

Run in a process of its own, with a folder to work in: ``python -m tests.held FOLDER``. Prints JSON: of each lock, by
its class, what came of the child: ``""`` if it went on as it should.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions

import authz
from authz import telemetry
from authz.adapters.ongoing import OngoingInThread
from authz.call import Call
from authz.credentials import BearerToken
from authz.engine import Engine
from authz.policy.collector import collector_put_off
from authz.reason import Reason
from authz.testing import SigningKey, TokenMinter
from examples.orders.keys import Keys
from tests.adapters.orders import POLICIES, configure

SECONDS = 10
GET, HEALTH = "/example.orders.v1.Orders/GetOrder", "/grpc.health.v1.Health/Check"
FETCHED = """
  - name: fetched
    issuer: https://idp.fetched.example
    audiences: [orders]
    algorithms: [ES256]
    keys: {jwks_url: https://127.0.0.1:9/jwks}
    principal: {claim: sub, prefix: "fetched:"}

  mtls:"""
OTHER = TokenMinter("https://idp.fetched.example", "orders", key=SigningKey.shared("ES256", "other"))


def engine(folder: Path, durability: str) -> tuple[Engine, Keys]:
    """An engine with all that has locks; its policy has a rule that ended."""
    folder.mkdir()
    path, keys = configure(folder)
    bundle = shutil.copytree(POLICIES / "default", folder / "bundle")
    model = (bundle / "model.conf").read_text().replace(", eft\n", ", eft, until\n")
    (bundle / "model.conf").write_text(model.rstrip() + " && validUntil(p.until)\n")
    rules = (bundle / "policy.csv").read_text().splitlines()
    rules = [f"{rule}, never" if rule.startswith("p,") else rule for rule in rules]
    ended = "p, role:reader, *, *, write, allow, 2020-01-01T00:00:00Z"
    (bundle / "policy.csv").write_text("\n".join([*rules, ended, ""]))
    text = path.read_text().replace(str(POLICIES / "default"), "bundle").replace("\n  mtls:", FETCHED)
    audit = f"""  directory: audit
  durability: {durability}
  allows: [{{methods: ["{HEALTH}"], record: sampled, one_in: 10}}]
  mirrors: [{{to: file, file: mirror.jsonl}}]
"""
    text = text.replace("  file: audit.jsonl\n", audit)
    text = text.replace("authn:\n", "telemetry: {}\nauthn:\n  startup: 0s\n  failure_limit: {}\n")
    path.write_text(text)
    return authz.load_config(path), keys


def go_on(made: list[tuple[Engine, Keys]], ongoing: OngoingInThread, number: int) -> None:
    """What a server does with each call, for callers and namespaces not seen before; and its end."""
    for each, keys in made:
        for turn in range(3):
            token = BearerToken(keys.ec.mint(sub=f"new-{number}-{turn}", permissions=["acme:read"]))
            assert each.check(Call(GET, ("acme",)), [token])
            assert not each.check(Call(GET, (f"other-{number}",)), [token])
        assert each.check(Call(HEALTH, ()))
        peer = "ipv4:192.0.2.1:1"
        assert each.check(Call(GET, ("acme",), peer=peer), [BearerToken("x.y.z")]).reason is Reason.TOKEN_MALFORMED
        unknown = each.check(Call(GET, ("acme",)), [BearerToken(OTHER.mint())])
        assert unknown.reason is Reason.KEYS_UNAVAILABLE
        list(telemetry._instruments(metrics.get_meter_provider())._stored(CallbackOptions()))
        each.close()
    ongoing.enter(object(), print)  # type: ignore[arg-type]
    telemetry.Telemetry()
    with collector_put_off():
        pass


def locks() -> dict[str, list[Any]]:
    """The locks of all objects and modules of the package, by class and attribute."""
    found: dict[str, list[Any]] = defaultdict(list)
    for each in gc.get_objects():
        kind = type(each)
        if isinstance(each, type) or not str(kind.__module__).startswith("authz."):
            continue
        names = {*getattr(each, "__dict__", ()), *(n for k in kind.__mro__ for n in getattr(k, "__slots__", ()))}
        for name in names:
            _collect(found, f"{kind.__module__}.{kind.__qualname__}.{name}", getattr(each, name, None))
    for module, content in list(sys.modules.items()):
        if module.startswith("authz."):
            for name, value in vars(content).items():
                _collect(found, f"{module}.{name}", value)
    return found


def _collect(found: dict[str, list[Any]], name: str, value: object) -> None:
    if isinstance(value, threading.Event):
        value = value._cond  # type: ignore[attr-defined]
    if isinstance(value, type(threading.Lock()) | threading.Condition):
        found[name].append(value)


def fork_while_held(held: list[Any], made: list[tuple[Engine, Keys]], ongoing: OngoingInThread, number: int) -> str:
    """What came of a child that was forked while another thread held all of these locks."""
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in held:
            lock.acquire()
        holding.set()
        release.wait()
        for lock in held:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        try:
            go_on(made, ongoing, number)
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    release.set()
    holder.join()
    return "it hung" if status == -signal.SIGALRM else f"it ended with {status}" if status else ""


def main() -> None:
    """See above."""
    folder = Path(sys.argv[1])
    made = [engine(folder / durability, durability) for durability in ("synced", "best_effort")]
    ongoing = OngoingInThread(1.0)
    found = locks()
    outcome = {
        name: fork_while_held(held, made, ongoing, number) for number, (name, held) in enumerate(sorted(found.items()))
    }
    print(json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
