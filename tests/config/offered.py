"""A package that offers a plugin, as pip would leave it in a folder of installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str, source: str, package: str) -> None:
    """Install ``package`` into ``folder``: a module with ``source``, whose ``make`` is the plugin ``name``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {package}:make\n")
    monkeypatch.syspath_prepend(str(folder))
