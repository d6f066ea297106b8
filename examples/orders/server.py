"""An orders server, protected: `python -m examples.orders.server`, or with `--aio` on asyncio.

Two lines make the difference to a server without authorization: `load_config`, and the interceptor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc

import authz
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.service import AsyncOrders, Orders
from examples.orders.store import OrderStore

HERE = Path(os.path.relpath(Path(__file__).parent))
CONFIG = HERE / "authz.yaml"
KEYS = HERE / "keys"


def sync_server(engine: authz.Engine, store: OrderStore) -> grpc.Server:
    """The service on ``grpc.server``; not started."""
    pool = futures.ThreadPoolExecutor(max_workers=16)
    interceptor = authz.adapters.grpc.AuthorizationInterceptor(engine)
    server = grpc.server(pool, interceptors=[interceptor], options=authz.adapters.tls.connection_age())
    rpc.add_OrdersServicer_to_server(Orders(store), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    return server


def async_server(engine: authz.Engine, store: OrderStore) -> grpc.aio.Server:
    """The service on ``grpc.aio.server``; not started."""
    interceptor = authz.adapters.grpc_aio.AuthorizationInterceptor(engine)
    server = grpc.aio.server(interceptors=[interceptor], options=authz.adapters.tls.connection_age())
    rpc.add_OrdersServicer_to_server(AsyncOrders(store), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    return server


def tls(keys: Path, client_certificates: bool) -> grpc.ServerCredentials:
    """TLS for a port. Python's gRPC either demands a client certificate or never asks for one: so a port for each."""
    client_ca = keys / "clients.pem" if client_certificates else None
    return authz.adapters.tls.server_credentials(keys / "server.pem", keys / "server.key", client_ca)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aio", action="store_true", help="serve on asyncio")
    parser.add_argument("--tls", default="127.0.0.1:50051", help="address for callers with tokens")
    parser.add_argument("--mtls", default="127.0.0.1:50052", help="address for callers with certificates")
    options = parser.parse_args()
    with authz.load_config(CONFIG) as engine:
        if options.aio:
            asyncio.run(_serve_async(engine, options.tls, options.mtls))
        else:
            server = sync_server(engine, OrderStore())
            server.add_secure_port(options.tls, tls(KEYS, client_certificates=False))
            server.add_secure_port(options.mtls, tls(KEYS, client_certificates=True))
            server.start()
            print(f"serving tokens on {options.tls}, certificates on {options.mtls}")
            server.wait_for_termination()


async def _serve_async(engine: authz.Engine, tls_address: str, mtls_address: str) -> None:
    server = async_server(engine, OrderStore())
    server.add_secure_port(tls_address, tls(KEYS, client_certificates=False))
    server.add_secure_port(mtls_address, tls(KEYS, client_certificates=True))
    await server.start()
    print(f"serving tokens on {tls_address}, certificates on {mtls_address}")
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
