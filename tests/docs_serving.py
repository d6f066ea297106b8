"""How the blocks of the pages about `authz serve` are executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from authz import load_config
from authz.adapters.worker import make_server
from authz.cli import main
from authz.config.serve import load_serve
from tests.adapters.behind import write_descriptors

ROOT = Path(__file__).parent.parent


def make(folder: Path, config: str) -> None:
    """Everything that `config` describes is made, as `authz serve` makes it before it listens."""
    write_descriptors(folder / "orders.binpb")
    write_descriptors(folder / "temporal.binpb")
    path = folder / "authz.yaml"
    path.write_text(config)
    settings = load_serve(path)
    with load_config(path) as engine:
        for what, found in (("proxy", settings.proxy), ("ext-authz", settings.ext_authz)):
            if found is not None:
                make_server(what, engine, settings)


def run_whole(body: str, folder: Path) -> None:
    """A configuration with its section `serve`."""
    make(folder, body)


def run_serve(body: str, folder: Path) -> None:
    """The section alone: it is added to the README's."""
    others = (folder / "authz.yaml").read_text()
    make(folder, re.sub(r"^audit:\n(?: .*\n)*", "audit: {directory: audit}\n", others, flags=re.M) + body)


def run_command(body: str, folder: Path) -> None:
    """Commands of `authz`: what would serve is only checked, and what would ask a server reads a file."""
    listen = '"127.0.0.1:0", plaintext: true'
    ext_authz = f"ext_authz: {{listen: [{{address: {listen}}}], descriptors: [orders.binpb]}}"
    proxy = f"proxy: {{listen: [{{address: {listen}}}], upstream: {{address: {listen}}}, descriptors: [orders.binpb]}}"
    run_serve(f"serve:\n  {proxy}\n  {ext_authz}\n", folder)
    commands = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "authz"
        if words[0] == "serve":
            words += [] if "--check" in words else ["--check"]
        if words[:2] == ["api", "discover"]:
            address = next(word for word in words[2:] if re.fullmatch(r"[\w.]+:\d+", word))
            words[words.index(address)] = f"--from={folder / 'orders.binpb'}"
        assert main(words) == 0, command


def run_shipped(name: str) -> Callable[[str, Path], None]:
    """A file that ships, word for word; what it copies and runs is there."""

    def run(body: str, folder: Path) -> None:
        assert body == (ROOT / name).read_text()
        for line in body.splitlines():
            command = re.match(r"ExecStart(?:Pre)?=\S+/authz (.*)|CMD \[\"authz\", (.*)\]", line)
            if command:
                words = re.findall(r"[^\s\",]+", command[1] or command[2])
                assert words[:4] == ["serve", "proxy", "--config", "/etc/authz/authz.yaml"]

    return run


SERVING: dict[tuple[str, str | None], Callable[[str, Path], None]] = {
    ("yaml", "authz.yaml with serve"): run_whole,
    ("yaml", "authz.yaml serve"): run_serve,
    ("console", "authz"): run_command,
    ("ini", "examples/temporal/authz-proxy.service"): run_shipped("examples/temporal/authz-proxy.service"),
    ("dockerfile", "examples/temporal/Containerfile"): run_shipped("examples/temporal/Containerfile"),
}
