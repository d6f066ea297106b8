"""The example's gRPC service, for both servers. The only word of authorization in it is ``authz.current()``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc

import authz
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.store import OrderStore


class Orders(rpc.OrdersServicer):
    """For ``grpc.server``."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    def GetOrder(self, request: pb.GetOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return self._store.get(request.namespace, request.id) or context.abort(
            grpc.StatusCode.NOT_FOUND, "no such order"
        )

    def CreateOrder(self, request: pb.CreateOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return self._store.add(request.namespace, request.item, placed_by=_caller())

    def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        found = self._store.cancel(request.namespace, request.id)
        return found or context.abort(grpc.StatusCode.NOT_FOUND, "no such order")

    def ListOrders(self, request: pb.ListOrdersRequest, context: grpc.ServicerContext) -> Iterator[pb.Order]:
        yield from self._store.all(request.namespace)

    def ImportOrders(
        self, request_iterator: Iterator[pb.ImportOrdersRequest], context: grpc.ServicerContext
    ) -> pb.ImportOrdersResponse:
        imported = [self._store.add(r.namespace, r.item, placed_by=_caller()) for r in request_iterator]
        return pb.ImportOrdersResponse(imported=len(imported))

    def TrackOrders(
        self, request_iterator: Iterator[pb.TrackOrdersRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.Order]:
        for request in request_iterator:
            found = self._store.get(request.namespace, request.id)
            if found:
                yield found

    def PurgeNamespace(
        self, request: pb.PurgeNamespaceRequest, context: grpc.ServicerContext
    ) -> pb.PurgeNamespaceResponse:
        return pb.PurgeNamespaceResponse(purged=self._store.purge(request.namespace))

    def ListNamespaces(
        self, request: pb.ListNamespacesRequest, context: grpc.ServicerContext
    ) -> pb.ListNamespacesResponse:
        return pb.ListNamespacesResponse(namespaces=self._store.namespaces())


class AsyncOrders(rpc.OrdersServicer):
    """For ``grpc.aio.server``."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    async def GetOrder(self, request: pb.GetOrderRequest, context: grpc.aio.ServicerContext) -> pb.Order:
        found = self._store.get(request.namespace, request.id)
        return found or await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")

    async def CreateOrder(self, request: pb.CreateOrderRequest, context: grpc.aio.ServicerContext) -> pb.Order:
        return self._store.add(request.namespace, request.item, placed_by=_caller())

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.aio.ServicerContext) -> pb.Order:
        found = self._store.cancel(request.namespace, request.id)
        return found or await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")

    async def ListOrders(
        self, request: pb.ListOrdersRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Order]:
        for order in self._store.all(request.namespace):
            yield order

    async def ImportOrders(
        self, request_iterator: AsyncIterator[pb.ImportOrdersRequest], context: grpc.aio.ServicerContext
    ) -> pb.ImportOrdersResponse:
        imported = [self._store.add(r.namespace, r.item, placed_by=_caller()) async for r in request_iterator]
        return pb.ImportOrdersResponse(imported=len(imported))

    async def TrackOrders(
        self, request_iterator: AsyncIterator[pb.TrackOrdersRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Order]:
        async for request in request_iterator:
            found = self._store.get(request.namespace, request.id)
            if found:
                yield found

    async def PurgeNamespace(
        self, request: pb.PurgeNamespaceRequest, context: grpc.aio.ServicerContext
    ) -> pb.PurgeNamespaceResponse:
        return pb.PurgeNamespaceResponse(purged=self._store.purge(request.namespace))

    async def ListNamespaces(
        self, request: pb.ListNamespacesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListNamespacesResponse:
        return pb.ListNamespacesResponse(namespaces=self._store.namespaces())


def _caller() -> str:
    principal = authz.current().principal
    assert principal is not None
    return principal.id
