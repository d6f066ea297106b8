"""A real Temporal server, the proxy and the real SDK: who is let in, and that no trick of the API leads around it."""

from __future__ import annotations

import subprocess
import uuid

import grpc
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeNamespaceResponse, ListNamespacesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from examples.temporal.parts import Front, temporal_binary
from examples.temporal.tricks import Trick, attempt, tricks
from examples.temporal.workflows import QUEUE, Order, pack


def worker(client: Client) -> Worker:
    return Worker(
        client, task_queue=QUEUE, workflows=[Order], activities=[pack], workflow_runner=UnsandboxedWorkflowRunner()
    )


async def test_a_writer_runs_a_workflow_with_a_signal_a_query_an_update_and_heartbeats(front: Front) -> None:
    client = await front.client("alpha", front.token("walt", "alpha:write"))
    async with worker(client):
        handle = await client.start_workflow(Order.run, "lamp", id=f"order-{uuid.uuid4()}", task_queue=QUEUE)
        await handle.signal(Order.add, "chair")
        assert await handle.query(Order.count) == 2
        assert await handle.execute_update(Order.close, "walt") == "closed by walt with 2 items"
        assert await handle.result() == ["lamp, packed", "chair, packed"]
    called = {str(record["method"]).rpartition("/")[2] for record in front.records if record["decision"] == "allow"}
    assert called >= {
        "StartWorkflowExecution", "SignalWorkflowExecution", "QueryWorkflow", "UpdateWorkflowExecution",
        "RecordActivityTaskHeartbeat", "RespondWorkflowTaskCompleted", "RespondActivityTaskCompleted",
        "PollWorkflowTaskQueue", "PollActivityTaskQueue", "GetWorkflowExecutionHistory",
    }  # fmt: skip


async def test_a_reader_lists_and_does_not_start(front: Front) -> None:
    client = await front.client("alpha", front.token("rita", "alpha:read"))
    assert isinstance([execution async for execution in client.list_workflows()], list)
    with pytest.raises(RPCError) as caught:
        await client.start_workflow(Order.run, "lamp", id="not-started", task_queue=QUEUE)
    assert caught.value.status is RPCStatusCode.PERMISSION_DENIED
    assert front.records[-1]["reason"] == "no_rule"


@pytest.mark.parametrize("permissions", [["beta:admin"], ["beta:write"], ["alpha:worker"], []])
async def test_who_has_no_role_in_alpha_is_refused_there(front: Front, permissions: list[str]) -> None:
    client = await front.client("alpha", front.token("otto", *permissions))
    with pytest.raises(RPCError) as caught:
        await client.start_workflow(Order.run, "lamp", id="not-started", task_queue=QUEUE)
    assert caught.value.status is RPCStatusCode.PERMISSION_DENIED
    with pytest.raises(RPCError) as caught:
        [execution async for execution in client.list_workflows()]
    assert caught.value.status is RPCStatusCode.PERMISSION_DENIED


async def test_a_forged_token_is_unauthenticated(front: Front) -> None:
    # not even GetSystemInfo, which is open to who shows nothing: a bad credential never becomes anonymous
    with pytest.raises(RuntimeError, match="Unauthenticated"):
        await front.client("alpha", front.token("walt", "alpha:write")[:-6] + "AAAAAA")
    assert front.records[-1]["reason"] == "token_signature_wrong"


async def test_a_system_reader_lists_namespaces_and_a_namespace_admin_does_not(front: Front) -> None:
    client = await front.client("alpha", front.token("ada", "temporal-system:read"))
    listed = await client.workflow_service.list_namespaces(ListNamespacesRequest())
    assert {"alpha", "beta"} <= {one.namespace_info.name for one in listed.namespaces}
    client = await front.client("alpha", front.token("ada", "alpha:admin"))
    with pytest.raises(RPCError) as caught:
        await client.workflow_service.list_namespaces(ListNamespacesRequest())
    assert caught.value.status is RPCStatusCode.PERMISSION_DENIED


def namespace_id(temporal_port: int, name: str) -> str:
    method = "/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace"
    with grpc.insecure_channel(f"127.0.0.1:{temporal_port}") as channel:
        ask = channel.unary_unary(
            method, DescribeNamespaceRequest.SerializeToString, DescribeNamespaceResponse.FromString
        )
        return str(ask(DescribeNamespaceRequest(namespace=name), timeout=10).namespace_info.id)


@pytest.mark.parametrize("trick", tricks("beta", "alpha", "0"), ids=lambda trick: trick.name)
def test_no_trick_leads_around_the_namespace(front: Front, temporal_port: int, trick: Trick) -> None:
    known = {one.name: one for one in tricks("beta", "alpha", namespace_id(temporal_port, "alpha"))}
    with front.channel() as channel:
        code, audit_id = attempt(channel, known[trick.name], front.token("otto", "beta:write"))
    assert code == "PERMISSION_DENIED"
    record = next(record for record in front.records if record["id"] == audit_id)
    assert record["reason"] == trick.reason
    assert record["sub"] == "user:corp:otto"


@pytest.mark.parametrize("trick", ["by id", "just ask", "the namespace twice on the wire"])
def test_the_tricks_would_work_without_the_proxy(temporal_port: int, trick: str) -> None:
    known = {one.name: one for one in tricks("beta", "alpha", namespace_id(temporal_port, "alpha"))}
    with grpc.insecure_channel(f"127.0.0.1:{temporal_port}") as channel:
        code, _ = attempt(channel, known[trick], "x")
    assert code in ("OK", "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("permissions", "expected"), [("alpha:read", 0), ("beta:admin", 1)], ids=["a reader", "somebody else"]
)
def test_the_command_line_of_temporal_works_with_an_allowed_token(
    front: Front, permissions: str, expected: int
) -> None:
    binary = temporal_binary()
    assert binary is not None
    done = subprocess.run(
        [binary, "workflow", "list", "--address", f"localhost:{front.port}", "--namespace", "alpha",
         "--api-key", front.token("rita", permissions), "--tls", "--tls-ca-path", str(front.folder / "keys" / "ca.pem"),
         "--output", "json"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    if expected:
        assert "not allowed" in done.stderr


def test_the_records_of_the_run_say_who_did_what_by_which_rule(front: Front) -> None:
    for record in front.records:
        if record["decision"] == "allow":
            assert str(record["rule_src"]).partition(":")[0].endswith("policies/temporal/policy.csv")
        assert "eyJ" not in str(record)
