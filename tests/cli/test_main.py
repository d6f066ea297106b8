"""The dispatcher: one group's module is imported, and what a command answers becomes an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from authz import __version__, cli
from authz.cli import Exit, Subparsers, main
from authz.errors import ConfigError


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A group ``sample`` with one command, which answers or raises what the test puts into ``answer``."""
    module = ModuleType("authz.cli.sample")
    module.__spec__ = sys.modules["authz.cli"].__spec__

    def run(options: object) -> int:
        answer = module.answer
        if isinstance(answer, BaseException):
            raise answer
        return int(answer)

    def register(subparsers: Subparsers) -> None:
        commands = subparsers.add_parser("sample").add_subparsers(required=True)
        commands.add_parser("go").set_defaults(run=run)

    module.__dict__.update(register=register, answer=Exit.OK)
    monkeypatch.setitem(sys.modules, "authz.cli.sample", module)
    monkeypatch.setitem(cli.GROUPS, "sample", "for this test")
    return module


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Exit.OK, 0),
        (Exit.FINDING, 3),
        (ConfigError.at("a.yaml", "is empty"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_a_command_answers_is_the_exit_code(group: ModuleType, answer: object, code: int) -> None:
    group.__dict__["answer"] = answer
    assert main(["sample", "go"]) == code


def test_a_file_that_cannot_be_used_is_named(group: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    group.__dict__["answer"] = ConfigError.at("a.yaml", "is empty")
    main(["sample", "go"])
    assert capsys.readouterr().err == "a.yaml: is empty\n"


@pytest.mark.parametrize("words", [[], ["nothing"], ["sample"], ["sample", "nothing"], ["--nothing"]])
def test_a_wrong_command_line_is_2(group: ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == Exit.USAGE


def test_a_crash_is_1_and_a_closed_pipe_is_quiet_and_no_success() -> None:
    program = (
        "import sys, types; from authz import cli; from authz.cli import main;"
        "m = types.ModuleType('authz.cli.sample');"
        "m.__spec__ = cli.__spec__; cli.GROUPS['sample'] = ''; sys.modules['authz.cli.sample'] = m;"
        "m.register = lambda s: s.add_parser('sample').set_defaults(run=lambda o: print('x' * {size}) or {answer});"
        "sys.exit(main(['sample']))"
    )
    command = [sys.executable, "-c"]
    crashed = subprocess.run([*command, filled(program, 1, "1 / 0")], capture_output=True, text=True)
    assert (crashed.returncode, "ZeroDivisionError" in crashed.stderr) == (Exit.CRASH, True)
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    # more than fits into the pipe's buffer fails before there is an answer; less, when it is flushed afterwards
    for size, answer, expected in ((10**6, "0", 141), (10**6, "3", 141), (9, "3", 3), (9, "0", 0)):
        text = filled(program, size, answer)
        with subprocess.Popen([*command, text], stdout=-1, stderr=-1, env=buffered) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == expected


def filled(program: str, size: int, answer: str) -> str:
    return program.replace("{size}", str(size)).replace("{answer}", answer)


def test_the_version_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "authz", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"authz {__version__}\n"


def test_only_the_group_that_is_named_is_imported() -> None:
    program = (
        "import sys; from authz.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'casbin', 'duckdb', *('authz.cli.' + g for g in ('audit', 'policy', 'token', 'serve'))}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
