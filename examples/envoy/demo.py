"""`make demo-envoy`: a real Envoy that asks `authz serve ext-authz`, before a gRPC server and a plain HTTP API.

Exit code 0 only if everything came out as it should.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from authz.testing import IssuedCertificate
from examples.envoy.parts import (
    HERE,
    ROOT,
    at_ports,
    authorizer,
    envoy,
    grpc_server,
    http_api,
    write_authorizer,
    write_descriptors,
)
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.callers import Caller, callers
from examples.orders.keys import Keys, make_keys
from examples.processes import NotReadyError, free_port

SHOWN = ("id", "decision", "reason", "sub", "namespaces", "method", "rule")
COLUMNS = ("caller", "shown", "request", "answer", "the server behind is told", "decided by")


@dataclass(frozen=True)
class Attempt:
    """One request, and what must come of it.

    Attributes:
        caller: by the short name of `examples/orders/callers.py`.
        what: a gRPC method, or the verb of plain HTTP.
        where: the namespace, or the path.
        answer: the gRPC code, or the HTTP status.
        told: who the caller is, as the server behind hears it; empty: it hears nothing at all.
        compressed: whether the client sends gzip.
        metadata: that the client adds.
    """

    caller: str
    what: str
    where: str
    answer: str
    told: str = ""
    compressed: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


RITA, WALT, PACKER = "user:staff:rita", "user:staff:walt", "user:spiffe:spiffe://orders.example/ns/acme/sa/worker"
DENIED, NOBODY = "PERMISSION_DENIED", "UNAUTHENTICATED"
FORGED = (("x-authz-principal", "user:staff:root"),)
ATTEMPTS = [
    Attempt("rita", "GetOrder", "acme", "OK", RITA),
    Attempt("rita", "GetOrder", "acme", "OK", RITA, metadata=FORGED),
    Attempt("rita", "GetOrder", "globex", DENIED),
    Attempt("rita", "GetOrder", "globex", DENIED, compressed=True),
    Attempt("rita", "ListOrders", "acme", "OK", RITA),
    Attempt("rita", "CreateOrder", "acme", DENIED),
    Attempt("walt", "CreateOrder", "acme", "OK", WALT),
    Attempt("otto", "GetOrder", "acme", DENIED),
    Attempt("mallory", "GetOrder", "acme", DENIED),
    Attempt("packer", "TrackOrders", "globex", DENIED),
    Attempt("expired", "GetOrder", "acme", NOBODY),
    Attempt("nobody", "GetOrder", "acme", NOBODY),
    Attempt("rita", "GET", "/v1/acme/orders/7", "200", RITA),
    Attempt("rita", "GET", "/v1/globex/orders/7", "403"),
    Attempt("rita", "GET", "/v1/acme/../globex/orders/7", "403"),
    Attempt("rita", "POST", "/v1/acme/orders", "403"),
    Attempt("walt", "POST", "/v1/acme/orders", "200", WALT),
    Attempt("nobody", "GET", "/v1/acme/orders/7", "401"),
]
AFTERWARDS = Attempt("rita", "GetOrder", "acme", "UNAVAILABLE")


@dataclass(frozen=True)
class Edge:
    """The port of Envoy, and what its callers need."""

    port: int
    keys: Keys
    log: Path

    def grpc(self, caller: Caller, attempt: Attempt) -> tuple[str, str]:
        """(Code, who the server behind was told of) of a gRPC call."""
        shown: IssuedCertificate | None = caller.certificate
        credentials = grpc.ssl_channel_credentials(
            self.keys.server_ca, shown.key if shown else None, shown.certificate if shown else None
        )
        compression = grpc.Compression.Gzip if attempt.compressed else None
        metadata = [*attempt.metadata, *([("authorization", f"Bearer {caller.token}")] if caller.token else [])]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, compression=compression) as channel:
            stub = rpc.OrdersStub(channel)
            calls: dict[str, Callable[..., Any]] = {
                "GetOrder": lambda: stub.GetOrder(
                    pb.GetOrderRequest(namespace=attempt.where, id="7"), metadata=metadata, timeout=20
                ),
                "CreateOrder": lambda: stub.CreateOrder(
                    pb.CreateOrderRequest(namespace=attempt.where, item="a lamp"), metadata=metadata, timeout=20
                ),
                "ListOrders": lambda: list(
                    stub.ListOrders(pb.ListOrdersRequest(namespace=attempt.where), metadata=metadata, timeout=20)
                )[-1],
                "TrackOrders": lambda: list(
                    stub.TrackOrders(
                        iter([pb.TrackOrdersRequest(namespace=attempt.where, id="7")]), metadata=metadata, timeout=20
                    )
                )[-1],
            }
            try:
                return "OK", str(calls[attempt.what]().placed_by)
            except grpc.RpcError as error:
                return str(error.code().name), ""

    def http(self, caller: Caller, attempt: Attempt) -> tuple[str, str]:
        """(Status, who the server behind was told of) of a plain HTTP request."""
        context = ssl.create_default_context(cadata=self.keys.server_ca.decode())
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=20)
        headers = {"authorization": f"Bearer {caller.token}"} if caller.token else {}
        try:
            connection.request(attempt.what, attempt.where, b"", {**headers, **dict(attempt.metadata)})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        return str(answer.status), json.loads(body)["caller"] if answer.status == 200 else ""

    @property
    def records(self) -> list[dict[str, Any]]:
        """The decisions so far."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [record for record in lines if record["event"] == "decision"]


class Table:
    """What came out, and whether it should have."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._callers = callers(edge.keys)
        self._rows: list[tuple[str, ...]] = [COLUMNS]
        self.wrong: list[str] = []

    def attempt(self, attempt: Attempt) -> None:
        """Make one request."""
        caller = self._callers[attempt.caller]
        before = len(self._edge.records)
        ask = self._edge.http if attempt.where.startswith("/") else self._edge.grpc
        answer, told = ask(caller, attempt)
        added = ", gzip" if attempt.compressed else ", with a forged identity" if attempt.metadata else ""
        what = f"{attempt.what} {attempt.where}{added}"
        records = self._edge.records[before:]
        decided = str(records[-1]["rule_src"] or records[-1]["reason"]) if records else "nobody: Envoy"
        decided = decided.removeprefix(f"{ROOT}/")
        self._rows.append((caller.name, caller.shown, what, answer, told or "-", decided))
        if (answer, told) != (attempt.answer, attempt.told):
            expected = f"{attempt.answer} for {attempt.told or 'nobody'}"
            self.wrong.append(f"{caller.name}: {what} came out as {answer} for {told or 'nobody'}, not {expected}")

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in self._rows) for column in range(len(COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in self._rows
        )


def sound(log: Path) -> bool:
    """Verify the audit log as an auditor does: whether it is whole. No key of the example signs it, which is noted."""
    command = [sys.executable, "-m", "authz", "audit", "verify", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    print(f"\n$ authz audit verify {log.name}\n{done.stdout.strip() or done.stderr.strip()}")
    return done.returncode in (0, 5)


def main() -> int:
    """Run the demo; the exit code."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        keys = make_keys(folder / "keys")
        write_descriptors(folder / "orders.binpb")
        orders, api = stack.enter_context(grpc_server()), stack.enter_context(http_api([]))
        edge, asked = Edge(free_port(), keys, folder / "audit.jsonl"), free_port()
        config = write_authorizer(folder, asked)
        shipped = (HERE / "envoy.yaml").read_text()
        try:
            with authorizer(config, asked):
                text = at_ports(shipped, edge=edge.port, asked=asked, orders=orders, http_api=api)
                stack.enter_context(envoy(folder, text, edge.port))
                table = Table(edge)
                for attempt in ATTEMPTS:
                    table.attempt(attempt)
        except NotReadyError as error:
            print(error, file=sys.stderr)
            return 1
        table.attempt(AFTERWARDS)
        print(table)
        print("\nBefore the last row the authorizer was stopped: while nobody decides, nobody gets in.")
        records = edge.records
        print(f"\nThe audit log has {len(records)} decisions, one for each time that Envoy asked. The first ones:\n")
        for record in records[:4]:
            print(json.dumps({key: record[key] for key in SHOWN}))
        whole = sound(edge.log)
    for line in table.wrong:
        print(f"\nDIFFERENT  {line}")
    if table.wrong or not whole:
        return 1
    print("\nEverything came out as it should.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
