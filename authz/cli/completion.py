"""``authz completion``: completion of groups, commands and options, as a script for a shell."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

_BASH = """\
# completion of authz; in your shell's start file: eval "$(authz completion bash)"
_authz() {{
  local word path="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path ${{COMP_WORDS[i]}}" in
      {paths}) path="$path ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case "$path" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$word" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _authz authz
"""


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "completion",
        help="completion of commands and options, for shells",
        description="Print a script that completes groups, commands and options.",
        epilog='bash, zsh: eval "$(authz completion bash)"      fish: authz completion fish | source',
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    found = dict(_words(_whole(), ()))
    if options.shell == "fish":
        for path, words in found.items():
            seen = " ".join(path)
            condition = f"__fish_seen_subcommand_from {path[-1]}" if path else "__fish_use_subcommand"
            for word in words:
                kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
                print(f"complete -c authz -n '{condition}' {kind}  # authz {seen}".rstrip())
        return 0
    if options.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    paths = "|".join(f'" {" ".join(path)}"' for path in found if path)
    cases = "\n".join(
        f'    "{"".join(f" {each}" for each in path)}") word="{" ".join(words)}" ;;' for path, words in found.items()
    )
    print(_BASH.format(paths=paths, cases=cases), end="")
    return 0


def _whole() -> argparse.ArgumentParser:
    """The parser with every group."""
    from authz.cli import GROUPS

    parser = argparse.ArgumentParser(prog="authz")
    subparsers = parser.add_subparsers()
    for group in GROUPS:
        if find_spec(f"authz.cli.{group}") is not None:
            importlib.import_module(f"authz.cli.{group}").register(subparsers)
    return parser


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """What can follow ``path``, and further."""
    ready = getattr(parser, "ready", None)
    if ready is not None:
        ready()
    words: list[str] = []
    further: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        words += [name for name in action.option_strings if name.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            further |= action.choices
    yield path, [*further, *words]
    for name, each in further.items():
        yield from _words(each, (*path, name))
