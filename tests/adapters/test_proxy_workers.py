"""`authz serve proxy` as a process: workers on one port, health, drain, and what a worker's end means to the others."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from h2.config import H2Configuration
from h2.connection import H2Connection

from authz.cli import main
from examples.orders.keys import Keys
from tests.adapters.behind import SERVICE, UNARY, Echo, Heard, Message, server_behind, write_descriptors
from tests.adapters.orders import configure

ROOT = Path(__file__).parents[2]
SETTINGS = """
serve:
  workers: {workers}
  drain: 3s
  health: 127.0.0.1:0
  proxy:
    listen: [{{address: "127.0.0.1:0", plaintext: true}}]
    upstream: {{address: "127.0.0.1:{port}", plaintext: true}}
    descriptors: [orders.binpb]
"""
EXT_AUTHZ = """
serve:
  ext_authz:
    listen: [{address: "127.0.0.1:0", plaintext: true}]
    namespaces_from: header
    namespace_header: x-namespace
"""
REQUEST = Message(namespace="acme", id="1").SerializeToString()


@dataclass
class Served:
    process: subprocess.Popen[str]
    port: int
    health: int
    keys: Keys
    folder: Path
    heard: Heard

    def token(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.keys.rsa.mint(permissions=['acme:read'])}")]

    def call(self, **options: Any) -> str:
        # a connection of its own: the kernel chooses the worker by connection
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                options = {"timeout": 10, "wait_for_ready": True, **options}
                metadata = [*self.token(), *options.pop("more", ())]
                channel.unary_unary(f"/{SERVICE}/{UNARY}")(REQUEST, metadata=metadata, **options)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

    def check(self) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{self.health}") as channel:
            return bytes(channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5, wait_for_ready=True))

    def workers(self) -> list[int]:
        """The pids of the worker processes."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in listed]

    def writers(self) -> set[str]:
        """Who has written decisions to the audit log."""
        lines = [line for log in (self.folder / "audit").rglob("*.jsonl") for line in log.read_text().splitlines()]
        return {record["writer"] for record in map(json.loads, lines) if record["event"] == "decision"}

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def served(folder: Path, workers: int, port: int, heard: Heard) -> Iterator[Served]:
    config, keys = configure(folder)
    write_descriptors(folder / "orders.binpb")
    text = config.read_text().replace("file: audit.jsonl", "directory: audit")
    config.write_text(text + SETTINGS.format(workers=workers, port=port))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "authz", "serve", "proxy", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("serving proxy on 127.0.0.1:"), (lines, (folder / "log").read_text())
        ports = [int(line.rpartition(":")[2]) for line in lines]
        yield Served(process, ports[0], ports[1], keys, folder, heard)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[int, Heard]]:
    heard = Heard()
    with server_behind(Echo(heard)) as port:
        yield port, heard


@pytest.fixture
def two(behind: tuple[int, Heard], tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, 2, *behind) as running:
        yield running


def run(what: str, config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`authz serve` with a configuration that it refuses."""
    command = [sys.executable, "-m", "authz", "serve", what, "--config", str(config), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def until(condition: Any, seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def not_utf8(port: int) -> None:
    """One request whose path is not UTF-8: no client library sends it, so it is made of frames."""
    settings = H2Configuration(header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(config=settings)
    connection.initiate_connection()
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/a\xff/b"),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    connection.send_headers(1, headers)
    connection.send_data(1, b"\0\0\0\0\0", end_stream=True)
    with socket.create_connection(("127.0.0.1", port), 5) as raw, suppress(OSError):
        raw.sendall(connection.data_to_send())
        raw.settimeout(0.5)
        while raw.recv(4096):
            pass


def test_both_workers_serve_and_write_a_log_each(two: Served) -> None:
    assert len(two.workers()) == 2
    # connections are dealt out by the kernel, by chance
    assert until(lambda: two.call() == "OK" and len(two.writers()) == 2)
    assert two.check() == b"\x08\x01"


def test_a_path_that_is_not_utf8_stops_nobody_for_long(two: Served) -> None:
    for _ in range(4):
        not_utf8(two.port)
        assert two.call() == "OK"
    if tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 84):
        assert "was shut down by a request (UnicodeDecodeError)" in two.log()
    assert two.check() == b"\x08\x01"


def test_a_worker_that_dies_is_replaced(two: Served) -> None:
    before = two.workers()
    os.kill(before[0], signal.SIGKILL)
    assert two.call() == "OK"
    assert until(lambda: len(two.workers()) == 2 and set(two.workers()) != set(before))
    assert "is started again" in two.log()
    # the new one may write where the old one wrote
    assert until(lambda: two.call() == "OK")


def test_a_drain_lets_calls_end_and_takes_no_more(behind: tuple[int, Heard], tmp_path: Path) -> None:
    with served(tmp_path, 1, *behind) as one, grpc.insecure_channel(f"127.0.0.1:{one.port}") as channel:
        stub = channel.stream_stream(f"/{SERVICE}/TrackOrders")
        asked: list[bytes] = [REQUEST]
        going = True

        def requests() -> Iterator[bytes]:
            while going:
                if asked:
                    yield asked.pop()
                time.sleep(0.02)

        reply = stub(requests(), metadata=one.token(), timeout=20)
        assert next(reply) == REQUEST
        one.process.send_signal(signal.SIGTERM)
        assert until(lambda: one.call(wait_for_ready=False, timeout=1) == "UNAVAILABLE", 3)
        asked.append(REQUEST)
        assert next(reply) == REQUEST
        going = False
        assert list(reply) == []
        assert reply.code() is grpc.StatusCode.OK
        assert one.process.wait(10) == 0


def test_everything_is_read_anew_on_sighup_without_a_gap(two: Served) -> None:
    before = set(two.workers())
    policy = two.folder / "policies"
    shutil.copytree(ROOT / "policies" / "default", policy)
    (policy / "policy.csv").write_text("p, role:reader, *, *, read, deny\n")
    text = (two.folder / "authz.yaml").read_text()
    changed = re.sub(r"bundle: .*", "bundle: policies", text)
    (two.folder / "authz.yaml").write_text(changed.replace("descriptors: [orders.binpb]", "descriptors: [none.binpb]"))
    two.process.send_signal(signal.SIGHUP)
    assert until(lambda: two.log().count("goes on with what it has read") == 2)
    assert two.call() == "OK"
    assert set(two.workers()) == before
    (two.folder / "authz.yaml").write_text(changed)
    two.process.send_signal(signal.SIGHUP)
    codes = []
    assert until(lambda: codes.append(two.call()) or not set(two.workers()) & before)  # type: ignore[func-returns-value]
    assert set(codes) <= {"OK", "PERMISSION_DENIED"}, "somebody always serves"
    assert two.call() == "PERMISSION_DENIED"


def test_a_port_that_another_server_listens_on_is_not_shared_with_it(two: Served) -> None:
    text = (two.folder / "authz.yaml").read_text().replace("127.0.0.1:0", f"127.0.0.1:{two.port}")
    (two.folder / "second.yaml").write_text(text)
    done = run("proxy", two.folder / "second.yaml")
    assert done.returncode == 4
    assert f"cannot listen on 127.0.0.1:{two.port}" in done.stderr


def test_the_authorizer_of_an_envoy_is_served_too(tmp_path: Path) -> None:
    config, _ = configure(tmp_path)
    text = config.read_text().replace("file: audit.jsonl", "directory: audit")
    config.write_text(text + EXT_AUTHZ)
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "serve", "ext-authz", "--config", str(config), "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving ext-authz on 127.0.0.1:")
        with grpc.insecure_channel(line.split()[-1]) as channel:
            ask = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
            answered = auth.CheckResponse.FromString(ask(b"", timeout=10))
        assert answered.status.code == 16
        assert answered.denied_response.status.code == 401
    finally:
        process.terminate()
        assert process.wait(15) == 0
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("what", ["proxy", "ext-authz"])
def test_help_teaches_what_to_write(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", what, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "descriptors: [" in shown
    assert "plaintext: true" in shown


def test_workers_end_with_their_supervisor(behind: tuple[int, Heard], tmp_path: Path) -> None:
    with served(tmp_path, 1, *behind) as one:
        (worker,) = one.workers()
        one.process.kill()
        one.process.wait()
        assert until(lambda: not Path(f"/proc/{worker}").exists())


def test_a_server_behind_that_is_gone_makes_it_unhealthy(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with served(tmp_path, 1, held.getsockname()[1], Heard()) as one:
            assert one.call() == "UNAVAILABLE"
            assert until(lambda: one.check() == b"\x08\x02")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("orders.binpb", "none.binpb", "none.binpb: cannot be read"),
        ("workers: 1", "wrokers: 1", "did you mean `workers`?"),
        ("workers: 1", "workers: 2", "write `directory:`"),
        ("plaintext: true}]", "}]", "`plaintext: true` where nobody can listen"),
        ("audiences:", "audience: [x]\n    audiences:", "audience"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    config, _ = configure(tmp_path)
    write_descriptors(tmp_path / "orders.binpb")
    text = config.read_text() + SETTINGS.format(workers=1, port=1)
    assert old in text
    config.write_text(text.replace(old, new, 1))
    for more in ([], ["--check"]):
        done = run("proxy", config, *more)
        assert done.returncode == 4, done.stderr
        assert said in done.stderr
