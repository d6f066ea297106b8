"""What a user of the SDK does: each operation gives what can be compared, whatever ids and times it came with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetClusterInfoRequest,
    GetSystemInfoRequest,
    ListNamespacesRequest,
    ListTaskQueuePartitionsRequest,
    PollWorkflowExecutionUpdateRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    WithStartWorkflowOperation,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from examples.temporal.workflows import QUEUE, Order

Operation = Callable[[Client, str], Awaitable[Any]]
OPERATIONS: dict[str, Operation] = {}
UNSERVED = "nobody-polls-this"


def operation(function: Operation) -> Operation:
    OPERATIONS[getattr(function, "__name__", "")] = function
    return function


async def started(
    client: Client, name: str, queue: str = UNSERVED, first: str = "lamp", **options: Any
) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(Order.run, first, id=name, task_queue=queue, **options)


async def failure(work: Awaitable[Any]) -> Any:
    """What an operation fails with: the kinds and texts of the error and of its causes."""
    try:
        return ("no failure", await work)
    except Exception as error:
        chain: list[Any] = []
        cause: BaseException | None = error
        while cause is not None:
            status = (
                (cause.status.name, sorted(map(type, cause.grpc_status.details), key=str))
                if isinstance(cause, RPCError)
                else ()
            )
            chain.append((type(cause).__name__, str(cause), str(status)))
            cause = cause.__cause__
        return chain


@operation
async def start_and_describe(client: Client, name: str) -> Any:
    described = await (await started(client, name)).describe()
    return described.id, described.status, described.workflow_type, described.task_queue


@operation
async def start_twice(client: Client, name: str) -> Any:
    await started(client, name)
    return await failure(started(client, name))


@operation
async def start_with_memo(client: Client, name: str) -> Any:
    handle = await started(client, name, memo={"note": "ünïcode", "number": 7})
    return await (await handle.describe()).memo()


@operation
async def start_later(client: Client, name: str) -> Any:
    handle = await started(client, name, start_delay=timedelta(hours=1))
    return (await handle.describe()).status


@operation
async def start_with_conflict_policy(client: Client, name: str) -> Any:
    one = await started(client, name)
    two = await started(client, name, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING)
    return one.first_execution_run_id == two.first_execution_run_id


@operation
async def signal_query_update_result(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    await handle.signal(Order.add, "chair")
    counted = await handle.query(Order.count)
    return counted, await handle.execute_update(Order.close, "me"), await handle.result()


@operation
async def an_update_that_is_rejected(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    found = await failure(handle.execute_update(Order.close, ""))
    await handle.terminate()
    return found


@operation
async def an_update_that_is_unknown(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    found = await failure(handle.execute_update("nothing"))
    await handle.terminate()
    return found


@operation
async def a_query_that_is_unknown(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    found = await failure(handle.query("nothing"))
    await handle.terminate()
    return found


@operation
async def an_activity_that_fails(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE, "broken")
    await handle.execute_update(Order.close, "me")
    return await failure(handle.result())


@operation
async def signal_with_start(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE, start_signal="add", start_signal_args=["chair"])
    counted = await handle.query(Order.count)
    await handle.terminate()
    return counted


@operation
async def update_with_start(client: Client, name: str) -> Any:
    begin = WithStartWorkflowOperation(
        Order.run, "lamp", id=name, task_queue=QUEUE, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    said = await client.execute_update_with_start_workflow(Order.close, "me", start_workflow_operation=begin)
    return said, await (await begin.workflow_handle()).result()


@operation
async def update_with_start_twice(client: Client, name: str) -> Any:
    await started(client, name)
    begin = WithStartWorkflowOperation(
        Order.run, "lamp", id=name, task_queue=QUEUE, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    return await failure(client.execute_update_with_start_workflow(Order.close, "me", start_workflow_operation=begin))


@operation
async def cancel(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    await handle.cancel()
    return await failure(handle.result())


@operation
async def terminate(client: Client, name: str) -> Any:
    handle = await started(client, name)
    await handle.terminate("enough")
    return await failure(handle.result())


@operation
async def describe_what_is_not_there(client: Client, name: str) -> Any:
    return await failure(client.get_workflow_handle(name).describe())


@operation
async def signal_what_is_not_there(client: Client, name: str) -> Any:
    return await failure(client.get_workflow_handle(name).signal(Order.add, "chair"))


@operation
async def terminate_what_has_ended(client: Client, name: str) -> Any:
    handle = await started(client, name)
    await handle.terminate()
    return await failure(handle.terminate())


@operation
async def history(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    await handle.execute_update(Order.close, "me")
    await handle.result()
    fetched = await handle.fetch_history()
    return [event.event_type for event in fetched.events][:3], len(fetched.events) > 10


@operation
async def a_long_poll_for_the_result(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0.3)
    await handle.execute_update(Order.close, "me")
    return await waiting


@operation
async def reset(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE)
    await handle.execute_update(Order.close, "me")
    await handle.result()
    request = ResetWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=name),
        reason="again",
        workflow_task_finish_event_id=4,
        request_id=name,
    )
    run = (await client.workflow_service.reset_workflow_execution(request)).run_id
    await client.get_workflow_handle(name, run_id=run).terminate()
    return bool(run)


@operation
async def list_by_id(client: Client, name: str) -> Any:
    await started(client, name)
    for _ in range(60):
        found = [one.id async for one in client.list_workflows(f"WorkflowId = '{name}'")]
        if found:
            return found
        await asyncio.sleep(0.1)
    return []


@operation
async def count_none(client: Client, name: str) -> Any:
    return (await client.count_workflows("WorkflowId = 'never-there'")).count


@operation
async def list_by_a_query_that_is_wrong(client: Client, name: str) -> Any:
    async def ask() -> Any:
        return [one async for one in client.list_workflows("this is = = no query")]

    return await failure(ask())


@operation
async def a_large_payload(client: Client, name: str) -> Any:
    handle = await started(client, name, QUEUE, "x" * 1_500_000)
    counted = await handle.query(Order.count)
    await handle.terminate()
    return counted


@operation
async def a_payload_that_is_too_large(client: Client, name: str) -> Any:
    found = await failure(started(client, name, UNSERVED, "x" * 3_000_000))
    return [entry[0] for entry in found]


@operation
async def schedules(client: Client, name: str) -> Any:
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(Order.run, "lamp", id=name, task_queue=UNSERVED),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=9))]),
    )
    handle = await client.create_schedule(name, schedule)
    twice = await failure(client.create_schedule(name, schedule))
    await handle.pause(note="later")
    paused = (await handle.describe()).schedule.state
    await handle.unpause()
    await handle.trigger()
    await handle.delete()
    return paused.paused, paused.note, twice, await failure(handle.describe())


@operation
async def system_info(client: Client, name: str) -> Any:
    return str(await client.workflow_service.get_system_info(GetSystemInfoRequest()))


@operation
async def cluster_info(client: Client, name: str) -> Any:
    return (await client.workflow_service.get_cluster_info(GetClusterInfoRequest())).server_version


@operation
async def namespaces(client: Client, name: str) -> Any:
    listed = await client.workflow_service.list_namespaces(ListNamespacesRequest())
    return sorted(one.namespace_info.name for one in listed.namespaces)


@operation
async def describe_namespace(client: Client, name: str) -> Any:
    request = DescribeNamespaceRequest(namespace=client.namespace)
    return str(await client.workflow_service.describe_namespace(request))


@operation
async def describe_a_namespace_that_is_not_there(client: Client, name: str) -> Any:
    return await failure(client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="never")))


@operation
async def task_queue(client: Client, name: str) -> Any:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=UNSERVED),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    return len((await client.workflow_service.describe_task_queue(request)).pollers)


@operation
async def task_queue_partitions(client: Client, name: str) -> Any:
    request = ListTaskQueuePartitionsRequest(namespace=client.namespace, task_queue=TaskQueue(name=UNSERVED))
    found = await client.workflow_service.list_task_queue_partitions(request)
    return len(found.workflow_task_queue_partitions)


@operation
async def search_attributes(client: Client, name: str) -> Any:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    return sorted((await client.operator_service.list_search_attributes(request)).system_attributes)


@operation
async def a_deadline(client: Client, name: str) -> Any:
    handle = await started(client, name)
    request = PollWorkflowExecutionUpdateRequest(namespace=client.namespace)
    request.update_ref.workflow_execution.workflow_id = handle.id
    request.update_ref.update_id = "never"
    request.wait_policy.lifecycle_stage = UpdateWorkflowExecutionLifecycleStage.Value(
        "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED"
    )
    return await failure(
        client.workflow_service.poll_workflow_execution_update(request, timeout=timedelta(milliseconds=300))
    )
