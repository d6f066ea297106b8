"""Every way around a naive namespace check that is known of Temporal's API, as requests of a writer in beta for alpha.

All of them must be refused by the proxy: the server behind would do what they ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from temporalio.api.command.v1 import message_pb2 as command
from temporalio.api.enums.v1 import command_type_pb2 as kinds
from temporalio.api.operatorservice.v1 import request_response_pb2 as operator
from temporalio.api.workflowservice.v1 import request_response_pb2 as api

WORKFLOW = "/temporal.api.workflowservice.v1.WorkflowService/"
OPERATOR = "/temporal.api.operatorservice.v1.OperatorService/"
ADMIN = "/temporal.server.api.adminservice.v1.AdminService/"


@dataclass(frozen=True)
class Trick:
    """One request.

    Attributes:
        name: what it tries.
        method: full method.
        request: its bytes.
        reason: the reason in the audit log.
        compressed: whether it is sent with gzip.
    """

    name: str
    method: str
    request: bytes
    reason: str = "no_rule"
    compressed: bool = False


def tricks(mine: str, theirs: str, their_id: str) -> list[Trick]:
    """What a writer in ``mine`` tries against the namespace ``theirs``, whose id is ``their_id``."""
    start = api.StartWorkflowExecutionRequest(namespace=theirs, workflow_id="w")
    own_start = api.StartWorkflowExecutionRequest(namespace=mine, workflow_id="w")

    def completed(**attributes: Any) -> bytes:
        ((name, value),) = attributes.items()
        request = api.RespondWorkflowTaskCompletedRequest(namespace=mine, task_token=b"t")
        request.commands.append(
            command.Command(command_type=kinds.COMMAND_TYPE_UNSPECIFIED, **{f"{name}_command_attributes": value})
        )
        return bytes(request.SerializeToString())

    multi = api.ExecuteMultiOperationRequest(namespace=mine)
    multi.operations.add().start_workflow.CopyFrom(start)
    second = api.ExecuteMultiOperationRequest(namespace=mine)
    second.operations.add().start_workflow.CopyFrom(own_start)
    second.operations.add().update_workflow.namespace = theirs
    endpoint = operator.CreateNexusEndpointRequest()
    endpoint.spec.name = "e"
    endpoint.spec.target.worker.namespace = theirs
    changed = operator.UpdateNexusEndpointRequest(id="1", version=1)
    changed.spec.target.worker.namespace = theirs

    def field(text: str) -> bytes:
        return b"\x0a" + bytes([len(text)]) + text.encode()

    return [
        Trick("just ask", f"{WORKFLOW}StartWorkflowExecution", start.SerializeToString()),
        Trick("just ask, compressed", f"{WORKFLOW}StartWorkflowExecution", start.SerializeToString(), compressed=True),
        Trick("by id", f"{WORKFLOW}DescribeNamespace", api.DescribeNamespaceRequest(id=their_id).SerializeToString()),
        Trick("by name and by id", f"{WORKFLOW}DescribeNamespace",
              api.DescribeNamespaceRequest(namespace=mine, id=their_id).SerializeToString()),
        Trick("delete by id", f"{OPERATOR}DeleteNamespace",
              operator.DeleteNamespaceRequest(namespace_id=their_id).SerializeToString()),
        Trick("delete by name and by id", f"{OPERATOR}DeleteNamespace",
              operator.DeleteNamespaceRequest(namespace=mine, namespace_id=their_id).SerializeToString()),
        Trick("nested in a multi-operation", f"{WORKFLOW}ExecuteMultiOperation", multi.SerializeToString()),
        Trick("nested in its second operation", f"{WORKFLOW}ExecuteMultiOperation", second.SerializeToString()),
        Trick("a new nexus endpoint", f"{OPERATOR}CreateNexusEndpoint", endpoint.SerializeToString()),
        Trick("a changed nexus endpoint", f"{OPERATOR}UpdateNexusEndpoint", changed.SerializeToString()),
        Trick("a command that signals elsewhere", f"{WORKFLOW}RespondWorkflowTaskCompleted",
              completed(signal_external_workflow_execution=command.SignalExternalWorkflowExecutionCommandAttributes(
                  namespace=theirs))),
        Trick("a command that cancels elsewhere", f"{WORKFLOW}RespondWorkflowTaskCompleted",
              completed(
                  request_cancel_external_workflow_execution=(
                      command.RequestCancelExternalWorkflowExecutionCommandAttributes(namespace=theirs)))),
        Trick("a command that starts a child elsewhere", f"{WORKFLOW}RespondWorkflowTaskCompleted",
              completed(start_child_workflow_execution=command.StartChildWorkflowExecutionCommandAttributes(
                  namespace=theirs))),
        Trick("a task token, and no namespace", f"{WORKFLOW}RespondActivityTaskCompleted",
              api.RespondActivityTaskCompletedRequest(task_token=b"t").SerializeToString()),
        Trick("the namespace twice on the wire", f"{WORKFLOW}ListWorkflowExecutions", field(mine) + field(theirs)),
        Trick("the namespace twice, compressed", f"{WORKFLOW}ListWorkflowExecutions", field(mine) + field(theirs),
              compressed=True),
        Trick("in another case", f"{WORKFLOW}ListWorkflowExecutions", field(mine.upper())),
        Trick("with a line feed", f"{WORKFLOW}ListWorkflowExecutions", field(f"{mine}\n"), "namespace_malformed"),
        Trick("a pattern", f"{WORKFLOW}ListWorkflowExecutions", field("*"), "namespace_malformed"),
        Trick("no namespace", f"{WORKFLOW}ListWorkflowExecutions", b""),
        Trick("no message at all", f"{WORKFLOW}ListWorkflowExecutions", b"\x0a\xff\xff", "namespace_unreadable"),
        Trick("text that is not UTF-8", f"{WORKFLOW}ListWorkflowExecutions", b"\x0a\x02\xff\xfe",
              "namespace_unreadable"),
        Trick("an operator's method", f"{OPERATOR}ListNexusEndpoints", b""),
        Trick("the admin service", f"{ADMIN}DescribeCluster", b""),
        Trick("the admin service's stream", f"{ADMIN}StreamWorkflowReplicationMessages", b""),
        Trick("a method of another case", f"{WORKFLOW}listworkflowexecutions", field(mine), "method_unknown"),
        Trick("server reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", "method_unknown"),
        Trick("a health watch", "/grpc.health.v1.Health/Watch", b"", "method_unknown"),
    ]  # fmt: skip


def attempt(channel: grpc.Channel, trick: Trick, token: str) -> tuple[str, str]:
    """Try it: the code, and the audit id."""
    ask = channel.stream_stream(trick.method)
    metadata = [("authorization", f"Bearer {token}"), ("x-authz-principal", "user:corp:root")]
    compression = grpc.Compression.Gzip if trick.compressed else grpc.Compression.NoCompression
    reply = ask(iter([trick.request]), metadata=metadata, timeout=20, compression=compression)
    try:
        list(reply)
    except grpc.RpcError as error:
        reply = error
    return reply.code().name, str(dict(reply.trailing_metadata() or ()).get("x-audit-id", ""))
