"""Init: a starter in an empty place: configuration, policy bundle, policy tests, with comments that teach."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from authz.errors import Place, PolicyError, Problem

STARTER: Final = {
    "authz.yaml": "authz.yaml",
    "policy/model.conf": "model.conf",
    "policy/policy.csv": "policy.csv",
    "policy/catalogue.yaml": "catalogue.yaml",
    "policy/tests.yaml": "tests.yaml",
    ".pre-commit-config.yaml": "pre-commit-config.yaml",
}
"""File of the starter -> where its text comes from."""


def init(folder: Path) -> list[Path]:
    """Write the starter into ``folder``, which is made if it is not there; the files, in order.

    Raises:
        PolicyError: one of the files is there already, or cannot be written; what is there is never overwritten.
    """
    there = [folder / name for name in STARTER if (folder / name).exists()]
    if there:
        remedy = "name another folder, or move it away"
        raise PolicyError(Problem(Place(str(file)), "is there already", remedy) for file in there)
    written = []
    for name, source in STARTER.items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                files("authz.admin").joinpath("starter", source).read_text(encoding="utf-8"), encoding="utf-8"
            )
        except OSError as exc:
            raise PolicyError.at(file, f"cannot be written: {exc.strerror}") from None
        written.append(file)
    return written
