"""A user's own authenticators and claim mappers: loaded by name, and held to what the configuration says of them."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from authz import document
from authz.config.authn import Authn, read_authn
from authz.config.plugins import AUTHENTICATORS, CLAIM_MAPPERS
from authz.credentials import BearerToken, ClientCertificate
from authz.errors import AuthenticationError, ConfigError, MappingError
from authz.reason import Reason
from authz.testing import CertificateAuthority, TokenMinter
from tests.config.offered import offer

METHOD = "/orders.v1.Orders/Get"
MINTER = TokenMinter("https://idp.corp.example", "orders")
CA = CertificateAuthority()
NUMBER = itertools.count()

OWN = """
from authz.authn.base import ANONYMOUS, Principal, PrincipalKind
from authz.credentials import BearerToken
from authz.errors import AuthenticationError
from authz.reason import Reason

class Own:
    def __init__(self, name, prefix, secret):
        self.name, self.prefix, self.secret = name, prefix, secret
    def authenticate(self, credential, now):
        if not isinstance(credential, BearerToken) or not credential.value.startswith("own-"):
            return None
        return eval(credential.value[4:], globals() | {"own": self, "now": now})
    def prove(self, subject="svc", **more):
        settings = {"kind": PrincipalKind.TOKEN, "issuer": self.name, "subject": subject, "prefix": self.prefix}
        return Principal(**settings | more)
    def refuse(self, reason=Reason.TOKEN_SIGNATURE_WRONG, detail="own"):
        raise AuthenticationError(reason, detail)
    def refuse_bare(self):
        class Bare(AuthenticationError):
            def __init__(self): pass
        raise Bare

def make(options, name, prefix):
    return Own(name, prefix, options.text("secret"))
"""
MAPPER = """
from authz.claims.base import Claims
from authz.errors import MappingError
from authz.reason import Reason

def refuse(reason, detail="x"):
    raise MappingError(reason, detail)

class Mapper:
    def map(self, principal):
        return eval(principal.attributes["gives"], globals() | {"p": principal})
def make(options):
    return Mapper()
"""
TEXT = """\
revocations: revoked
issuers:
- {name: corp, issuer: 'https://idp.corp.example', audiences: [orders], algorithms: [ES256], keys: {jwks_file: j.json},
   mapper: {plugin: mapping}, namespaces_allowed: ['orders-*']}
authenticators:
- {name: legacy, proves: token, plugin: owning, options: {secret: s}, roles: [{static: [{role: a, namespace: b}]}]}
mtls: [{name: prod, ca_file: ca.pem, map: cn}]
combine: jwt
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    number = next(NUMBER)
    offer(tmp_path / "site", monkeypatch, AUTHENTICATORS, "owning", OWN, f"plugin_own_{number}")
    offer(tmp_path / "site", monkeypatch, CLAIM_MAPPERS, "mapping", MAPPER, f"plugin_mapping_{number}")
    MINTER.write_jwks(tmp_path / "j.json")
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    (tmp_path / "revoked").write_text("subject legacy mallory\n")
    return tmp_path


def read(folder: Path, text: str = TEXT) -> Authn:
    return read_authn(document.parse(text.encode(), folder / "authz.yaml", ConfigError))


def test_it_proves_what_is_its_own_and_leaves_the_rest(folder: Path) -> None:
    authentication, mapper = read(folder)
    principal = authentication.authenticate((BearerToken("own-own.prove()"),), METHOD, time.time())
    assert principal.id == "user:legacy:svc"
    assert mapper.map(principal).namespaces == {"b": {"a"}}
    token = BearerToken(MINTER.mint())
    assert authentication.authenticate((token,), METHOD, time.time()).id == "user:corp:alice"
    with pytest.raises(AuthenticationError) as caught:
        authentication.authenticate((BearerToken("opaque"),), METHOD, time.time())
    assert caught.value.reason is Reason.TOKEN_MALFORMED
    shown = ClientCertificate(CA.issue_client("billing").certificate)
    assert authentication.authenticate((shown,), METHOD, time.time()).id == "user:prod:billing"


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        ("own.refuse()", Reason.TOKEN_SIGNATURE_WRONG),
        ("own.refuse('token_expired')", Reason.AUTHENTICATOR_FAILED),
        ("own.refuse(None)", Reason.AUTHENTICATOR_FAILED),
        ("own.refuse(Reason.ALLOWED)", Reason.AUTHENTICATOR_FAILED),
        ("own.refuse(detail=7)", Reason.AUTHENTICATOR_FAILED),
        ("own.refuse_bare()", Reason.AUTHENTICATOR_FAILED),
        ("1 / 0", Reason.AUTHENTICATOR_FAILED),
        ("True", Reason.AUTHENTICATOR_FAILED),
        ("'alice'", Reason.AUTHENTICATOR_FAILED),
        ("ANONYMOUS", Reason.AUTHENTICATOR_FAILED),
        ("own.prove(issuer='corp')", Reason.AUTHENTICATOR_FAILED),
        ("own.prove(prefix='corp:')", Reason.AUTHENTICATOR_FAILED),
        ("own.prove(prefix='')", Reason.AUTHENTICATOR_FAILED),
        ("own.prove('')", Reason.AUTHENTICATOR_FAILED),
        ("own.prove('a,b')", Reason.AUTHENTICATOR_FAILED),
        ("own.prove(None)", Reason.AUTHENTICATOR_FAILED),
        ("own.prove(expires_at=now)", Reason.CREDENTIAL_EXPIRED),
        ("own.prove('mallory')", Reason.CREDENTIAL_REVOKED),
    ],
)
def test_what_it_may_not_prove_is_refused(folder: Path, gives: str, reason: Reason) -> None:
    with pytest.raises(AuthenticationError) as caught:
        read(folder).authentication.authenticate((BearerToken(f"own-{gives}"),), METHOD, time.time())
    assert caught.value.reason is reason


def mapped(folder: Path, gives: str) -> Any:
    authentication, mapper = read(folder)
    token = BearerToken(MINTER.mint(gives=gives))
    return mapper.map(authentication.authenticate((token,), METHOD, time.time()))


def test_a_mapper_stays_below_the_ceiling(folder: Path) -> None:
    claims = mapped(
        folder,
        "Claims(p, frozenset({'admin'}), {'orders-a': {'writer', 'everyone'}, 'billing': {'reader'}, '*': {'x'}},"
        " expires_at=p.expires_at + 9, used=('db',))",
    )
    assert claims.system == frozenset()
    assert claims.namespaces == {"orders-a": {"writer"}}
    assert claims.expires_at == claims.principal.expires_at
    assert claims.used == ("db",)
    assert len(claims.notes) == 4


def test_a_mapper_may_refuse_the_caller(folder: Path) -> None:
    with pytest.raises(MappingError) as caught:
        mapped(folder, "refuse(Reason.CLAIMS_MALFORMED)")
    assert caught.value.reason is Reason.CLAIMS_MALFORMED


def test_a_mapper_may_end_the_roles_earlier(folder: Path) -> None:
    assert mapped(folder, "Claims(p, expires_at=7.0)").expires_at == 7.0


@pytest.mark.parametrize(
    "gives",
    [
        "refuse('claims_malformed')",
        "refuse(Reason.ALLOWED)",
        "refuse(Reason.CLAIMS_MALFORMED, 7)",
        "None",
        "1 / 0",
        "Claims(None)",
        "Claims(p, {1})",
        "Claims(p, namespaces={1: {'a'}})",
        "Claims(p, 'admin', 3)",
    ],
)
def test_a_mapper_that_fails_refuses_the_caller(folder: Path, gives: str) -> None:
    with pytest.raises(MappingError) as caught:
        mapped(folder, gives)
    assert caught.value.reason is Reason.MAPPER_FAILED


@pytest.mark.parametrize(
    ("there", "instead", "message"),
    [
        ("plugin: owning", "plugin: owing", "did you mean `owning`"),
        ("{secret: s}", "{}", "`authn.authenticators.0..options.secret` is missing|options.secret` is missing"),
        ("{secret: s}", "{secret: s, more: 1}", "unknown key"),
        ("proves: token", "proves: both", "cannot be `both`"),
        ("name: legacy", "name: corp", "name of another"),
        ("name: legacy", "name: legacy, prefix: 'corp:x'", "begin alike"),
        (
            "mapper: {plugin: mapping}",
            "mapper: {plugin: mapping}, roles: [{static: [{system_role: a}]}]",
            "both `mapper`",
        ),
        ("mapper: {plugin: mapping}", "mapper: {plugin: maping}", "did you mean `mapping`"),
    ],
)
def test_mistakes(folder: Path, there: str, instead: str, message: str) -> None:
    assert there in TEXT
    with pytest.raises(ConfigError, match=message):
        read(folder, TEXT.replace(there, instead, 1))


def test_both_kinds_are_both_kinds_whoever_proves_them(folder: Path) -> None:
    start, end = TEXT.index("issuers:"), TEXT.index("authenticators:")
    with pytest.raises(ConfigError, match="combine` is missing"):
        read(folder, (TEXT[:start] + TEXT[end:]).replace("combine: jwt\n", ""))
    assert read(folder, TEXT[:start] + TEXT[end:])
