"""Stage: an engine that decides by a real policy bundle, for callers whom a test makes up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias

from authz.authn.base import Principal
from authz.authn.chain import Authentication
from authz.authn.issuer import Issuer
from authz.authn.jwt import TokenAuthenticator
from authz.authn.key_files import read_key_set
from authz.authn.keys import FixedKeys
from authz.call import NAMESPACE_RULE, is_namespace
from authz.claims.base import ROLE_RULE, Claims, is_role
from authz.claims.mapper import MapperByIssuer
from authz.decision import authorizer_for
from authz.engine import Engine, Policy
from authz.policy.load import load_bundle
from authz.testing.credentials import TokenMinter
from authz.testing.decisions import Decisions

Roles: TypeAlias = str | Iterable[str]
Metadata: TypeAlias = tuple[tuple[str, str], ...]

ISSUER: Final = "test"
"""The name of the made-up issuer; ``rita`` is ``user:test:rita`` to the policy."""

_AGE: Final = 60
_SYSTEM, _NAMESPACES = "authz_system_roles", "authz_namespace_roles"


class _RolesOfTheTest:
    """Maps a made-up caller to exactly the roles that the test gave it."""

    def map(self, principal: Principal) -> Claims:
        """See :class:`authz.claims.base.ClaimMapper`."""
        namespaces, system = principal.attributes.get(_NAMESPACES), principal.attributes.get(_SYSTEM)
        if not isinstance(namespaces, Mapping) or not isinstance(system, list | tuple):
            return Claims(principal)  # a token that the test has made by itself
        roles = {name: frozenset(held) for name, held in namespaces.items()}
        return Claims(principal, frozenset(system), roles, principal.expires_at, (_SYSTEM, _NAMESPACES))


class Stage:
    """A whole corridor, with a real bundle and real tokens, of which only the issuer is made up.

    Args:
        bundle: folder of the policy bundle to decide by.
        anonymous: gRPC full methods that a caller who shows nothing may call, as far as the policy lets it.

    Attributes:
        engine: give it to an interceptor, or ask it.
        decisions: what it decided.
        minter: signs the callers' tokens.

    Raises:
        PolicyError: the bundle cannot be used.
    """

    def __init__(self, bundle: str | PathLike[str], *, anonymous: Iterable[str] = ()) -> None:
        self.decisions = Decisions()
        self.minter = TokenMinter(issuer="https://issuer.test", audience="test")
        issuer = Issuer(
            name=ISSUER,
            issuer=self.minter.issuer,
            audiences=frozenset({self.minter.audience}),
            algorithms=frozenset({self.minter.key.algorithm}),
            keys=FixedKeys(read_key_set(json.dumps(self.minter.jwks()).encode(), "the test's own keys")),
            prefix=f"{ISSUER}:",
        )
        authentication = Authentication(TokenAuthenticator([issuer]), anonymous=anonymous)
        revision = load_bundle(Path(bundle))
        policy = Policy(revision, authorizer_for(revision))
        self.engine = Engine(authentication, MapperByIssuer({ISSUER: _RolesOfTheTest()}), policy, self.decisions)

    def as_caller(
        self,
        subject: str = "caller",
        roles: Mapping[str, Roles] | None = None,
        *,
        system: Roles = (),
        expires_in: float = 300.0,
    ) -> Metadata:
        """The metadata of a call by a caller with these roles: pass it as ``metadata=`` to a stub's method.

        Args:
            subject: who calls; ``rita`` is ``user:test:rita`` to the policy.
            roles: namespace -> the role, or the roles, held there.
            system: the role, or the roles, held everywhere.
            expires_in: seconds until the caller's token ends, at most a day; negative: it has ended. As everywhere,
                clocks may be 30 s apart: a token is taken that much longer.

        Raises:
            ValueError: a namespace or a role that cannot be one.
        """
        held = {name: _roles(each) for name, each in (roles or {}).items()}
        for name in held:
            if not is_namespace(name):
                raise ValueError(f"`{name}` is not a namespace: {NAMESPACE_RULE}")
        now = time.time()
        claims: dict[str, Any] = {
            "sub": subject,
            "iat": int(min(now, now + expires_in)) - _AGE,
            "exp": int(now + expires_in),
            _SYSTEM: _roles(system),
            _NAMESPACES: held,
        }
        token = self.minter.mint(**claims)
        return (("authorization", f"Bearer {token}"),)


def _roles(roles: Roles) -> list[str]:
    names = [roles] if isinstance(roles, str) else list(roles)
    for name in names:
        if not is_role(name):
            raise ValueError(f"`{name}` cannot be granted as a role; write {ROLE_RULE}")
    return names
