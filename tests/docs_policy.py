"""How the blocks about policies are executed: walks, which are told over several blocks of a page, and bundles.

To fill in what the commands of a walk print: python -m tests.docs_policy PAGE, and read the difference in git.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import casbin

from authz.cli import main
from authz.policy.load import load_bundle

ROOT = Path(__file__).parent.parent
WALK = re.compile(r"^```console title=\"policy walk\"\n(.*?)^```$", re.M | re.S)


def run_walk(body: str, folder: Path) -> None:
    """A block of a walk: after all blocks of its page before it, and with what it shows as what is printed."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = next(found for page in pages if body in (found := WALK.findall(page.read_text())))
    before = blocks[: blocks.index(body)]
    (folder / "walk").mkdir()
    folder = (folder / "policies").rename(folder / "walk" / "policies").parent
    for block in before:
        _printed(block, folder)
    assert _comparable(_printed(body, folder)) == _comparable(body)


def _printed(block: str, folder: Path) -> str:
    """The commands of ``block``, each with what it prints."""
    lines = []
    for line in block.splitlines():
        if line.startswith("$ "):
            lines.append(line)
            lines += _run(line[2:], folder).splitlines()
    return "\n".join(lines) + "\n"


def _run(command: str, folder: Path) -> str:
    if not re.match(r"authz [^|;&>]*$", command):
        git = {f"GIT_{who}_{what}": "rita" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **git, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr
    words = [word.strip("\"'") for word in re.findall(r"\"[^\"]*\"|'[^']*'|\S+", command)]
    printed = io.StringIO()
    who = {"LOGNAME": "rita", "NO_COLOR": "1", "COLUMNS": "100"}
    with contextlib.chdir(folder), mock.patch.dict(os.environ, who), contextlib.ExitStack() as streams:
        streams.enter_context(contextlib.redirect_stdout(printed))
        streams.enter_context(contextlib.redirect_stderr(printed))
        main(words[1:])
    return printed.getvalue()


def _comparable(text: str) -> str:
    """``text`` without what differs each time: revisions, keys, moments, and lines that are left out as ``...``."""
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "<id>", text)
    text = re.sub(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", "<moment>", text)
    return re.sub(r"\bstore@[0-9a-f]+", "store@<id>", text)


def run_break_glass(body: str, folder: Path) -> None:
    """Rules of the bundle with ends."""
    (folder / "policies" / "break-glass" / "policy.csv").write_text(body)
    load_bundle(folder / "policies" / "break-glass")


def run_break_glass_model(body: str, folder: Path) -> None:
    """The two lines of the model that make rules end are those of the bundle that ships."""
    model = (folder / "policies" / "break-glass" / "model.conf").read_text()
    for line in body.splitlines():
        if not line.startswith("["):
            assert line in model


def run_stock_casbin(body: str, folder: Path) -> None:
    """The setup that a stock Casbin needs for rules that end."""
    names: dict[str, object] = {"casbin": casbin}
    exec(compile(body, "block", "exec"), names)


POLICIES: dict[tuple[str, str | None], Callable[[str, Path], None]] = {
    ("console", "policy walk"): run_walk,
    ("csv", "policies/break-glass/policy.csv"): run_break_glass,
    ("ini", "model.conf"): run_break_glass_model,
    ("python", "stock Casbin"): run_stock_casbin,
}


def _fill(page: Path) -> None:
    """Write what the commands print into the walk of ``page``."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["cp", "-r", str(ROOT / "policies"), name], check=True)
        text = page.read_text()
        for block in WALK.findall(text):
            text = text.replace(block, _printed(block, folder), 1)
        page.write_text(text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _fill(Path(argument))
