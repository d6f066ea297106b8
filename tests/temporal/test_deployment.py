"""The files to deploy the proxy with: the systemd unit and the Containerfile, and that what they start works.

What starts has only the packages that `grpc-authz[proxy]` brings, as in an installation of its own.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

import grpc
import pytest
from packaging.requirements import Requirement

from examples.processes import free_port
from examples.temporal.parts import configure, describe

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "temporal"
UNIT = EXAMPLE / "authz-proxy.service"
CONTAINER = EXAMPLE / "Containerfile"
BINARY, FOLDER = "/opt/authz/bin/authz", "/etc/authz"


def unit() -> configparser.SectionProxy:
    """The section [Service]."""
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(UNIT)
    return found["Service"]


def instructions() -> list[tuple[str, str]]:
    """What the Containerfile says, a pair for each instruction."""
    lines = [line for line in CONTAINER.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def closure(requirement: str) -> dict[str, Distribution]:
    """The installed distributions that a requirement brings, by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(requirement)]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        found[wanted.name] = distribution(wanted.name)
        for line in found[wanted.name].requires or ():
            more = Requirement(line)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")):
                waiting.append(more)
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `authz` in an environment with nothing but what the Containerfile's pip installs."""
    (line,) = (text for name, text in instructions() if name == "RUN")
    wanted = next(word for word in shlex.split(line) if word.startswith("grpc-authz"))
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name, found in closure(wanted).items():
        for file in [] if name == "grpc-authz" else found.files or []:
            target = site / file
            if ".." not in file.parts and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(found.locate_file(file))  # type: ignore[arg-type]
    (site / "authz").symlink_to(ROOT / "authz")
    command = folder / "bin" / "authz"
    command.write_text(f"#!{folder}/bin/python\nimport sys\nfrom authz.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return command


@pytest.fixture(scope="module")
def folder(temporal_port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in /etc/authz, put there as the Containerfile puts it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("etc")
    configure(source, temporal_port, free_port())
    describe(temporal_port, source / "temporal.binpb")
    (source / "policies").symlink_to(ROOT / "policies")
    text = (source / "authz.yaml").read_text()
    (source / "authz.yaml").write_text(re.sub("bundle: .*", "bundle: policy", text))
    for files in (text.split() for name, text in instructions() if name == "COPY"):
        into = target / files[-1].removeprefix(FOLDER).strip("/")
        for file in files[:-1]:
            if (source / file).is_dir():
                shutil.copytree(source / file, into)
            else:
                shutil.copy(source / file, into)
    shutil.copytree(source / "keys", target / "keys")  # mounted
    return target


def here(command: str, installed: Path, folder: Path) -> list[str]:
    """A command of the unit or the Containerfile, with this machine's places in it."""
    words = shlex.split(command.replace(BINARY, str(installed)).replace(FOLDER, str(folder)))
    return [str(installed), *words[1:]] if words[0] == "authz" else words


def container_command() -> str:
    (text,) = (text for name, text in instructions() if name == "CMD")
    return " ".join(re.findall(r'"([^"]*)"', text))


def environment(installed: Path) -> dict[str, str]:
    return {"PATH": f"{installed.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}


@contextmanager
def started(command: str, installed: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process of a service or a container, once it says that it serves."""
    process = subprocess.Popen(
        here(command, installed, folder), cwd=folder, env=environment(installed), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving proxy on ")
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def works(folder: Path) -> None:
    """Health says serving; what needs no token passes to Temporal, and the rest does not."""
    text = (folder / "authz.yaml").read_text()
    health, port = (int(found[1]) for found in (re.search(what, text) for what in (
        r"health: 127\.0\.0\.1:([0-9]+)", r'address: "127\.0\.0\.1:([0-9]+)", tls'
    )) if found)  # fmt: skip
    with grpc.insecure_channel(f"127.0.0.1:{health}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20, wait_for_ready=True) == b"\x08\x01"
    credentials = grpc.ssl_channel_credentials((folder / "keys" / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        service = "/temporal.api.workflowservice.v1.WorkflowService"
        assert channel.unary_unary(f"{service}/GetSystemInfo")(b"", timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"{service}/ListNamespaces")(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def children(process: subprocess.Popen[str]) -> set[str]:
    return set(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


def test_the_commands_of_the_unit_check_serve_reload_and_drain(installed: Path, folder: Path) -> None:
    service = unit()
    check = here(service["ExecStartPre"], installed, folder)
    subprocess.run(check, cwd=folder, env=environment(installed), check=True, timeout=60, stdout=subprocess.DEVNULL)
    with started(service["ExecStart"], installed, folder) as process:
        works(folder)
        before = children(process)
        subprocess.run(shlex.split(service["ExecReload"].replace("$MAINPID", str(process.pid))), check=True)
        until = time.monotonic() + 40
        while children(process) & before and time.monotonic() < until:
            time.sleep(0.1)
        assert len(children(process) - before) == len(before)
        assert not children(process) & before
        works(folder)
        assert service["KillMode"] == "mixed"  # the supervisor alone is told, as here
        process.terminate()
        assert process.wait(float(service["TimeoutStopSec"].removesuffix("s"))) == 0


def test_what_the_container_starts_serves_and_drains(installed: Path, folder: Path) -> None:
    said = dict(instructions())
    assert said["USER"].isdigit(), "by its number a cluster sees that it is not root"
    assert said["WORKDIR"] == FOLDER
    with started(container_command(), installed, folder) as process:
        works(folder)
        process.send_signal(signal.Signals[said["STOPSIGNAL"]])
        assert process.wait(20) == 0


def test_the_container_installs_what_the_proxy_needs_and_a_grpcio_without_the_fault() -> None:
    said = dict(instructions())
    words = shlex.split(said["RUN"])
    assert "grpc-authz[proxy]" in words
    assert "grpcio==1.83.*" in words
    assert f"useradd --uid {said['USER']} " in said["RUN"]


@pytest.fixture
def analysed(installed: Path, tmp_path: Path) -> Path:
    """The unit with a command that is there."""
    if shutil.which("systemd-analyze") is None:
        message = "there is no systemd-analyze on this machine: run scripts/install-package systemd-analyze systemd"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(BINARY, str(installed)))
    return path


def test_systemd_finds_nothing_wrong_with_the_unit(analysed: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(analysed)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_service_well_shut_in(analysed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(analysed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
