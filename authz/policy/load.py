"""Load: a bundle's folder -> Revision, all or nothing.

A bundle is a folder with ``model.conf``, ``policy.csv`` and ``catalogue.yaml``. Further policy files may stand in
``policy.d/``; they follow ``policy.csv`` in the order of their names. The bundle's own tests are no part of it.

What cannot be read is never taken for what is not there: a denial may stand in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from authz.errors import Place, PolicyError, Problem
from authz.policy.catalogue import Catalogue, parse_catalogue
from authz.policy.check import LineCheck, check_model
from authz.policy.collector import collector_put_off
from authz.policy.lines import PolicyLines
from authz.policy.matcher import parse_matcher
from authz.policy.matcher_check import MatcherCheck
from authz.policy.model import Model, read_model
from authz.policy.revision import Revision

MODEL: Final = "model.conf"
POLICY: Final = "policy.csv"
MORE_POLICY: Final = "policy.d"
CATALOGUE: Final = "catalogue.yaml"
_BYTES_LIMIT: Final = 256 * 1024 * 1024
_SUFFIX: Final = ".csv"


def load_bundle(path: Path) -> Revision:
    """Read the bundle in the folder ``path``, every file once.

    Raises:
        PolicyError: everything that is wrong with it, in the order model, catalogue, policy.
    """
    files = read_files(path)
    with collector_put_off():
        return parse_bundle(path, files, strays(path))


def bundle_files(path: Path) -> list[Path]:
    """The files of the bundle in ``path``, in the order in which they are read; not all of them need exist.

    Raises:
        PolicyError: as :func:`policy_files`.
    """
    return [path / MODEL, path / CATALOGUE, *policy_files(path)]


def policy_files(path: Path) -> list[Path]:
    """The policy files among them.

    Raises:
        PolicyError: ``policy.d`` is there and cannot be read, or holds a policy file whose name is mistyped.
    """
    return [path / POLICY, *policies_among(_more(path))]


def policies_among(files: Iterable[Path]) -> list[Path]:
    """The policy files among ``files``, all of a folder ``policy.d``, in the order in which they are read.

    Raises:
        PolicyError: a name is nearly that of a policy file.
    """
    seen = sorted(file for file in files if not _is_tools_own(file.name))
    if mistyped := [Problem(Place(str(file)), _UNREAD, _RENAME) for file in seen if _is_nearly_policy(file)]:
        raise PolicyError(mistyped)
    return [file for file in seen if file.suffix == _SUFFIX]


def strays(path: Path) -> list[Problem]:
    """What else stands in the bundle in ``path`` where somebody may think that it counts.

    Raises:
        PolicyError: the folder, or ``policy.d``, is there and cannot be read.
    """
    try:
        beside = sorted(file for file in path.iterdir() if file.suffix == _SUFFIX and file.name != POLICY)
    except OSError as exc:
        raise PolicyError.at(path, f"cannot be read: {exc.strerror}") from None
    further = sorted(file for file in _more(path) if file.suffix != _SUFFIX)
    return [
        *(Problem(Place(str(file)), _BESIDE, _MOVE) for file in beside if not _is_tools_own(file.name)),
        *(Problem(Place(str(file)), _UNREAD, _RENAME) for file in further if not _is_tools_own(file.name)),
    ]


_BESIDE: Final = f"is not read: beside `{POLICY}`, the policy files stand in `{MORE_POLICY}`"
_MOVE: Final = f"move it to `{MORE_POLICY}` if it holds policy; if not, elsewhere, or begin its name with a dot"


_UNREAD: Final = f"is not read: the policy files of `{MORE_POLICY}` are those named *{_SUFFIX}"
_RENAME: Final = f"end its name in `{_SUFFIX}` if it holds policy; if not, move it elsewhere, or begin it with a dot"


def _more(path: Path) -> list[Path]:
    """Whatever stands in the ``policy.d`` of the bundle in ``path``; nothing, if there is no such folder."""
    folder = path / MORE_POLICY
    try:
        return list(folder.iterdir())
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and not folder.is_symlink():
            return []
        remedy = "mend it, or remove it if the bundle has no such folder"
        raise PolicyError.at(folder, f"cannot be read: {exc.strerror}", remedy) from None


def _is_tools_own(name: str) -> bool:
    """Whether an editor, an orchestrator (``..data``) or a version control keeps something of its own in ``name``."""
    return name[0] in ".#" or name[-1] == "~"


def _is_nearly_policy(file: Path) -> bool:
    name, suffix = file.name.lower(), file.suffix
    return name.endswith(f"{_SUFFIX}.txt") or (suffix != _SUFFIX and sorted(suffix.lower()) == sorted(_SUFFIX))


def read_files(path: Path) -> dict[Path, bytes]:
    """The bytes of each file of the bundle in ``path``, in the order in which they are read.

    Raises:
        PolicyError: a file is missing, cannot be read or is larger than 256 MiB.
    """
    try:
        is_folder = path.is_dir()
    except OSError as exc:
        raise PolicyError.at(path, f"cannot be read: {exc.strerror}") from None
    if not is_folder:
        raise PolicyError.at(path, "is no folder", f"name a folder with {MODEL}, {POLICY} and {CATALOGUE}")
    problems: list[Problem] = []
    files: dict[Path, bytes] = {}
    for file in bundle_files(path):
        try:
            if file.exists() and not file.is_file():
                problems.append(Problem(Place(str(file)), "is no regular file", "a pipe or a folder holds no policy"))
                continue
            with file.open("rb") as stream:
                data = stream.read(_BYTES_LIMIT + 1)
        except FileNotFoundError:
            problems.append(Problem(Place(str(file)), "is missing", "a bundle needs it, even if it has nothing to say"))
        except OSError as exc:
            problems.append(Problem(Place(str(file)), f"cannot be read: {exc.strerror}"))
        else:
            if len(data) > _BYTES_LIMIT:
                problems.append(Problem(Place(str(file)), f"is larger than {_BYTES_LIMIT} bytes"))
            files[file] = data
    if problems:
        raise PolicyError(problems)
    return files


def parse_bundle(path: Path, files: Mapping[Path, bytes], beside: Sequence[Problem] = ()) -> Revision:
    """The bundle that ``files`` (as :func:`read_files` gives them) are; ``path`` is for messages. Reads no file.

    ``beside`` are warnings of what stands beside the files (:func:`strays`).

    Raises:
        PolicyError: as :func:`load_bundle`.
    """
    problems: list[Problem] = []
    model: Model | None = None
    catalogue: Catalogue | None = None
    lines = PolicyLines()
    digest = hashlib.sha256()
    for file, data in files.items():
        name = file.relative_to(path).as_posix().encode()
        digest.update(b"%d:%s%d:" % (len(name), name, len(data)))
        digest.update(data)
        try:
            if file.name == CATALOGUE:
                catalogue = parse_catalogue(data, file)
            elif file.name == MODEL:
                model = read_model(_text(data, file), str(file))
            else:
                lines.add(_text(data, file), str(file), problems)
        except PolicyError as exc:
            problems += exc.problems
    if model is None or catalogue is None:
        raise PolicyError(problems)
    problems[:0] = check_model(model)
    try:
        tree = parse_matcher(model)
    except PolicyError as exc:
        raise PolicyError([*exc.problems, *problems]) from None
    matcher = MatcherCheck(model, tree, lines)
    if matcher.problems:
        # what the lines mean hangs on what is asked of them
        raise PolicyError([*matcher.problems, *problems])
    check = LineCheck(model, tree, catalogue, lines)
    problems += check.problems
    if problems:
        raise PolicyError(problems)
    return Revision(
        digest.hexdigest(), path, model.text, lines, catalogue, (*beside, *matcher.warnings, *check.warnings)
    )


def _text(data: bytes, file: Path) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        column = exc.start - data.rfind(b"\n", 0, exc.start)
        raise PolicyError.at(Place(str(file), line, column), "is not UTF-8", "save the file as UTF-8") from None
    if text.startswith("\ufeff"):
        remedy = "save the file as UTF-8 without one"
        raise PolicyError.at(
            Place(str(file), 1, 1), "begins with a byte order mark, which spoils the first line", remedy
        )
    return text
