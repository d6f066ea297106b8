"""authz: who may call what, in which namespace.

A call walks one corridor, and every room hands the next a stricter type:

    adapter -> credentials -> authn -> claims -> decision -> audit -> adapter enforces
               shown          proven   roles     allow/deny  recorded
                                                   ^
                                        policy revision (immutable, content-addressed)

    engine = authz.load_config("authz.yaml")
    decision = engine.check(
        authz.Call("/example.orders.v1.Orders/GetOrder", namespaces=("acme",)),
        [authz.BearerToken("eyJ...")],
    )
    if decision: ...

The four extension points are Protocols of one method each: `Authenticator`, `ClaimMapper`, `Authorizer`, `AuditSink`.
Importing this package loads neither grpc nor casbin; the rooms that need them load with first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from authz.audit.base import AuditSink
from authz.authn.base import Authenticator, Principal
from authz.call import Access, ApiMethod, Call, Scope
from authz.claims.base import ClaimMapper, Claims
from authz.credentials import BearerToken, ClientCertificate, Credential, MalformedCredential
from authz.decision.base import Authorizer, Decision, Effect
from authz.engine import Engine
from authz.errors import AuthenticationError, AuthzError, FileError, RefusedError
from authz.reason import Reason
from authz.under_way import current, permitted, require

if TYPE_CHECKING:
    import authz.testing as testing
    from authz import adapters as adapters
    from authz.config import load_config as load_config

__version__ = "0.1.0"

__all__ = [
    "load_config",
    "current",
    "require",
    "permitted",
    "Engine",
    "Call",
    "BearerToken",
    "ClientCertificate",
    "Credential",
    "MalformedCredential",
    "Principal",
    "Claims",
    "Decision",
    "Effect",
    "Reason",
    "ApiMethod",
    "Access",
    "Scope",
    "Authenticator",
    "ClaimMapper",
    "Authorizer",
    "AuditSink",
    "AuthzError",
    "AuthenticationError",
    "FileError",
    "RefusedError",
    "adapters",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name in ("adapters", "testing"):
        return importlib.import_module(f"authz.{name}")
    if name == "load_config":
        return importlib.import_module("authz.config").load_config
    raise AttributeError(f"module 'authz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
