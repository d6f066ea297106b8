"""The demo: a real server (sync and asyncio), a dozen callers over real TLS, one table.

Exit code 0 only if every row came out, on both servers, as `callers.py` says it should.
"""

from __future__ import annotations

import asyncio
import json
import os.path
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import authz
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.callers import ATTEMPTS, Attempt, Caller, callers
from examples.orders.keys import Keys, make_keys
from examples.orders.server import CONFIG, KEYS, async_server, sync_server, tls
from examples.orders.store import OrderStore

AUDIT_LOG = CONFIG.parent / "audit.jsonl"
SEED = {"acme": 3, "globex": 2, "billing-eu": 1, "frozen-acme": 1, "scratch": 1}
COLUMNS = ("caller", "shown", "method", "namespace", "code", "decision", "decided by")


@dataclass(frozen=True)
class Ports:
    """Where a server listens: for tokens, and for certificates."""

    tls: int
    mtls: int


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt on one server: the code, and the audit record of the decision that ended it."""

    code: str
    record: dict[str, Any]

    @property
    def decided_by(self) -> str:
        """The rule's file and line, or the reason if no rule decided."""
        return str(self.record["rule_src"] or self.record["reason"])

    @property
    def because(self) -> str:
        """The rule as written, or the reason if no rule decided."""
        return str(self.record["rule"] or self.record["reason"])


def seeded() -> OrderStore:
    """A store with some orders in it."""
    store = OrderStore()
    for namespace, count in SEED.items():
        for number in range(count):
            store.add(namespace, f"item {number + 1}", placed_by="the demo")
    return store


@contextmanager
def serving_sync(engine: authz.Engine) -> Iterator[Ports]:
    """The sync server, while the block runs."""
    server = sync_server(engine, seeded())
    ports = Ports(
        server.add_secure_port("127.0.0.1:0", tls(KEYS, client_certificates=False)),
        server.add_secure_port("127.0.0.1:0", tls(KEYS, client_certificates=True)),
    )
    server.start()
    yield ports
    server.stop(None).wait()


@contextmanager
def serving_async(engine: authz.Engine) -> Iterator[Ports]:
    """The asyncio server, in a thread of its own, while the block runs."""
    started, stop = threading.Event(), threading.Event()
    ports: list[Ports] = []

    async def serve() -> None:
        server = async_server(engine, seeded())
        ports.append(
            Ports(
                server.add_secure_port("127.0.0.1:0", tls(KEYS, client_certificates=False)),
                server.add_secure_port("127.0.0.1:0", tls(KEYS, client_certificates=True)),
            )
        )
        await server.start()
        started.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    started.wait(30)
    yield ports[0]
    stop.set()
    thread.join()


def requests(attempt: Attempt) -> tuple[str, Any]:
    """The kind of the method, and its request message (or messages)."""
    first, _, second = attempt.namespace.partition(", then ")
    kinds: dict[str, tuple[str, Callable[[str], Any]]] = {
        "GetOrder": ("unary", lambda ns: pb.GetOrderRequest(namespace=ns, id="1")),
        "CreateOrder": ("unary", lambda ns: pb.CreateOrderRequest(namespace=ns, item="a lamp")),
        "CancelOrder": ("unary", lambda ns: pb.CancelOrderRequest(namespace=ns, id="1")),
        "ListOrders": ("responses", lambda ns: pb.ListOrdersRequest(namespace=ns)),
        "ImportOrders": ("requests", lambda ns: pb.ImportOrdersRequest(namespace=ns, item="a chair")),
        "TrackOrders": ("both", lambda ns: pb.TrackOrdersRequest(namespace=ns, id="1")),
        "PurgeNamespace": ("unary", lambda ns: pb.PurgeNamespaceRequest(namespace=ns)),
        "ListNamespaces": ("unary", lambda ns: pb.ListNamespacesRequest()),
        "Check": ("unary", lambda ns: health_pb2.HealthCheckRequest()),
    }
    kind, make = kinds[attempt.method]
    return kind, [make(ns) for ns in filter(None, (first, second))] if kind in ("requests", "both") else make(first)


def call(ports: Ports, keys: Keys, caller: Caller, attempt: Attempt) -> tuple[str, str]:
    """Make one call; its code, and the audit id that the server sent with it."""
    certificate = caller.certificate
    credentials = grpc.ssl_channel_credentials(
        keys.server_ca,
        certificate.key if certificate else None,
        certificate.certificate if certificate else None,
    )
    address = f"localhost:{ports.mtls if certificate else ports.tls}"
    metadata = [("authorization", f"Bearer {caller.token}")] if caller.token else []
    kind, request = requests(attempt)
    with grpc.secure_channel(address, credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel) if attempt.method == "Check" else rpc.OrdersStub(channel)
        method = getattr(stub, attempt.method)
        try:
            if kind in ("responses", "both"):
                reply = method(iter(request) if kind == "both" else request, metadata=metadata, timeout=20)
                list(reply)
            else:
                argument = iter(request) if kind == "requests" else request
                _, reply = method.with_call(argument, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            reply = error
        trailers = dict(reply.trailing_metadata() or ())
        return reply.code().name, str(trailers.get("x-audit-id", ""))


def outcome(ports: Ports, keys: Keys, caller: Caller, attempt: Attempt) -> Outcome:
    """Make one call, and find the record of its decision."""
    code, audit_id = call(ports, keys, caller, attempt)
    # a stream is decided more than once; the refusal of a later message carries an id of its own
    records = (json.loads(line) for line in AUDIT_LOG.read_text().splitlines())
    missing: dict[str, Any] = {"rule": None, "rule_src": None, "reason": "not recorded", "decision": "?"}
    return Outcome(code, next((record for record in records if record["id"] == audit_id), missing))


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of equal columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> int:
    """Run the demo; the exit code."""
    keys = make_keys(KEYS)
    AUDIT_LOG.unlink(missing_ok=True)
    everybody = callers(keys)
    rows: list[tuple[str, ...]] = [COLUMNS]
    wrong: list[str] = []
    shown: list[dict[str, Any]] = []
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(authz.load_config(CONFIG))
        except authz.FileError as error:
            print(error, file=sys.stderr)
            return 1
        servers = {
            "grpc.server": stack.enter_context(serving_sync(engine)),
            "grpc.aio.server": stack.enter_context(serving_async(engine)),
        }
        for attempt in ATTEMPTS:
            caller = everybody[attempt.caller]
            outcomes = {name: outcome(ports, keys, caller, attempt) for name, ports in servers.items()}
            result = outcomes["grpc.server"]
            shown.append(result.record)
            rows.append(
                (caller.name, caller.shown, attempt.method, attempt.namespace or "-", result.code,
                 result.record["decision"], result.decided_by)
            )  # fmt: skip
            wrong += [
                f"{caller.name}: {attempt.method} in {attempt.namespace or '-'} on {name} came out as "
                f"{each.code} by `{each.because}`; the demo expects {attempt.code} by `{attempt.because}`"
                for name, each in outcomes.items()
                if (each.code, each.because) != (attempt.code, attempt.because)
            ]
    print(table(rows))
    print(f"\nEach row was called on {' and on '.join(servers)}, over TLS, and came out the same unless said below.")
    print(f"\nThe audit records of these calls (the first server's; all of them are in {AUDIT_LOG}):\n")
    for record in shown:
        print(json.dumps({name: value for name, value in record.items() if value not in (None, "", [], False)}))
    policy = os.path.normpath(CONFIG.parent / "../../policies/default/policy.csv")
    print(f"\nTo see a policy at work: open {policy}, change\n\n    p, role:worker, *, api:work, *, allow\n\nto\n")
    print("    p, role:worker, *, api:work, *, deny\n\nand run `make demo` again: it names each row that changed.")
    for line in wrong:
        print(f"\nDIFFERENT  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
