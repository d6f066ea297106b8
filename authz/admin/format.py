"""Format: a policy file as everybody writes it: one blank after a comma, no blank lines twice. Comments stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from authz.errors import PolicyError, Problem
from authz.policy.lines import PolicyLines
from authz.policy.load import policy_files


@dataclass(frozen=True, slots=True)
class Formatted:
    """A policy file, before and after."""

    path: Path
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether anything would be written otherwise."""
        return self.before != self.after


def format_text(text: str, path: str = "policy.csv") -> str:
    """``text`` in the one form. Formatting what is formatted changes nothing, and no rule ever changes.

    Raises:
        PolicyError: something in it is no policy line, so that nobody knows what is meant.
    """
    problems: list[Problem] = []
    before = PolicyLines()
    before.add(text, path, problems)
    if problems:
        raise PolicyError(problems)
    written: list[str] = []
    for raw in text.replace("\r\n", "\n").split("\n"):
        line = raw.strip()
        if not line:
            if written and written[-1]:
                written.append("")
        elif line.startswith("#"):
            written.append(line)
        else:
            written.append(", ".join(part.strip() for part in line.split(",")))
    while written and not written[-1]:
        written.pop()
    return "\n".join([*written, ""]) if written else ""


def format_bundle(path: Path, *, write: bool = True) -> list[Formatted]:
    """Format the policy files of the bundle in the folder ``path``, or the one file ``path``.

    Args:
        path: a folder or a file.
        write: whether to write what has changed; all files are read before any is written.

    Raises:
        PolicyError: a file cannot be read, or not be understood.
    """
    files = [path] if path.is_file() else policy_files(path)
    found = []
    for file in files:
        try:
            text = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise PolicyError.at(file, f"cannot be read: {reason}") from None
        found.append(Formatted(file, text, format_text(text, str(file))))
    for each in found:
        if write and each.changed:
            each.path.write_bytes(each.after.encode("utf-8"))
    return found
