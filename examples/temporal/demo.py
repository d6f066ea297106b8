"""`make demo-temporal`: a real Temporal server, the proxy with policies/temporal, the real SDK, and every trick.

Exit code 0 only if everything came out as it should.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from examples.processes import NotReadyError
from examples.temporal.parts import Front, proxy, temporal_binary, temporal_server
from examples.temporal.tricks import attempt, tricks
from examples.temporal.workflows import QUEUE, Order, pack


class Told:
    """What came out, and whether it should have."""

    def __init__(self) -> None:
        self.wrong = 0

    def row(self, who: str, what: str, came: str, expected: str) -> None:
        """One line of the table."""
        different = "" if came == expected else f"   DIFFERENT: expected {expected}"
        self.wrong += bool(different)
        print(f"{who:<28} {what:<46} {came}{different}", flush=True)


async def calls(front: Front, told: Told) -> str:
    """What the SDK's users do; the id of the namespace alpha."""
    writer = await front.client("alpha", front.token("walt", "alpha:write"))
    async with Worker(
        writer, task_queue=QUEUE, workflows=[Order], activities=[pack], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        handle = await writer.start_workflow(Order.run, "lamp", id="order-1", task_queue=QUEUE)
        await handle.signal(Order.add, "chair")
        told.row(
            "walt, writer in alpha", "starts a workflow, signals, queries", f"{await handle.query(Order.count)}", "2"
        )
        closed = await handle.execute_update(Order.close, "walt")
        told.row("walt, writer in alpha", "updates", closed, "closed by walt with 2 items")
        result = ", ".join(await handle.result())
        told.row(
            "walt, writer in alpha", "gets the result of heartbeating activities", result, "lamp, packed, chair, packed"
        )
    reader = await front.client("alpha", front.token("rita", "alpha:read"))
    listed = await settled(reader)
    told.row("rita, reader in alpha", "lists the workflows", f"{listed}", "1")
    told.row("rita, reader in alpha", "starts one", await started(reader), "PERMISSION_DENIED")
    stranger = await front.client("alpha", front.token("otto", "beta:admin"))
    told.row("otto, admin in beta", "starts one in alpha", await started(stranger), "PERMISSION_DENIED")
    admin = await front.client("alpha", front.token("sysop", "temporal-system:admin"))
    described = await admin.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="alpha"))
    told.row("sysop, admin everywhere", "describes alpha", described.namespace_info.name, "alpha")
    return str(described.namespace_info.id)


async def settled(client: Client) -> int:
    """How many workflows are listed, once the server's index has caught up."""
    listed = 0
    for _ in range(50):
        listed = len([execution async for execution in client.list_workflows()])
        if listed:
            break
        await asyncio.sleep(0.1)
    return listed


async def started(client: Client) -> str:
    """The code of an attempt to start a workflow."""
    try:
        await client.start_workflow(Order.run, "lamp", id="order-2", task_queue=QUEUE)
    except RPCError as error:
        return str(error.status.name)
    return "OK"


def try_tricks(front: Front, told: Told, alpha_id: str) -> None:
    """Every known way around a namespace check."""
    token = front.token("otto", "beta:write")
    with front.channel() as channel:
        for trick in tricks("beta", "alpha", alpha_id):
            code, _ = attempt(channel, trick, token)
            told.row("otto, writer in beta", f"tries: {trick.name}", code, "PERMISSION_DENIED")


def command_line(front: Front, told: Told) -> None:
    """The Temporal CLI with a token."""
    arguments = [
        temporal_binary() or "temporal", "workflow", "count", "--address", f"localhost:{front.port}", "--namespace",
        "alpha", "--tls", "--tls-ca-path", str(front.folder / "keys" / "ca.pem"), "--api-key",
    ]  # fmt: skip
    for who, permission, expected in (
        ("rita, reader in alpha", "alpha:read", "0"),
        ("otto, admin in beta", "beta:admin", "1"),
    ):
        done = subprocess.run(
            [*arguments, front.token(who[:4], permission)], capture_output=True, timeout=60, check=False
        )
        told.row(who, "runs `temporal workflow count`: exit code", f"{done.returncode}", expected)


def review(front: Front, told: Told) -> None:
    """What the audit log of the run says."""
    records = front.records
    print(f"\nThe audit log has {len(records)} decisions. By whom, and by which rule or for which reason:\n")
    by = Counter(
        (str(record["sub"] or "-"), str(record["decision"]), str(record["rule_src"] or record["reason"]))
        for record in records
    )
    for (who, decision, why), count in sorted(by.items()):
        print(f"  {count:>5}  {who:<22} {decision:<12} {why}")
    strangers = [
        record for record in records if record["sub"] == "user:corp:otto" and "alpha" in str(record["namespaces"])
    ]
    allowed = [record for record in strangers if record["decision"] == "allow"]
    print()
    told.row("the auditor", "finds calls by otto that touched alpha", f"{len(allowed)} allowed", "0 allowed")


def main() -> int:
    """Run the demo; the exit code."""
    told = Told()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        try:
            port = stack.enter_context(temporal_server(folder))
            front = stack.enter_context(proxy(folder, port))
        except NotReadyError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"Temporal listens on 127.0.0.1:{port}, the proxy with policies/temporal on 127.0.0.1:{front.port}\n")
        alpha_id = asyncio.run(calls(front, told))
        try_tricks(front, told, alpha_id)
        command_line(front, told)
        review(front, told)
    print("\nEverything came out as it should." if not told.wrong else f"\n{told.wrong} rows came out DIFFERENT.")
    return 1 if told.wrong else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # the SDK's threads may abort the interpreter while it shuts down, after everything is done
    os._exit(code)
