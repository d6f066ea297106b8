"""Testing: what an application's own tests need: credentials that exist only there, and a stage to try a policy on.

minter = TokenMinter(issuer="https://issuer.test", audience="orders")
minter.write_jwks(tmp_path / "jwks.json")
token = minter.mint(sub="alice", groups=["admins"])

stage = Stage("policies/orders")
with serve(stage.engine, lambda server: add_OrdersServicer_to_server(Orders(), server)) as channel:
    OrdersStub(channel).GetOrder(request, metadata=stage.as_caller("rita", {"acme": "reader"}))
stage.decisions.assert_allowed()

The same as pytest fixtures: ``pytest_plugins = ["authz.testing.fixtures"]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from authz.testing.credentials import CertificateAuthority, IssuedCertificate, SigningKey, TokenMinter
from authz.testing.decisions import Decisions, RecordingSink
from authz.testing.stage import Stage

if TYPE_CHECKING:
    from authz.testing.serving import serve as serve
    from authz.testing.serving import serve_aio as serve_aio

__all__ = [
    "TokenMinter",
    "SigningKey",
    "CertificateAuthority",
    "IssuedCertificate",
    "RecordingSink",
    "Decisions",
    "Stage",
    "serve",
    "serve_aio",
]


def __getattr__(name: str) -> Any:
    # only who serves needs grpc
    if name in ("serve", "serve_aio"):
        return getattr(importlib.import_module("authz.testing.serving"), name)
    raise AttributeError(f"module 'authz.testing' has no attribute {name!r}")
