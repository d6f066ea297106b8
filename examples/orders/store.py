"""The orders themselves: what the example protects. It knows nothing of authorization."""

from __future__ import annotations

import threading

from examples.orders import orders_pb2 as pb


class OrderStore:
    """Orders in memory, by namespace and id. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[str, dict[str, pb.Order]] = {}

    def add(self, namespace: str, item: str, placed_by: str) -> pb.Order:
        """Place an order."""
        with self._lock:
            orders = self._orders.setdefault(namespace, {})
            order = pb.Order(
                namespace=namespace, id=f"{len(orders) + 1}", item=item, status="placed", placed_by=placed_by
            )
            orders[order.id] = order
            return order

    def get(self, namespace: str, order_id: str) -> pb.Order | None:
        """One order."""
        with self._lock:
            return self._orders.get(namespace, {}).get(order_id)

    def cancel(self, namespace: str, order_id: str) -> pb.Order | None:
        """Mark an order as cancelled."""
        with self._lock:
            order = self._orders.get(namespace, {}).get(order_id)
            if order is not None:
                order.status = "cancelled"
            return order

    def all(self, namespace: str) -> list[pb.Order]:
        """Every order of a namespace."""
        with self._lock:
            return list(self._orders.get(namespace, {}).values())

    def purge(self, namespace: str) -> int:
        """Forget a namespace; how many orders it had."""
        with self._lock:
            return len(self._orders.pop(namespace, {}))

    def namespaces(self) -> list[str]:
        """The namespaces that have orders."""
        with self._lock:
            return sorted(self._orders)
