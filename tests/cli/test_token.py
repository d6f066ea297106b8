"""``authz token inspect``: what it says of good and bad tokens, and that it never repeats one."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

from authz.authn.inspection import inspect
from authz.authn.jwt import TokenAuthenticator
from authz.cli import Exit, main
from authz.reason import Reason
from authz.testing import CertificateAuthority, TokenMinter
from tests.authn.setting import MINTER as TABLE_MINTER
from tests.authn.setting import NOW, tokens
from tests.authn.test_hostile_tokens import ISSUER, TABLE

MINTER = TokenMinter("https://idp.corp.example", "orders")
CONFIG = """\
authn:
  issuers:
  - name: corp
    issuer: https://idp.corp.example
    audiences: [orders]
    algorithms: [ES256]
    keys: {jwks_file: jwks.json}
    roles:
    - {claim: permissions, format: temporal}
    - {claim: groups, equals: admins, system_role: admin, when: [{claim: mfa, is: true}]}
policy: {bundle: absent}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    MINTER.write_jwks(tmp_path / "jwks.json")
    path = tmp_path / "authz.yaml"
    path.write_text(CONFIG)
    return path


def run(config: Path, token: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    file = config.parent / "token"
    file.write_text(token)
    code = main(["token", "inspect", "--config", str(config), str(file)])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_good_token(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = MINTER.mint(permissions=["orders:read", "orders:write", "temporal-system:admin", "?"], groups=["admins"])
    code, text = run(config, "Bearer " + token + "\n", capsys)
    assert code == Exit.OK
    assert "FAIL" not in text
    assert "pass  issuer      corp: https://idp.corp.example" in text
    assert "pass  signature   by the key test-key" in text
    assert "principal  user:corp:alice, until 20" in text
    assert "roles      system-wide: admin" in text
    assert "roles      orders: reader, writer" in text
    assert "note       permissions[3]: no permission" in text
    assert "not so: `mfa` is true" in text
    assert not any(segment in text for segment in token.split("."))


def test_a_bad_token_is_checked_to_the_end(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(config, MINTER.mint(aud="other", now=time.time() - 9000, header={"typ": "id+jwt"}), capsys)
    assert code == Exit.FINDING
    failed = [line.split()[1] for line in text.splitlines() if line.startswith("FAIL")]
    assert failed == ["type", "times", "audience"]
    assert text.endswith("refused: token_type_refused\n")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", MINTER.mint(iss="https://x")])
def test_what_is_not_for_this_server(config: Path, token: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(config, token, capsys)
    assert code == Exit.FINDING
    assert "FAIL" in text


def test_a_token_without_roles(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(config, MINTER.mint(), capsys)
    assert code == Exit.OK
    assert "roles      nowhere: no role at all" in text


def test_claims_that_cannot_be_mapped(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(config, MINTER.mint(permissions="orders:read"), capsys)
    assert code == Exit.FINDING
    assert "refused: claims_malformed" in text


def test_standard_input(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(MINTER.mint()))
    assert main(["token", "inspect", "--config", str(config)]) == Exit.OK
    assert "user:corp:alice" in capsys.readouterr().out


def test_files_that_are_not_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "inspect", "--config", str(config), str(config.parent / "absent")]) == Exit.INVALID
    assert main(["token", "inspect", "--config", str(config.parent / "absent")]) == Exit.INVALID
    assert capsys.readouterr().err.count("cannot be read") == 2


def test_a_configuration_without_issuers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.pem").write_bytes(CertificateAuthority().pem)
    path = tmp_path / "authz.yaml"
    path.write_text("authn:\n  mtls: [{name: prod, ca_file: ca.pem, map: cn}]\n")
    assert run(path, MINTER.mint(), capsys) == (
        Exit.FINDING,
        "this configuration has no issuers: there is nobody to ask about a token\n",
    )


def test_it_finds_the_reason_that_a_call_finds() -> None:
    authenticator = TokenAuthenticator([ISSUER])
    for _, token, reason in TABLE:
        assert inspect(token, authenticator, NOW).reason is reason


def test_revocation_is_looked_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from authz.authn.revocation import Revocations

    class Revoked:
        value = Revocations(issuers=frozenset({"corp"}))

    authenticator: Any = tokens()
    authenticator.revocations = Revoked()
    seen = inspect(TABLE_MINTER.mint(now=NOW), authenticator, NOW)
    assert seen.reason is Reason.CREDENTIAL_REVOKED
    assert seen.principal is None
