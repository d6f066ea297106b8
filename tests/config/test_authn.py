"""The section ``authn``: what it becomes, and every way in which it is refused."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import jwt
import pytest

from authz import document
from authz.config.authn import Authn, read_authn
from authz.credentials import BearerToken, ClientCertificate
from authz.errors import ConfigError
from authz.testing import CertificateAuthority, SigningKey, TokenMinter

CA = CertificateAuthority("Prod")
OTHER_CA = CertificateAuthority("Corp")
MINTER = TokenMinter("https://idp.corp.example", "grpc-api")
METHOD = "/orders.v1.Orders/Get"

WHOLE = """\
leeway: 10s
max_token_bytes: 4096
anonymous: {methods: [/grpc.health.v1.Health/Check]}
issuers:
- name: corp
  issuer: https://idp.corp.example
  audiences: [grpc-api]
  algorithms: [ES256]
  typ: [at+jwt, JWT]
  keys: {jwks_file: jwks.json}
  principal: {claim: sub, prefix: "corp:"}
  roles:
  - {claim: permissions, format: temporal}
  - {claim: /realm_access/roles, match: 'ns:(?P<ns>[a-z-]+):(?P<role>read|write)', namespace: '{ns}', role: '{role}',
     words: {read: reader, write: writer}}
  - {claim: groups, equals: platform-admins, system_role: admin}
  - {claim: groups, table: {devs: [{role: writer, namespace: dev}], ops: [{system_role: reader}]}}
  - {static: [{role: reader, namespace: shared}]}
mtls:
- name: prod
  ca_file: prod.pem
  map: spiffe
  trust_domains: [prod.example.org]
  roles:
  - {field: path, match: '/ns/(?P<ns>[^/]+)/sa/worker', namespace: '{ns}', role: worker}
- {name: corp-ca, ca_file: corp.pem, map: cn, require: {O: Example Corp}}
combine: jwt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MINTER.write_jwks(tmp_path / "jwks.json")
    (tmp_path / "prod.pem").write_bytes(CA.pem)
    (tmp_path / "corp.pem").write_bytes(OTHER_CA.pem)
    (tmp_path / "key.pem").write_bytes(MINTER.key.public_pem())
    (tmp_path / "secret").write_text("s" * 64 + "\n")
    (tmp_path / "revoked").write_text("issuer corp\nissuer pord\n")
    return tmp_path


def read(folder: Path, text: str) -> Authn:
    return read_authn(document.parse(text.encode(), folder / "authz.yaml", ConfigError))


def test_the_whole_section(folder: Path) -> None:
    authn = read(folder, WHOLE)
    token = MINTER.mint(
        permissions=["orders:admin"],
        realm_access={"roles": ["ns:billing:read", "other"]},
        groups=["platform-admins", "devs", "ops"],
    )
    principal = authn.authentication.authenticate((BearerToken(token),), METHOD, time.time())
    claims = authn.mapper.map(principal)
    assert principal.id == "user:corp:alice"
    assert claims.system == {"admin", "reader"}
    assert claims.namespaces == {"orders": {"admin"}, "billing": {"reader"}, "dev": {"writer"}, "shared": {"reader"}}
    assert claims.used == ("permissions", "/realm_access/roles", "groups", "static")
    shown = ClientCertificate(CA.issue_client(spiffe_id="spiffe://prod.example.org/ns/orders/sa/worker").certificate)
    claims = authn.mapper.map(authn.authentication.authenticate((shown,), METHOD, time.time()))
    assert claims.namespaces == {"orders": {"worker"}}
    authn.authentication.start()
    authn.authentication.close()


FETCHED = """\
{jwks_url: {url: 'http://idp.internal/keys', allow_insecure_http: true, refresh: 1m, max_stale: 1h, timeout: 1s,
    unknown_kid_cooldown: 5s, ca_file: prod.pem}}"""
LIMITS = """\
  allow_missing_typ: true
  max_lifetime: 1h
  leeway: 1s
  require: [{claim: hd, equals: a}, {claim: acr, one_of: [b]}, {claim: amr, has: mfa}, {claim: sub, match: '[a-z]+'},
    {claim: mail_ok, is: true}, {claim: jti, present: true}]"""
MORE = """\
map: spiffe
  intermediates_file: corp2.pem
  conditions: [{field: O, present: true}]"""


def test_every_setting_of_the_rest(folder: Path) -> None:
    text = WHOLE.replace("{jwks_file: jwks.json}", FETCHED)
    text = text.replace("  typ: [at+jwt, JWT]", LIMITS).replace("map: spiffe", MORE)
    (folder / "corp2.pem").write_bytes(CertificateAuthority("Middle", parent=CA).pem)
    proxy = "user:prod:spiffe://prod.example.org/envoy"
    authentication, _ = read(folder, text + f"startup: 1s\nremembered: 9\nforwarded: {{peers: ['{proxy}']}}\n")
    assert authentication.forwarders == {proxy}
    assert [status.name for status in authentication.keys] == ["corp"]


def test_cel_is_an_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WHOLE.replace("  typ: [at+jwt, JWT]", "  require: [{cel: 'claims.a == 1'}]")
    token = (BearerToken(MINTER.mint(a=1)),)
    assert read(folder, text).authentication.authenticate(token, METHOD, time.time())
    monkeypatch.delitem(sys.modules, "authz.authn.cel")
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(ConfigError, match=r"needs a package that is not installed: cel_expr_python.*grpc-authz\[cel\]"):
        read(folder, text)


def test_a_secret_that_is_shared(folder: Path) -> None:
    text = WHOLE.replace("[ES256]", "[HS256]").replace("jwks_file: jwks.json", "secret_file: secret")
    token = jwt.encode(
        {"iss": MINTER.issuer, "aud": "grpc-api", "sub": "bob", "exp": time.time() + 60}, "s" * 64, "HS256"
    )
    principal = read(folder, text).authentication.authenticate((BearerToken(token),), METHOD, time.time())
    assert principal.id == "user:corp:bob"


def test_a_permissions_list_by_pattern(folder: Path) -> None:
    text = WHOLE.replace("format: temporal", "format: temporal, match: '(?P<role>[a-z]+)@(?P<namespace>.+)'")
    authn = read(folder, text)
    token = BearerToken(MINTER.mint(permissions=["read@orders"]))
    claims = authn.mapper.map(authn.authentication.authenticate((token,), METHOD, time.time()))
    assert claims.namespaces == {"orders": {"reader"}, "shared": {"reader"}}


@pytest.mark.parametrize(
    ("algorithms", "keys", "key"),
    [
        ("[ES256]", "{pem_files: [key.pem]}", MINTER.key),
        ("[ES256, RS256]", "{jwks_file: jwks.json}", MINTER.key),
    ],
)
def test_sources_of_keys(folder: Path, algorithms: str, keys: str, key: SigningKey) -> None:
    text = WHOLE.replace("[ES256]", algorithms).replace("{jwks_file: jwks.json}", keys)
    assert read(folder, text).authentication.authenticate((BearerToken(MINTER.mint()),), METHOD, time.time())


# what is written in the place of what, and what the message says
MISTAKES: list[tuple[str, str, str]] = [
    ("issuer: https://idp.corp.example", "", r":5:3: `issuers\[0\].issuer` is missing"),
    ("audiences: [grpc-api]", "", "`issuers.0..audiences` is missing"),
    ("audiences: [grpc-api]", "audiences: []", "empty list"),
    ("audiences: [grpc-api]", "audience: [grpc-api]", "`issuers.0..audiences` is missing"),
    ("algorithms: [ES256]", "algorithms: [none]", "`none` is not an algorithm"),
    ("algorithms: [ES256]", "algorithms: [HS256]", "HS256 can neither stand beside"),
    ("algorithms: [ES256]", "algorithms: [ES256, HS256]", "HS256 can neither stand beside"),
    ("algorithms: [ES256]", "algorithms: [RS256]", "no key in it can verify RS256"),
    ("typ: [at+jwt, JWT]", "typ: ['a b']", "cannot be a token's `typ`"),
    ("typ: [at+jwt, JWT]", "type: [JWT]", "unknown key `issuers.0..type`; did you mean `typ`"),
    ("jwks_file: jwks.json", "jwks_file: absent.json", r":10:21: .*absent.json: cannot be read"),
    ("jwks_file: jwks.json", "jwks_file: prod.pem", "prod.pem: is not JSON"),
    ("jwks_file: jwks.json", "pem_files: [jwks.json]", "is not one public key"),
    ("jwks_file: jwks.json", "secret_file: secret", "`secret_file` is for HS256"),
    ("jwks_file: jwks.json", "jwks_file: jwks.json, pem_files: [key.pem]", "names 2 sources"),
    ("jwks_file: jwks.json", "jwks: jwks.json", "names 0 sources"),
    ("- name: corp\n", "- name: 'a b'\n", "cannot be a name"),
    ("- name: corp\n", "- name: prod\n", "name of another"),
    ('prefix: "corp:"', 'prefix: "corp"', "begin alike"),
    ('prefix: "corp:"', 'prefix: "prod:x"', "begin alike"),
    ('prefix: "corp:"', "prefix: '*'", "cannot be a prefix"),
    ("{claim: sub, ", "{claim: /a~2, ", "neither `~0`"),
    ("{claim: sub, ", "{claims: sub, ", "unknown key"),
    ("format: temporal}", "format: temporary}", "cannot be `temporary`"),
    ("format: temporal}", "format: temporal, match: '(?P<namespace>.*)'}", "no group `role`"),
    ("format: temporal}", "format: temporal, system_namespace: '*'}", "is not a namespace"),
    ("format: temporal}", "}", "does not say how to read `permissions`"),
    ("namespace: '{ns}', role: '{role}'", "namespace: '{n}', role: '{role}'", "no group `n`; did you mean `ns`"),
    ("namespace: '{ns}', role: '{role}'", "namespace: '{ns', role: '{role}'", "brace"),
    ("namespace: '{ns}', role: '{role}'", "namespace: '*', role: '{role}'", "is not a namespace"),
    ("namespace: '{ns}', role: '{role}'", "role: '{role}'", "namespace` is missing"),
    ("namespace: '{ns}', role: '{role}'", "namespace: '{ns}'", "either `role`"),
    ("(?P<ns>[a-z-]+)", "(?P<ns>[a-z-]+", "`match` has a `\\(` that is not closed"),
    ("(?P<ns>[a-z-]+)", "(?P<ns>.+).+", "could end in more than one place"),
    ("words: {read: reader", "words: {read: everyone", "cannot be granted"),
    ("system_role: admin}", "system_role: everyone}", "cannot be granted"),
    ("system_role: admin}", "role: admin}", "namespace` is missing"),
    ("equals: platform-admins, ", "equals: a, match: b, ", "does not say how"),
    ("namespace: dev}", "namespace: 'd*'}", "is not a namespace"),
    ("  roles:\n  - {claim: perm", "  namespaces_allowed: [a]\n  roles:\n  - {claim: perm", "above the ceiling"),
    ("  roles:\n  - {claim: perm", "  namespaces_allowed: ['*']\n  roles:\n  - {claim: perm", "is not a namespace"),
    ("  roles:\n  - {claim: perm", "  roles_allowed: [everyone]\n  roles:\n  - {claim: perm", "cannot be granted"),
    ("ca_file: prod.pem", "ca_file: key.pem", "certificates in PEM"),
    ("ca_file: prod.pem", "ca_file: corp.pem", "of the authority `prod` also"),
    ("map: spiffe", "map: dn", "cannot be `dn`"),
    ("map: spiffe", "map: attribute", "attribute` is missing"),
    ("trust_domains: [prod.example.org]", "", "trust_domains` is missing"),
    ("trust_domains: [prod.example.org]", "trust_domains: [Prod]", "is not a trust domain"),
    ("field: path", "field: paht", "no field `paht`; did you mean `path`"),
    ("require: {O: Example", "require: {Org: Example", "unknown key"),
    ("combine: jwt\n", "", "combine` is missing"),
    ("combine: jwt\n", "combine: any\n", "cannot be `any`"),
    ("  typ: [at+jwt, JWT]", "  require: [{cel: 'claims.a =='}]", "`cel` is not CEL: .*Syntax error"),
    ("  typ: [at+jwt, JWT]", "  require: [{cel: claims.a}]", "is not certainly true or false"),
    ("  typ: [at+jwt, JWT]", "  require: [{cel: claims.a == 1, claim: a}]", "unknown key"),
    ("  typ: [at+jwt, JWT]", "  require: [{claim: hd}]", "names 0 conditions"),
    ("  typ: [at+jwt, JWT]", "  require: [{claim: hd, equals: a, has: b}]", "names 2 conditions"),
    ("  typ: [at+jwt, JWT]", "  require: [{claim: hd, present: false}]", "can only be true"),
    ("  typ: [at+jwt, JWT]", "  require: [{claim: hd, match: '.+:.+'}]", "could end in more than one place"),
    ("equals: platform-admins, ", "equals: a, when: [{claim: hd, is: yes}], ", "must be a boolean"),
    ("{jwks_file: jwks.json}", "{jwks_url: 'http://idp.corp.example/keys'}", "is not https"),
    ("{jwks_file: jwks.json}", "{jwks_url: 'https://me@idp.corp.example/keys'}", "is not https://host/path"),
    ("{jwks_file: jwks.json}", "{jwks_url: 'https://idp.corp.example:x/keys'}", "the address"),
    ("{jwks_file: jwks.json}", "{jwks_url: {url: 'https://x/keys', ca_file: jwks.json}}", "is not certificates in PEM"),
    (
        "{jwks_file: jwks.json}",
        "{jwks_url: {url: 'https://x/keys', refresh: 1d, max_stale: 1h}}",
        "before two refreshes",
    ),
    ("{jwks_file: jwks.json}", "{jwks_url: {url: 'https://x/keys', refrsh: 1d}}", "did you mean `refresh`"),
    ("{jwks_file: jwks.json}", "{discovery: {timeout: 2h}}", "write a duration"),
    ("leeway: 10s", "forwarded: {peers: ['user:corp:alice']}", "is no principal of `mtls`"),
    ("leeway: 10s", "forwarded: {peer: ['user:prod:x']}", "peers` is missing"),
    ("leeway: 10s", "revocations: absent", "absent: cannot be read"),
    ("leeway: 10s", "revocations: jwks.json", "cannot be revoked"),
    ("leeway: 10s", "revocations: revoked", "revoked:2: no issuer or authority is named `pord`; did you mean `prod`"),
    ("issuer: https://idp.corp.example", "issuer: 'https://idp .example'", "`issuer` has a blank"),
    ("{jwks_file: jwks.json}", "{discovery: {allow_insecure_http: 1}}", "must be a boolean"),
    ("map: spiffe", "map: spiffe\n  intermediates_file: absent", "absent: cannot be read"),
    ("map: spiffe", "map: spiffe\n  crl_file: prod.pem", "has no revocation list"),
    ("leeway: 10s", "leeway: 10", "must be a duration"),
    ("leeway: 10s", "leeway: 10h", "write a duration"),
    ("max_token_bytes: 4096", "max_token_bytes: 1", "write a whole number"),
    ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/*", "is not a gRPC method"),
    ("methods: [", "method: [", "methods` is missing"),
    ("anonymous:", "anonimous:", "unknown key `anonimous`; did you mean `anonymous`"),
]


@pytest.mark.parametrize(("there", "instead", "message"), MISTAKES)
def test_mistakes(folder: Path, there: str, instead: str, message: str) -> None:
    assert there in WHOLE
    with pytest.raises(ConfigError) as caught:
        read(folder, WHOLE.replace(there, instead, 1))
    assert re.search(message, str(caught.value)), caught.value
    assert re.match(r".*authz\.yaml:[0-9]+:[0-9]+: ", str(caught.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leeway: 10s", "nobody can be proven"),
        (WHOLE[: WHOLE.index("mtls:")] + "combine: jwt\n", "`combine` needs both tokens"),
        (
            "issuers:\n"
            + "".join(
                f"- {{name: {name}, issuer: x, audiences: [a], algorithms: [ES256], keys: {{jwks_file: jwks.json}}}}\n"
                for name in "ab"
            ),
            "`x` is configured twice",
        ),
        (
            "mtls:\n"
            + "".join(
                f"- {{name: {name}, ca_file: {name}.pem, map: spiffe, trust_domains: [d]}}\n"
                for name in ("prod", "corp")
            ),
            "`d` belongs to the authority `prod`",
        ),
    ],
)
def test_mistakes_of_the_whole(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(folder, text)


def test_an_issuer_with_a_query_has_no_discovery_document(folder: Path) -> None:
    text = WHOLE.replace("issuer: https://idp.corp.example", "issuer: https://idp.corp.example/?x")
    with pytest.raises(ConfigError, match="has a query"):
        read(folder, text.replace("{jwks_file: jwks.json}", "{discovery: {}}"))


def test_a_private_key_in_a_key_set_is_refused(folder: Path) -> None:
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**MINTER.key.jwk(), "d": "AA"}]}))
    with pytest.raises(ConfigError, match="key 0 holds `d`, which is secret"):
        read(folder, WHOLE)
