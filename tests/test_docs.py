"""Every fenced block of the README and of docs/ is executed, by its language and its title.

A block of a language, or with a title, that no function here knows fails: nothing in the docs is just decoration. The
language ``text`` is for pictures and for what a program prints.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import authz
from authz import document
from authz.admin.test import run_tests
from authz.audit.checkpoint import SigningKey
from authz.config.authn import read_authn
from authz.config.plugins import METHODS
from authz.errors import ConfigError
from authz.policy.load import load_bundle
from examples.incident.__main__ import record
from examples.orders.keys import make_keys
from tests.docs_policy import POLICIES
from tests.docs_serving import SERVING

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.M | re.S)
BLOCKS = [
    pytest.param(language, title, body, id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in FENCE.finditer(page.read_text())
    for language, title, body in [match.groups()]
]
README_CONFIG = next(
    m[3] for m in FENCE.finditer((ROOT / "README.md").read_text()) if m[2] == "authz.yaml"
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: keys, the default bundle, and the configuration of the README."""
    make_keys(tmp_path / "keys")
    SigningKey.generate(tmp_path / "keys" / "audit.key")
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "authz.yaml").write_text(README_CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_console(body: str, folder: Path) -> None:
    """The commands of the README are targets that exist; `make test` runs this very test."""
    commands = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        assert command.startswith("make "), f"not executed here: {command}"
        done = subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def run_python(body: str, folder: Path) -> None:
    names: dict[str, Any] = {"authz": authz, "grpc": grpc, "Pool": ThreadPoolExecutor}
    exec(compile(body, "block", "exec"), names)
    if "engine" in names:
        names["engine"].close()


def run_tests_of_service(body: str, folder: Path) -> None:
    """A reader's own tests of their service, by pytest in a process of its own."""
    (folder / "test_orders.py").write_text(body)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "test_orders.py",
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{body.count('def test_')} passed" in done.stdout


def run_config(body: str, folder: Path) -> None:
    (folder / "authz.yaml").write_text(body)
    authz.load_config(folder / "authz.yaml").close()


def run_section(body: str, folder: Path) -> None:
    """One section of a configuration: it takes the place of the README's, or is added to it."""
    shutil.copytree(ROOT / "policies" / "default", folder / "policies" / "next")
    name = body.split(":")[0]
    others = re.sub(rf"^{name}:\n(?: .*\n)*", "", README_CONFIG, flags=re.M)
    run_config(others + body, folder)


def run_in_authn(body: str, folder: Path) -> None:
    """Lines of the section `authn`."""
    lines = "".join(f"  {line}\n" for line in body.splitlines())
    run_config(README_CONFIG.replace("authn:\n", "authn:\n" + lines), folder)


def run_entry_points(body: str, folder: Path) -> None:
    """What a package's pyproject.toml offers is what the example's does."""
    offered = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, points in tomllib.loads(body)["project"]["entry-points"].items():
        assert group in METHODS
        assert points.items() <= offered[group].items()


def run_plugins(body: str, folder: Path) -> None:
    """A configuration that names plugins of the example's package, in a process that has it."""
    offered = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "acme_authz-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-authz\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in offered.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    authn = README_CONFIG[README_CONFIG.index("authn:\n") :]
    (folder / "authz.yaml").write_text(body + authn)
    program = (
        "import authz\nwith authz.load_config('authz.yaml') as engine: print(engine.check(authz.Call('/a.B/C')).reason)"
    )
    paths = os.pathsep.join(map(str, [ROOT, ROOT / "examples" / "plugin", folder]))
    command, env = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)
    assert '"reason":"credential_missing"' in done.stdout, done.stderr


def run_authn(body: str, folder: Path) -> None:
    """The section is read, and nothing that it names is asked for keys."""
    (folder / "keys" / "revoked.txt").write_text("subject corp mallory\n")
    (folder / "authz.yaml").write_text(body)
    read_authn(document.load(folder / "authz.yaml", ConfigError).section("authn"))


def run_metrics(body: str, folder: Path) -> None:
    """In a process of its own, since a process has one provider; on a port that is free."""
    (folder / "authz.yaml").write_text(README_CONFIG + "telemetry: {}\n")
    assert "9464" in body
    scrape = """
import urllib.request
engine.check(authz.Call("/example.orders.v1.Orders/GetOrder"))
print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}").read().decode())
"""
    program = body.replace("start_http_server(9464", "server, _ = start_http_server(0") + scrape
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "authz_decisions_total{" in done.stdout, done.stderr


def run_policy(body: str, folder: Path) -> None:
    (folder / "policies" / "default" / "policy.csv").write_text(body)
    load_bundle(folder / "policies" / "default")


def run_temporal_policy(body: str, folder: Path) -> None:
    """Lines to be added to a bundle: it still loads, and without a doubt."""
    with (folder / "policies" / "temporal" / "policy.csv").open("a") as file:
        file.write(body)
    assert not load_bundle(folder / "policies" / "temporal").warnings


def run_tests_of_default(body: str, folder: Path) -> None:
    (folder / "policies" / "default" / "tests.yaml").write_text(body)
    results = run_tests(folder / "policies" / "default")
    assert not results.failures, "\n".join(map(str, results.failures))


def run_catalogue(body: str, folder: Path) -> None:
    (folder / "policies" / "default" / "catalogue.yaml").write_text(body)
    (folder / "policies" / "default" / "policy.csv").write_text("p, role:reader, *, *, read, allow\n")
    load_bundle(folder / "policies" / "default")


def run_record(body: str, folder: Path) -> None:
    """A record in the docs has the fields, in the order, that the log really has."""
    with authz.load_config(folder / "authz.yaml") as engine:
        engine.check(authz.Call("/example.orders.v1.Orders/GetOrder", ("acme",)))
    lines = map(json.loads, (folder / "audit.jsonl").read_text().splitlines())
    real = next(line for line in lines if line["event"] == "decision")
    assert list(json.loads(body)) == list(real)


@functools.cache
def incident() -> Path:
    """The folder that `python -m examples.incident` makes, once."""
    folder = Path(tempfile.mkdtemp(prefix="authz-docs-")) / "DEMO"
    folder.mkdir()
    atexit.register(shutil.rmtree, folder.parent)
    record(folder)
    return folder


def run_incident(body: str, folder: Path) -> None:
    """The commands print what stands below them, blanks aside; there may be more before, between and behind."""
    copy = folder / "DEMO"
    shutil.copytree(incident(), copy)
    said = ""
    for line in body.splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:])
            assert words[:2] == ["authz", "audit"]
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=copy,
                capture_output=True,
                text=True,
                env={**os.environ, "COLUMNS": "400"},
            )
            assert done.returncode in (0, 3), done.stderr
            said = " ".join(done.stdout.split())
        else:
            assert " ".join(line.split()) in said, f"{line}\nis not in\n{done.stdout}"


def run_text(body: str, folder: Path) -> None:
    assert body.strip()


RUNNERS: dict[tuple[str, str | None], Callable[[str, Path], None]] = {
    ("console", None): run_console,
    ("console", "incident"): run_incident,
    ("python", None): run_python,
    ("python", "test_orders.py"): run_tests_of_service,
    ("python", "metrics.py"): run_metrics,
    ("yaml", "authz.yaml"): run_config,
    ("yaml", "authz.yaml authn.failure_limit"): run_in_authn,
    ("yaml", "authz.yaml authn"): run_authn,
    ("yaml", "authz.yaml policy"): run_section,
    ("yaml", "authz.yaml with plugins"): run_plugins,
    ("toml", "pyproject.toml"): run_entry_points,
    ("yaml", "authz.yaml telemetry"): run_section,
    ("yaml", "catalogue.yaml"): run_catalogue,
    ("csv", "policy.csv"): run_policy,
    ("csv", "policies/temporal/policy.csv"): run_temporal_policy,
    ("yaml", "tests.yaml"): run_tests_of_default,
    ("json", "audit record"): run_record,
    ("text", None): run_text,
    **SERVING,
    **POLICIES,
}


@pytest.mark.parametrize(("language", "title", "body"), BLOCKS)
def test_block(language: str, title: str | None, body: str, folder: Path) -> None:
    RUNNERS[language, title](body, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_fenced_with_its_language(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
    assert fences[1::2] == ["```"] * (len(fences) // 2)
    assert "```" not in fences[0::2]
