"""The Temporal bundle, in stock Casbin: exactly the default authorizer, over the whole API, with all its namespaces."""

from __future__ import annotations

import csv
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import temporalio.api
from temporalio.api.command.v1.message_pb2 import Command
from temporalio.api.operatorservice.v1 import request_response_pb2 as operator
from temporalio.api.workflowservice.v1 import request_response_pb2 as workflow

from authz.adapters.namespaces import read_namespaces
from authz.call import Scope
from authz.decision.base import Effect
from tests.policies.stock import Stock

BUNDLE = Stock("temporal")
WORKFLOW = "/temporal.api.workflowservice.v1.WorkflowService/"
OPERATOR = "/temporal.api.operatorservice.v1.OperatorService/"
ADMIN = "/temporal.server.api.adminservice.v1.AdminService/"
OPEN = ("/grpc.health.v1.Health/Check", WORKFLOW + "GetSystemInfo")

# --- the default authorizer, by its masks ---

MASK = {"worker": 1, "reader": 2, "writer": 4, "admin": 8}
LEVEL = {"read-only": 2, "write": 4}
TABLE = {
    row["method"]: (row["scope"], row["access"])
    for row in csv.DictReader((Path(__file__).parent / "temporal_api.csv").read_text("utf-8").splitlines())
}
ROLES = tuple(chain.from_iterable(combinations(MASK, size) for size in range(5)))
METHODS = (
    *TABLE,
    *OPEN[:1],
    ADMIN + "RebuildMutableState",
    ADMIN + "NotThereYet",
    WORKFLOW + "NotThereYet",
    WORKFLOW + "startWorkflowExecution",
    OPERATOR + "NotThereYet",
    "/grpc.health.v1.Health/Watch",
    "/temporal.api.cloud.cloudservice.v1.CloudService/GetUsers",
    "/other.Service/Method",
)


def allows(method: str, namespace: str, claims: tuple[int, dict[str, int]] | None) -> bool:
    """The default authorizer: claims are the system mask and the masks by namespace, None if there are none."""
    if method in OPEN:
        return True
    if claims is None:
        return False
    system, masks = claims
    scope, access = ("cluster", "admin") if method.startswith(ADMIN) else TABLE.get(method, ("", ""))
    if scope == "cluster":
        held = system
    elif scope == "namespace":
        held = system | masks.get(namespace, 0)
    else:
        return False
    return held >= LEVEL.get(access, 8)


def mask(roles: tuple[str, ...]) -> int:
    return sum(MASK[role] for role in roles)


@pytest.mark.parametrize("system", ROLES, ids="+".join)
def test_every_method_for_every_caller(system: tuple[str, ...]) -> None:
    wrong = []
    for roles in ROLES:
        claims = mask(system), {"billing": mask(roles)}
        for namespace in ("billing", "Billing", "other", ""):
            for method in METHODS:
                expected = allows(method, namespace, claims)
                found = BUNDLE.decide(method, [namespace or None], system=system, roles={"billing": roles})
                if (found is Effect.ALLOW) is not expected:
                    wrong.append((method, namespace, roles, found))
    assert not wrong


@pytest.mark.parametrize("method", METHODS)
def test_without_claims_only_the_open_methods(method: str) -> None:
    for namespace in ("billing", ""):
        found = BUNDLE.decide(method, [namespace or None], proven=False)
        assert (found is Effect.ALLOW) is allows(method, namespace, None)


@pytest.mark.parametrize(
    ("method", "namespaces", "expected"),
    [
        ("RespondWorkflowTaskCompleted", ["billing"], Effect.ALLOW),
        ("RespondWorkflowTaskCompleted", ["billing", "other"], Effect.NO_OPINION),
        ("ExecuteMultiOperation", ["billing", "other"], Effect.NO_OPINION),
        ("DescribeNamespace", ["billing"], Effect.ALLOW),
        ("DescribeNamespace", ["billing", None], Effect.NO_OPINION),
    ],
)
def test_every_namespace_must_be_allowed(method: str, namespaces: list[str | None], expected: Effect) -> None:
    assert BUNDLE.decide(WORKFLOW + method, namespaces, roles={"billing": ["admin"]}) is expected
    assert BUNDLE.decide(WORKFLOW + method, namespaces, system=["admin"]) is Effect.ALLOW


# --- the catalogue, against the API of the installed package ---


@cache
def services() -> dict[str, Any]:
    found = {}
    for module in pkgutil.walk_packages(temporalio.api.__path__, "temporalio.api."):
        if module.name.endswith("_pb2"):
            found.update(importlib.import_module(module.name).DESCRIPTOR.services_by_name)
    return {service.full_name: service for service in found.values()}


@cache
def frontend() -> list[tuple[str, Any]]:
    """Every method of a frontend, with the descriptor of its request."""
    return [
        (name + method.name, method.input_type)
        for name in (WORKFLOW, OPERATOR)
        for method in services()[name.strip("/")].methods
    ]


TOUCHES_NOTHING = {
    # where the caller says that the call came from: kept in the history, and followed by nobody
    "temporal.api.common.v1.Link.WorkflowEvent.namespace",
    "temporal.api.common.v1.Link.Activity.namespace",
    "temporal.api.common.v1.Link.NexusOperation.namespace",
    "temporal.api.common.v1.Link.Workflow.namespace",
    "temporal.api.common.v1.Link.Callback.namespace",
    # where a child workflow had failed: kept in the history
    "temporal.api.failure.v1.ChildWorkflowExecutionFailureInfo.namespace",
    # about the namespace that the request names elsewhere
    "temporal.api.workflowservice.v1.RegisterNamespaceRequest.is_global_namespace",
    "temporal.api.workflowservice.v1.UpdateNamespaceRequest.promote_namespace",
    "temporal.api.operatorservice.v1.DeleteNamespaceRequest.namespace_delete_delay",
    # of scope cluster, for a system-wide admin alone
    "temporal.api.workflowservice.v1.ListNamespacesRequest.namespace_filter",
    "temporal.api.nexus.v1.EndpointTarget.Worker.namespace",
}
TASK_TOKENS = {  # the server itself refuses a token of another namespace
    "RespondWorkflowTaskCompleted",
    "RespondWorkflowTaskFailed",
    "RecordActivityTaskHeartbeat",
    "RespondActivityTaskCompleted",
    "RespondActivityTaskFailed",
    "RespondActivityTaskCanceled",
    "RespondQueryTaskCompleted",
    "RespondNexusTaskCompleted",
    "RespondNexusTaskFailed",
}


def fields(descriptor: Any, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every field of a message and of the messages in it, with its path; of a type within itself, once."""
    for field in descriptor.fields:
        name, kind = field.name, field.message_type
        yield name, field
        if kind is not None and kind.GetOptions().map_entry:
            name, kind = f"{name}.value", kind.fields_by_name["value"].message_type
        if kind is not None and kind.full_name not in seen:
            yield from ((f"{name}.{path}", inner) for path, inner in fields(kind, (*seen, kind.full_name)))


def test_the_services_are_those_that_were_looked_at() -> None:
    assert set(services()) == {
        WORKFLOW.strip("/"),
        OPERATOR.strip("/"),
        "temporal.api.testservice.v1.TestService",  # the time-skipping test server's
        "temporal.api.cloud.cloudservice.v1.CloudService",  # Temporal Cloud's control plane
    }


def test_the_catalogue_knows_every_method_and_no_other() -> None:
    assert {name for name, _ in frontend()} == {name for name in BUNDLE.catalogue.methods if "temporal.api." in name}
    assert set(BUNDLE.catalogue.methods) == {*TABLE, ADMIN + "*", OPEN[0]}


def test_the_catalogue_says_of_each_method_what_the_table_says() -> None:
    for method, (scope, access) in TABLE.items():
        entry = BUNDLE.catalogue.methods[method]
        assert (entry.scope, entry.access) == (scope, access.removesuffix("-only"))


@pytest.mark.parametrize(("method", "request_type"), frontend(), ids=lambda value: str(value).rpartition("/")[2])
def test_the_catalogue_knows_every_field_that_names_a_namespace(method: str, request_type: Any) -> None:
    entry = BUNDLE.catalogue.methods[method]
    known = {*entry.namespaces, *entry.opaque}
    named = {path for path, field in fields(request_type) if "namespace" in field.name.lower()}
    unknown = {
        path
        for path, field in fields(request_type)
        if "namespace" in field.name.lower() and field.full_name not in TOUCHES_NOTHING
    }
    if entry.scope is Scope.NAMESPACE:
        assert unknown - known == set()
        assert entry.namespaces[0] == "namespace"
        assert known - named <= {"id"}
    else:
        assert unknown == set()


@pytest.mark.parametrize(("method", "request_type"), frontend(), ids=lambda value: str(value).rpartition("/")[2])
def test_every_request_can_be_read(method: str, request_type: Any) -> None:
    entry = BUNDLE.catalogue.methods[method]
    kind = request_type._concrete_class
    assert read_namespaces(entry, kind()) == ((None,), None)
    if entry.scope is Scope.NAMESPACE:
        assert read_namespaces(entry, kind(namespace="billing")) == (("billing",), None)
    if any(field.name == "task_token" for field in request_type.fields):
        assert method.rpartition("/")[2] in TASK_TOKENS
        assert read_namespaces(entry, kind(task_token=b"1", namespace="billing")) == (("billing",), None)
        assert read_namespaces(entry, kind(task_token=b"1")) == ((None,), None)


def started(namespace: str) -> Any:
    return workflow.StartWorkflowExecutionRequest(namespace=namespace)


def command(kind: str, **attributes: str) -> Command:
    made = Command()
    for name, value in attributes.items():
        setattr(getattr(made, f"{kind}_command_attributes"), name, value)
    return made


Operation = workflow.ExecuteMultiOperationRequest.Operation
REQUESTS = {
    "several operations": (
        WORKFLOW + "ExecuteMultiOperation",
        workflow.ExecuteMultiOperationRequest(
            namespace="a",
            operations=[
                Operation(start_workflow=started("b")),
                Operation(update_workflow=workflow.UpdateWorkflowExecutionRequest(namespace="c")),
                Operation(start_workflow=started("")),
            ],
        ),
        ("a", "b", "c"),
    ),
    "an operation beside an empty namespace": (
        WORKFLOW + "ExecuteMultiOperation",
        workflow.ExecuteMultiOperationRequest(operations=[Operation(start_workflow=started("b"))]),
        (None, "b"),
    ),
    "commands": (
        WORKFLOW + "RespondWorkflowTaskCompleted",
        workflow.RespondWorkflowTaskCompletedRequest(
            namespace="a",
            commands=[
                command("start_timer", timer_id="1"),
                command("start_child_workflow_execution", namespace="b"),
                command("signal_external_workflow_execution", namespace="c"),
                command("request_cancel_external_workflow_execution", namespace="d"),
                command("start_child_workflow_execution", workflow_id="in its own"),
            ],
        ),
        ("a", "b", "c", "d"),
    ),
    "a namespace by id": (WORKFLOW + "DescribeNamespace", workflow.DescribeNamespaceRequest(id="1-2"), (None,)),
    "a namespace by name and id": (
        WORKFLOW + "DescribeNamespace",
        workflow.DescribeNamespaceRequest(namespace="a", id="1-2"),
        ("a", None),
    ),
    "deleting by name and id": (
        OPERATOR + "DeleteNamespace",
        operator.DeleteNamespaceRequest(namespace="a", namespace_id="1-2"),
        ("a", None),
    ),
    "search attributes of no namespace": (
        OPERATOR + "AddSearchAttributes",
        operator.AddSearchAttributesRequest(),
        (None,),
    ),
}


@pytest.mark.parametrize(("method", "request_", "expected"), REQUESTS.values(), ids=REQUESTS.keys())
def test_the_ways_around_a_naive_check(method: str, request_: Any, expected: tuple[str | None, ...]) -> None:
    assert read_namespaces(BUNDLE.catalogue.methods[method], request_) == (expected, None)
