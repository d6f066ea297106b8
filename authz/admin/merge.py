"""Merge: the rules of a pack, added to a bundle. What is there already is not added again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from authz.admin.format import format_text
from authz.errors import PolicyError
from authz.policy.load import POLICY, load_bundle, parse_bundle, read_files


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge adds.

    Attributes:
        path: the file that it is added to.
        added: the lines, in Casbin's form.
        present: how many lines of the pack were there already.
        text: the file with them.
    """

    path: Path
    added: tuple[str, ...]
    present: int
    text: str


def merge(bundle: Path, pack: Path, *, write: bool = True) -> Merged:
    """Add the rules of ``pack`` (a policy file, or a bundle's folder) to the ``policy.csv`` of ``bundle``.

    The bundle that comes of it is read as strictly as a server would before anything is written. The comment above a
    line of the pack comes with it.

    Raises:
        PolicyError: the bundle cannot be used, without the pack or with it; nothing is written.
    """
    known = {line.text for line in load_bundle(bundle).lines}
    source = pack / POLICY if pack.is_dir() else pack
    try:
        text = source.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyError.at(source, "cannot be read", str(getattr(exc, "strerror", "it is not UTF-8"))) from None
    added: list[str] = []
    block: list[str] = []
    pending: list[str] = []
    present = 0
    for line in format_text(text, str(source)).splitlines():
        if line.startswith("#"):
            pending.append(line)
        elif not line:
            pending = []
        elif line in known:
            present += 1
            pending = []
        else:
            block += [*pending, line]
            added.append(line)
            known.add(line)
            pending = []
    target = bundle / POLICY
    before = target.read_bytes().decode("utf-8")
    after = before
    if added:
        name = pack.name if pack.is_dir() else pack.stem
        after = format_text(f"{before.rstrip()}\n\n# --- from the pack {name}\n" + "\n".join(block) + "\n", str(target))
        files = read_files(bundle)
        files[target] = after.encode("utf-8")
        parse_bundle(bundle, files)
        if write:
            target.write_bytes(files[target])
    return Merged(target, tuple(added), present, after)
