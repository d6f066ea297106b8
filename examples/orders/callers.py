"""The demo's callers, what each of them tries, and what must come of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from authz.testing import IssuedCertificate
from examples.orders.keys import Keys


@dataclass(frozen=True)
class Caller:
    """Somebody, with what they show: a token or a certificate, or nothing."""

    name: str
    shown: str
    token: str | None = None
    certificate: IssuedCertificate | None = None


@dataclass(frozen=True)
class Attempt:
    """One call, and what must come of it: the gRPC code, and the rule (as written in the policy) or the reason."""

    caller: str
    method: str
    namespace: str
    code: str
    because: str


def callers(keys: Keys) -> dict[str, Caller]:
    """Everybody who calls, by a short name."""

    def rsa(name: str, **claims: Any) -> Caller:
        return Caller(name, "token (RS256)", token=keys.rsa.mint(**claims))

    def ec(name: str, **claims: Any) -> Caller:
        return Caller(name, "token (ES256)", token=keys.ec.mint(**claims))

    then = int(time.time()) - 7200
    acme_worker = "spiffe://orders.example/ns/acme/sa/worker"
    return {
        "rita": rsa("rita, reader in acme", sub="rita", permissions=["acme:read"]),
        "walt": ec("walt, writer in acme", sub="walt", orders={"roles": ["writer@acme"]}),
        "ada": rsa("ada, admin in acme", sub="ada", permissions=["acme:admin"]),
        "otto": ec("otto, admin in globex", sub="otto", permissions=["globex:admin"]),
        "sysop": rsa("sysop, admin everywhere", sub="sysop", permissions=["system:admin"]),
        "audrey": ec("audrey, in group auditors", sub="audrey", groups=["staff", "auditors"]),
        "mallory": rsa("mallory, suspended", sub="mallory", permissions=["acme:admin"]),
        "packer": Caller(
            "packer, a worker in acme",
            "certificate (SPIFFE)",
            certificate=keys.workloads.issue_client(spiffe_id=acme_worker),
        ),
        "backup": Caller(
            "backup-7, reads everywhere", "certificate (CN)", certificate=keys.machines.issue_client("backup-7")
        ),
        "forged": Caller(
            "a workload of the wrong CA",
            "certificate (SPIFFE)",
            certificate=keys.machines.issue_client(spiffe_id=acme_worker),
        ),
        "expired": rsa("an expired token", sub="rita", permissions=["acme:read"], iat=then, exp=then + 300),
        "elsewhere": rsa("a token for another API", sub="rita", permissions=["acme:read"], aud="payments"),
        "nobody": Caller("nobody", "nothing"),
    }


READ = "p, role:reader, *, *, read, allow"
WRITE = "p, role:writer, *, *, write, allow"
ADMIN = "p, role:admin, *, *, admin, allow"
WORK = "p, role:worker, *, api:work, *, allow"
AUDIT = "p, role:auditor, billing-*, *, read, allow"
AUDIT_LIST = "p, role:auditor, @cluster, /example.orders.v1.Orders/ListNamespaces, read, allow"
FROZEN = "p, role:everyone, frozen-*, api:cancel, *, deny"
SUSPENDED = "p, user:staff:mallory, *, *, *, deny"
HEALTH = "p, role:everyone, @cluster, api:health, read, allow"

ATTEMPTS = [
    Attempt("rita", "GetOrder", "acme", "OK", READ),
    Attempt("rita", "ListOrders", "acme", "OK", READ),
    Attempt("rita", "TrackOrders", "acme", "OK", READ),
    Attempt("rita", "CreateOrder", "acme", "PERMISSION_DENIED", "no_rule"),
    Attempt("rita", "GetOrder", "globex", "PERMISSION_DENIED", "no_rule"),
    Attempt("walt", "CreateOrder", "acme", "OK", WRITE),
    Attempt("walt", "GetOrder", "acme", "OK", READ),
    Attempt("walt", "ImportOrders", "acme", "OK", WRITE),
    Attempt("walt", "ImportOrders", "acme, then globex", "PERMISSION_DENIED", "no_rule"),
    Attempt("walt", "PurgeNamespace", "acme", "PERMISSION_DENIED", "no_rule"),
    Attempt("ada", "PurgeNamespace", "scratch", "PERMISSION_DENIED", "no_rule"),
    Attempt("ada", "CancelOrder", "acme", "OK", WRITE),
    Attempt("otto", "GetOrder", "acme", "PERMISSION_DENIED", "no_rule"),
    Attempt("otto", "PurgeNamespace", "globex", "OK", ADMIN),
    Attempt("sysop", "ListNamespaces", "", "OK", READ),
    Attempt("sysop", "CancelOrder", "frozen-acme", "PERMISSION_DENIED", FROZEN),
    Attempt("audrey", "ListOrders", "billing-eu", "OK", AUDIT),
    Attempt("audrey", "ListNamespaces", "", "OK", AUDIT_LIST),
    Attempt("audrey", "ListOrders", "acme", "PERMISSION_DENIED", "no_rule"),
    Attempt("mallory", "GetOrder", "acme", "PERMISSION_DENIED", SUSPENDED),
    Attempt("packer", "ImportOrders", "acme", "OK", WORK),
    Attempt("packer", "TrackOrders", "acme", "OK", WORK),
    Attempt("packer", "ImportOrders", "globex", "PERMISSION_DENIED", "no_rule"),
    Attempt("backup", "ListOrders", "globex", "OK", READ),
    Attempt("backup", "CancelOrder", "globex", "PERMISSION_DENIED", "no_rule"),
    Attempt("forged", "ImportOrders", "acme", "UNAUTHENTICATED", "certificate_subject_refused"),
    Attempt("expired", "GetOrder", "acme", "UNAUTHENTICATED", "token_expired"),
    Attempt("elsewhere", "GetOrder", "acme", "UNAUTHENTICATED", "token_audience_wrong"),
    Attempt("nobody", "GetOrder", "acme", "UNAUTHENTICATED", "credential_missing"),
    Attempt("nobody", "Check", "", "OK", HEALTH),
]
