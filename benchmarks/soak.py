"""A soak: a server at full load for five minutes, while policies are reloaded, keys rotate and tokens expire.

Every answer is compared with the one that must come. The policy's file is replaced twice a second, each tenth time with
a broken one, and every six seconds a right is given or taken back; the signing key changes every eleven seconds, with
an overlap; tokens live for eight seconds, and each is sent once more when it has expired, beside tokens of keys that
were retired. Some callers hold idle streams, which must end when their tokens do. Wrong answers are counted, and the
log must have exactly one record for each call. An answer that may be either, for three seconds around the change of a
right, is counted apart.

The server's resident memory is read every second. By the end of the warm-up, a minute, everything that it remembers has
reached its bound. Growth is what a straight line through all readings since then gains, and must stay below 5%.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import orjson

from authz.testing import SigningKey, TokenMinter
from benchmarks.serving import server_process
from benchmarks.table import machine, write
from examples.orders import orders_pb2 as pb
from examples.orders import orders_pb2_grpc as rpc
from examples.orders.keys import AUDIENCE, ISSUER, make_keys
from examples.orders.server import CONFIG

CALLERS = 32
STREAMS = 4
LIFETIME = 8.0
RELOAD = 0.5
TURN = 12  # so many reloads from one change of the right to the next
SEEN_WITHIN = 3.0  # a changed file is seen, and a stream is ended, within this: the machine is at full load
CALLS_OF_A_TOKEN = 10
GROWTH_LIMIT = 0.05

DEPENDS = "it depends"
METHOD = "/example.orders.v1.Orders/GetOrder"
RITA: dict[str, Any] = {"sub": "rita", "permissions": ["acme:read"]}
OTTO: dict[str, Any] = {"sub": "otto", "permissions": []}
CASES: list[tuple[dict[str, Any], str, str]] = [
    (RITA, "acme", "OK"),
    (RITA, "globex", "PERMISSION_DENIED"),
    ({"sub": "walt", "permissions": ["acme:write", "globex:read"]}, "globex", "OK"),
    ({"sub": "sysop", "permissions": ["system:admin"]}, "anywhere", "OK"),
    ({"sub": "mallory", "permissions": ["system:admin"]}, "acme", "PERMISSION_DENIED"),
    (OTTO, "globex", "PERMISSION_DENIED"),
    (OTTO, "acme", DEPENDS),
    ({**RITA, "aud": "payments"}, "acme", "UNAUTHENTICATED"),
]
GIVEN = "p, user:staff:otto, acme, *, read, allow\n"
"""The right on which it depends."""


class Keyring:
    """The signing keys of the identity provider: one that signs, and the one before it, which is still published."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = itertools.count(1)
        self._keys = [self._new()]
        self.minter = TokenMinter(ISSUER, AUDIENCE, key=self._keys[0], lifetime=LIFETIME)
        self.retired = ""
        self._publish()

    def _new(self) -> SigningKey:
        return SigningKey("ES256", f"key-{next(self._names)}")

    def _publish(self) -> None:
        replace(self._path, json.dumps({"keys": [key.jwk() for key in self._keys]}))

    async def rotate(self) -> None:
        """Publish a new key beside the old one, sign with it once it is known, and retire the old one later."""
        new, old = self._new(), self._keys[0]
        self._keys = [new, old]
        self._publish()
        await asyncio.sleep(SEEN_WITHIN)
        # good in everything but the key, once that is retired and the file was seen
        last = TokenMinter(ISSUER, AUDIENCE, key=old, lifetime=3600).mint(**RITA)
        self.minter = TokenMinter(ISSUER, AUDIENCE, key=new, lifetime=LIFETIME)
        await asyncio.sleep(LIFETIME)
        self._keys = [new]
        self._publish()
        asyncio.get_running_loop().call_later(SEEN_WITHIN, setattr, self, "retired", last)


def replace(path: Path, text: str) -> None:
    """Replace a file as an editor does: write beside it, and rename."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.rename(path)


def memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(readings: list[tuple[float, int]]) -> tuple[float, float]:
    """The first and the last point of a straight line through ``readings`` (when, how much)."""
    times, values = zip(*readings, strict=True)
    slope, start = statistics.linear_regression(times, values)
    return start + slope * times[0], start + slope * times[-1]


class Soak:
    """One server under load."""

    def __init__(self, folder: Path, port: int, pid: int, seconds: float) -> None:
        self.keys = Keyring(folder / "keys" / "jwks.json")
        self._policy = folder / "bundle" / "policy.csv"
        self._port = port
        self._pid = pid
        self._seconds = seconds
        self._until = 0.0
        self._given = False
        self._turned = 0.0
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.memory: list[tuple[float, int]] = []

    async def run(self) -> None:
        """Load it until the time is up."""
        await asyncio.sleep(SEEN_WITHIN)
        self._until = time.monotonic() + self._seconds
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub = rpc.OrdersStub(channel)
            beside = [asyncio.create_task(part()) for part in (self._reload, self._rotate, self._measure)]
            await asyncio.gather(
                *(self._caller(stub, random.Random(seed)) for seed in range(CALLERS)),
                *(self._streamer(stub) for _ in range(STREAMS)),
            )
            for task in beside:
                # one that failed before must not go unnoticed
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _caller(self, stub: Any, choose: random.Random) -> None:
        old: list[tuple[float, str]] = []
        while time.monotonic() < self._until:
            claims, namespace, expected = choose.choice(CASES)
            token = self.keys.minter.mint(**claims)
            made = time.time()
            old.append((made, token))
            for _ in range(CALLS_OF_A_TOKEN):
                if time.time() > made + LIFETIME / 2:
                    break
                await self._call(stub, token, namespace, expected)
            while old[0][0] < time.time() - LIFETIME - 2:
                self.counts["expired"] += 1
                await self._call(stub, old.pop(0)[1], namespace, "UNAUTHENTICATED")
            if self.keys.retired:
                self.counts["retired"] += 1
                await self._call(stub, self.keys.retired, "acme", "UNAUTHENTICATED")

    async def _call(self, stub: Any, token: str, namespace: str, expected: str) -> None:
        turned, given = self._turned, self._given
        settled = time.monotonic() > turned + SEEN_WITHIN
        request = pb.GetOrderRequest(namespace=namespace, id="1")
        call = stub.GetOrder(request, metadata=[("authorization", f"Bearer {token}")], timeout=20)
        code = (await call.code()).name
        self.counts["calls"] += 1
        if expected == DEPENDS:
            expected = "OK" if given else "PERMISSION_DENIED"
            if code in ("OK", "PERMISSION_DENIED") and not (settled and turned == self._turned):
                self.counts["either"] += 1
                return
        if code != expected:
            self.wrong.append(f"{namespace}: {code}, not {expected}")

    async def _streamer(self, stub: Any) -> None:
        while time.monotonic() < self._until - LIFETIME - SEEN_WITHIN:
            token = self.keys.minter.mint(**RITA)
            began = time.monotonic()
            stream = stub.TrackOrders(metadata=[("authorization", f"Bearer {token}")], timeout=60)
            first = None
            with suppress(grpc.aio.AioRpcError):
                await stream.write(pb.TrackOrdersRequest(namespace="acme", id="1"))
                first = await stream.read()
                await stream.read()  # nothing comes until the server ends it
            code, lasted = (await stream.code()).name, time.monotonic() - began
            self.counts["streams"] += 1
            in_time = LIFETIME - 1.5 < lasted < LIFETIME + SEEN_WITHIN
            if not (isinstance(first, pb.Order) and code == "UNAUTHENTICATED" and in_time):
                self.wrong.append(f"a stream ended with {code} after {lasted:.1f} s")

    async def _reload(self) -> None:
        original = self._policy.read_text()
        for number in itertools.count(1):
            await asyncio.sleep(RELOAD)
            if number % TURN == 0:
                self._given, self._turned = not self._given, time.monotonic()
            broken = number % 10 == 0
            edition = f"# edition {number}\n{GIVEN if self._given else ''}"
            replace(self._policy, original + ("p, broken\n" if broken else edition))

    async def _rotate(self) -> None:
        while True:
            await self.keys.rotate()
            self.counts["rotations"] += 1

    async def _measure(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(1)
            self.memory.append((time.monotonic() - began, memory(self._pid)))


def recorded(folder: Path) -> Counter[str]:
    """How many lines a log has of each event, and for decisions of each method, in all of its segments."""
    counts: Counter[str] = Counter()
    for segment in folder.glob("audit*.jsonl"):
        with segment.open("rb") as lines:
            for line in lines:
                record = orjson.loads(line)
                counts[record["method"] if record["event"] == "decision" else record["event"]] += 1
    return counts


def run(*, quick: bool = False) -> None:
    """Soak both servers, print, and write benchmarks/results/soak.md."""
    seconds, warm_up = (40.0, 20.0) if quick else (300.0, 60.0)
    rows = []
    failures = []
    for kind in ("sync", "aio"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = _configure(folder)
            with server_process(kind, "authz", CALLERS + STREAMS, config) as (pid, port):
                soak = Soak(folder, port, pid, seconds)
                asyncio.run(soak.run())
            lines = recorded(folder)
        counts = soak.counts
        for wrong, times in Counter(soak.wrong).most_common(10):
            print(f"WRONG  {wrong} ({times} times)")
        first, last = growth([reading for reading in soak.memory if reading[0] > warm_up])
        grown = (last - first) / first
        missing = counts["calls"] - lines[METHOD]
        rows.append(
            [kind, f"{counts['calls']:,}", f"{len(soak.wrong)}", f"{missing}", f"{counts['either']:,}",
             f"{counts['expired']:,}", f"{counts['retired']:,}", f"{counts['streams']}",
             f"{lines['policy.loaded']} ({lines['policy.rejected']})", f"{counts['rotations']}",
             f"{first / 1e6:.1f}", f"{last / 1e6:.1f}", f"{grown:+.1%}"]
        )  # fmt: skip
        # a quick look ends before everything that is remembered has reached its bound
        if soak.wrong or missing or (grown > GROWTH_LIMIT and not quick):
            found = f"gave {len(soak.wrong)} wrong answers, left out {missing} records and grew by {grown:.1%}"
            failures.append(f"the {kind} server {found}")
    header = ["server", "calls", "wrong", "records missing", "either way", "expired tokens", "retired keys",
              "streams ended", "policies loaded (refused)", "key rotations", "MB after warm-up", "MB at the end",
              "growth"]  # fmt: skip
    note = f"{seconds:g} s for each server, the first {warm_up:g} s to warm up, {CALLERS} callers and {STREAMS} streams"
    write("soak", __doc__ or "", header, rows, machine(note))
    if failures:
        raise SystemExit("\n".join(failures))


def _configure(folder: Path) -> Path:
    """A configuration that remembers few tokens, so that the memory is full long before the warm-up ends."""
    make_keys(folder / "keys")
    shutil.copytree((CONFIG.parent / "../../policies/default").resolve(), folder / "bundle")
    config = folder / "authz.yaml"
    text = CONFIG.read_text().replace("../../policies/default", "bundle")
    config.write_text(text.replace("authn:\n", "authn:\n  leeway: 0s\n  remembered: 500\n"))
    return config


if __name__ == "__main__":
    run()
