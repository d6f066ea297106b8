"""A soak: a server at full load for five minutes, while policies are reloaded, keys rotate and tokens expire.

Every answer is compared with the one that must come. The policy's file is replaced twice a second, each tenth time with
a broken one; the signing key changes every ten seconds, with an overlap; tokens live for some seconds, and some are
sent when they have expired. Wrong answers are counted, and the server's memory is measured after a warm-up and at the
end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from authz.testing import SigningKey, TokenMinter
from benchmarks.interceptor import CALLERS, server_process
from benchmarks.table import machine, write
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.keys import AUDIENCE, ISSUER, make_keys
from examples.orders.server import CONFIG

LIFETIME = 8.0
ROTATE = 10.0
RELOAD = 0.5
SEEN_WITHIN = 3.0  # a changed file of keys is seen within this

CASES = [
    ({"sub": "rita", "permissions": ["acme:read"]}, "acme", "OK"),
    ({"sub": "rita", "permissions": ["acme:read"]}, "globex", "PERMISSION_DENIED"),
    ({"sub": "walt", "permissions": ["acme:write", "globex:read"]}, "globex", "OK"),
    ({"sub": "sysop", "permissions": ["system:admin"]}, "anywhere", "OK"),
    ({"sub": "mallory", "permissions": ["system:admin"]}, "acme", "PERMISSION_DENIED"),
    ({"sub": "otto", "permissions": []}, "acme", "PERMISSION_DENIED"),
    ({"sub": "rita", "permissions": ["acme:read"], "aud": "payments"}, "acme", "UNAUTHENTICATED"),
]


class Keyring:
    """The signing keys of the identity provider: one that signs, and the one before it, which is still published."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = itertools.count(1)
        self._keys = [self._new()]
        self.minter = TokenMinter(ISSUER, AUDIENCE, key=self._keys[0], lifetime=LIFETIME)
        self._publish()

    def _new(self) -> SigningKey:
        return SigningKey("ES256", f"key-{next(self._names)}")

    def _publish(self) -> None:
        replace(self._path, json.dumps({"keys": [key.jwk() for key in self._keys]}))

    async def rotate(self) -> None:
        """Publish a new key beside the old one, sign with it once it is known, and retire the old one later."""
        new = self._new()
        self._keys = [new, *self._keys]
        self._publish()
        await asyncio.sleep(SEEN_WITHIN)
        self.minter = TokenMinter(ISSUER, AUDIENCE, key=new, lifetime=LIFETIME)
        await asyncio.sleep(LIFETIME)
        self._keys = [new]
        self._publish()


def replace(path: Path, text: str) -> None:
    """Replace a file as an editor does: write beside it, and rename."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.rename(path)


def memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak:
    """One server under load."""

    def __init__(self, folder: Path, port: int, pid: int, seconds: float) -> None:
        self.keys = Keyring(folder / "keys" / "jwks.json")
        self._policy = folder / "bundle" / "policy.csv"
        self._port = port
        self._pid = pid
        self._until = time.monotonic() + seconds
        self._warm = time.monotonic() + seconds / 4
        self.calls = 0
        self.wrong: list[str] = []
        self.reloads = self.broken = self.rotations = self.expired = 0
        self.memory: list[int] = []

    async def run(self) -> None:
        """Load it until the time is up."""
        await asyncio.sleep(SEEN_WITHIN)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub = rpc.OrdersStub(channel)
            beside = [asyncio.create_task(part()) for part in (self._reload, self._rotate, self._measure)]
            await asyncio.gather(*(self._caller(stub, random.Random(seed)) for seed in range(CALLERS)))
            for task in beside:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _caller(self, stub: Any, choose: random.Random) -> None:
        old: list[tuple[float, str]] = []
        while time.monotonic() < self._until:
            claims, namespace, expected = choose.choice(CASES)
            minter = self.keys.minter
            token = minter.mint(**claims)  # type: ignore[arg-type]
            made = time.time()
            old.append((made, token))
            for _ in range(40):
                if time.time() > made + LIFETIME - 4:
                    break
                await self._call(stub, token, namespace, expected)
            while old and old[0][0] < time.time() - LIFETIME - 2:
                self.expired += 1
                await self._call(stub, old.pop(0)[1], namespace, "UNAUTHENTICATED")

    async def _call(self, stub: Any, token: str, namespace: str, expected: str) -> None:
        request = pb.GetOrderRequest(namespace=namespace, id="1")
        try:
            await stub.GetOrder(request, metadata=[("authorization", f"Bearer {token}")], timeout=20)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        self.calls += 1
        if code != expected:
            self.wrong.append(f"{namespace}: {code}, not {expected}")

    async def _reload(self) -> None:
        original = self._policy.read_text()
        for number in itertools.count(1):
            await asyncio.sleep(RELOAD)
            broken = number % 10 == 0
            self.reloads += 1
            self.broken += broken
            replace(self._policy, original + ("p, broken\n" if broken else f"# edition {number}\n"))

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATE)
            await self.keys.rotate()
            self.rotations += 1

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(1)
            if time.monotonic() > self._warm:
                self.memory.append(memory(self._pid))


def run(*, quick: bool = False) -> None:
    """Soak both servers, print, and write benchmarks/results/soak.md."""
    seconds = 40.0 if quick else 300.0
    rows = []
    for kind in ("sync", "aio"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_keys(folder / "keys")
            shutil.copytree((CONFIG.parent / "../../policies/default").resolve(), folder / "bundle")
            config = folder / "authz.yaml"
            text = CONFIG.read_text().replace("../../policies/default", "bundle")
            config.write_text(text.replace("authn:\n", "authn:\n  leeway: 0s\n  remembered: 500\n"))
            with server_process(kind, "authz", config) as (pid, port):
                soak = Soak(folder, port, pid, seconds)
                asyncio.run(soak.run())
            for wrong in soak.wrong[:10]:
                print("WRONG ", wrong)
            edge = max(len(soak.memory) // 10, 1)
            first, last = (sum(part) / len(part) for part in (soak.memory[:edge], soak.memory[-edge:]))
            grown = (last - first) / first
            rows.append(
                [kind, f"{soak.calls:,}", f"{len(soak.wrong)}", f"{soak.expired:,}", f"{soak.reloads} ({soak.broken})",
                 f"{soak.rotations}", f"{first / 1e6:.1f}", f"{last / 1e6:.1f}", f"{grown:+.1%}"]
            )  # fmt: skip
            if soak.wrong or grown > 0.05:
                raise SystemExit(f"the {kind} server gave {len(soak.wrong)} wrong answers and grew by {grown:.1%}")
    header = ["server", "calls", "wrong", "expired tokens sent", "reloads (broken)", "key rotations",
              "MB after warm-up", "MB at the end", "growth"]  # fmt: skip
    write("soak", __doc__ or "", header, rows, machine(f"{seconds:g} s for each server, {CALLERS} callers"))


if __name__ == "__main__":
    run()
