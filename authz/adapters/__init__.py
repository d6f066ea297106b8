"""Adapters: the policy enforcement points. Each turns what a server sees into a Call and credentials, and enforces."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authz.adapters import grpc as grpc
    from authz.adapters import grpc_aio as grpc_aio
    from authz.adapters import tls as tls

_ADAPTERS = ("grpc", "grpc_aio", "tls")
__all__ = ["grpc", "grpc_aio", "tls"]


def __getattr__(name: str) -> Any:
    if name in _ADAPTERS:
        return importlib.import_module(f"authz.adapters.{name}")
    raise AttributeError(f"module 'authz.adapters' has no attribute {name!r}")
