"""Two distributions write the same folder `casbin`: with both installed, nobody knows which one decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from authz.policy.distributions import refuse_two_casbins


def distribution(folder: Path, name: str, version: str) -> None:
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_here_there_is_one() -> None:
    refuse_two_casbins()


def test_two_are_refused_where_the_room_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "casbin", "1.43.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"casbin 1\.43\.0 and pycasbin .* pip uninstall --yes casbin pycasbin"):
        refuse_two_casbins()
    command = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import authz.decision.casbin"
    ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert "pip install" in ran.stderr
    assert ran.returncode == 1


def test_the_old_one_alone_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "casbin", "1.43.0")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ImportError, match="pip install pycasbin"):
        refuse_two_casbins()


def test_importing_authz_imports_no_casbin() -> None:
    command = "import sys, authz.decision, authz.policy.load, authz.policy.watch; sys.exit('casbin' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
