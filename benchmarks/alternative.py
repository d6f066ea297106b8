"""Alternative: the interceptors that a careful user builds today of what PyPI offers, with the same answers as authz.

No package there has the whole for both servers: what authenticates gRPC calls in Python takes one company's own tokens,
and the toolkits of interceptors leave it to their user. So this is put together: grpc-interceptor's base classes,
PyJWT's ``decode`` with issuer, audience, algorithms and required claims, pycasbin's enforcer about the files of the
default bundle, and one line of a ``logging.FileHandler`` for each call, written before it is answered.

It does less than authz: one issuer, keys read once, unary requests alone (in a stream it finds no namespace, and
refuses), no certificate, no reload, no rule in its record, and no proof that the log is whole.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import casbin
import grpc
import jwt
from grpc_interceptor.server import AsyncServerInterceptor, ServerInterceptor

from examples.orders.keys import AUDIENCE, ISSUER
from examples.orders.server import CONFIG

BUNDLE = (CONFIG.parent / "../../policies/default").resolve()
ACCESS = {"/example.orders.v1.Orders/GetOrder": "read", "/example.orders.v1.Orders/CreateOrder": "write"}
"""What a catalogue says: whoever builds this by hand keeps such a table, and refuses what is not in it."""
ROLES = {"read": "reader", "write": "writer", "admin": "admin", "worker": "worker"}
_REMEMBERED = 10_000

_Roles = frozenset[tuple[str | None, str]]
"""Roles by the namespace that they hold in; None: everywhere."""


class Check:
    """Answers with the status of a refusal, or None, and logs it.

    Args:
        folder: where ``keys/jwks.json`` is, and where the log is written.
        threads: whether threads ask at once; pycasbin has an enforcer for that.
        remembering: keep what was found for a token, and for a question.
    """

    def __init__(self, folder: Path, *, threads: bool, remembering: bool) -> None:
        keys = jwt.PyJWKSet.from_json((folder / "keys" / "jwks.json").read_text())
        self._keys = {key.key_id: key for key in keys.keys}
        enforcer = casbin.SyncedEnforcer if threads else casbin.Enforcer
        self._enforcer = enforcer(str(BUNDLE / "model.conf"), str(BUNDLE / "policy.csv"))
        logging.getLogger("casbin.enforcer").setLevel(logging.ERROR)  # else it prints each request
        self._log = logging.getLogger("access")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.addHandler(logging.FileHandler(folder / f"access-{'remembering' if remembering else 'plain'}.log"))
        self._prove: Callable[[str], tuple[str, float, _Roles]] = self._decode
        self._decide: Callable[[str, _Roles, str, str], bool] = self._ask
        if remembering:
            self._prove = lru_cache(_REMEMBERED)(self._decode)
            self._decide = lru_cache(_REMEMBERED)(self._ask)

    def __call__(
        self, method: str, request: Any, metadata: Iterable[tuple[str, str | bytes]]
    ) -> grpc.StatusCode | None:
        """The status of a refusal; None: the call may go on."""
        who = "-"
        namespace = str(getattr(request, "namespace", ""))
        status = None
        try:
            who, expires, roles = self._prove(_bearer(metadata))
            if expires <= time.time():
                status = grpc.StatusCode.UNAUTHENTICATED
            elif not namespace or method not in ACCESS or not self._decide(who, roles, namespace, method):
                status = grpc.StatusCode.PERMISSION_DENIED
        except (jwt.PyJWTError, LookupError, ValueError):
            status = grpc.StatusCode.UNAUTHENTICATED
        line = {
            "time": time.time(),
            "sub": who,
            "method": method,
            "namespace": namespace,
            "status": str(status or "OK"),
        }
        self._log.info(json.dumps(line))
        return status

    def _decode(self, token: str) -> tuple[str, float, _Roles]:
        found = jwt.decode(
            token,
            self._keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["RS256", "ES256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        roles: set[tuple[str | None, str]] = set()
        for each in found.get("permissions", ()):
            # "acme:read" makes a reader in acme, "system:admin" an admin everywhere
            namespace, _, right = each.partition(":")
            roles.add((None if namespace == "system" else namespace, ROLES[right]))
        return f"user:staff:{found['sub']}", float(found["exp"]), frozenset(roles)

    def _ask(self, who: str, roles: _Roles, namespace: str, method: str) -> bool:
        held = [f"role:{role}" for where, role in roles if where in (None, namespace)]
        allowed = False
        for subject in (who, "role:authenticated", "role:everyone", *held):
            answer, rule = self._enforcer.enforce_ex(subject, namespace, method, ACCESS[method])
            if rule and rule[-1] == "deny":
                return False
            allowed = allowed or answer
        return allowed


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    shown = [value for key, value in metadata if key == "authorization"]
    if len(shown) != 1 or not isinstance(shown[0], str) or not shown[0].startswith("Bearer "):
        raise ValueError("no token, or not one")
    return shown[0].removeprefix("Bearer ")


class Interceptor(ServerInterceptor):
    """For ``grpc.server``."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def intercept(self, method: Callable[..., Any], request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """See :class:`grpc_interceptor.server.ServerInterceptor`."""
        refused = self._check(method_name, request_or_iterator, context.invocation_metadata())
        if refused is not None:
            context.abort(refused, "refused")
        return method(request_or_iterator, context)


class AsyncInterceptor(AsyncServerInterceptor):
    """For ``grpc.aio.server``."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def intercept(
        self, method: Callable[..., Any], request_or_iterator: Any, context: Any, method_name: str
    ) -> Any:
        """See :class:`grpc_interceptor.server.AsyncServerInterceptor`."""
        refused = self._check(method_name, request_or_iterator, context.invocation_metadata())
        if refused is not None:
            await context.abort(refused, "refused")
        return await method(request_or_iterator, context)
