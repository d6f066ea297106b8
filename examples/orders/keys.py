"""Keys for the example: an identity provider, two certificate authorities and a server, made anew for each run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from authz.testing import CertificateAuthority, SigningKey, TokenMinter

ISSUER = "https://idp.orders.example"
AUDIENCE = "orders"


@dataclass(frozen=True)
class Keys:
    """What signs, for the demo's own callers; the public halves are in files beside authz.yaml."""

    rsa: TokenMinter
    ec: TokenMinter
    workloads: CertificateAuthority
    machines: CertificateAuthority
    server_ca: bytes


def make_keys(folder: Path) -> Keys:
    """Make every key, and write to ``folder`` what the server and its configuration read."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = Keys(
        rsa=TokenMinter(ISSUER, AUDIENCE, key=SigningKey.shared("RS256", "rsa-1")),
        ec=TokenMinter(ISSUER, AUDIENCE, key=SigningKey.shared("ES256", "ec-1")),
        workloads=CertificateAuthority("Orders workloads CA"),
        machines=CertificateAuthority("Orders machines CA"),
        server_ca=(server := CertificateAuthority("Orders server CA")).pem,
    )
    issued = server.issue_server()
    files = {
        "jwks.json": json.dumps({"keys": [keys.rsa.key.jwk(), keys.ec.key.jwk()]}, indent=1).encode(),
        "workloads-ca.pem": keys.workloads.pem,
        "machines-ca.pem": keys.machines.pem,
        "clients.pem": keys.workloads.pem + keys.machines.pem,
        "server-ca.pem": server.pem,
        "server.pem": issued.certificate,
        "server.key": issued.key,
    }
    for name, content in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    return keys
