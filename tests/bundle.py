"""Small policy bundles for tests, written to a folder."""

from __future__ import annotations

from pathlib import Path

from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.claims.base import Claims

MODEL = """\
[request_definition]
r = sub, dom, obj, act

[policy_definition]
p = sub, dom, obj, act, eft

[role_definition]
g = _, _
g2 = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = g(r.sub, p.sub) && keyMatch(r.dom, p.dom) && (g2(r.obj, p.obj) || keyMatch(r.obj, p.obj)) && \
(p.act == "*" || r.act == p.act)
"""

CATALOGUE = """\
services:
  shop.Orders:
    namespaces: [namespace]
    methods:
      Get: read
      List: read
      Put: write
      Cancel: write
      Purge: admin
      Regions: {access: read, scope: cluster}
  shop.Internal:
    methods:
      "*": {access: admin, scope: cluster}
"""

POLICY = """\
p, role:reader, *, *, read, allow
p, role:writer, *, *, write, allow
g, role:writer, role:reader
"""


def write_bundle(folder: Path, policy: str = POLICY, *, model: str = MODEL, catalogue: str = CATALOGUE) -> Path:
    """A bundle in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.conf").write_text(model, encoding="utf-8")
    (folder / "policy.csv").write_bytes(policy.encode("utf-8"))
    (folder / "catalogue.yaml").write_text(catalogue, encoding="utf-8")
    return folder


def caller(*system: str, user: str = "alice", **namespaces: str) -> Claims:
    """The claims of ``user`` with the roles ``system``, and in each namespace the roles given, separated by blanks."""
    principal = Principal(PrincipalKind.TOKEN, "corp", user, "corp:")
    return Claims(principal, frozenset(system), {name: frozenset(roles.split()) for name, roles in namespaces.items()})


def anonymous() -> Claims:
    """The claims of the caller who showed nothing."""
    return Claims(ANONYMOUS)
