"""The policies that were in force are kept beside the log, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from authz.audit.shelf import SHELF, find_on_shelf, shelve
from authz.errors import AuditError
from authz.policy.load import load_bundle

DEFAULT = Path(__file__).parents[2] / "policies" / "default"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT, tmp_path / "bundle"))


def test_a_policy_is_kept_once_and_found(bundle: Path, tmp_path: Path) -> None:
    revision = load_bundle(bundle).id
    tmp_path /= "logs"  # whose parent is looked at below, and is no other test's
    tmp_path.mkdir()
    kept = shelve(bundle, revision, tmp_path)
    assert load_bundle(kept).id == revision
    assert not (kept / "tests.yaml").exists()
    shutil.rmtree(bundle)
    assert shelve(bundle, revision, tmp_path) == kept
    for place in (tmp_path, tmp_path / "audit.jsonl", tmp_path / "lane" / "audit.jsonl"):
        place.parent.mkdir(exist_ok=True)
        assert find_on_shelf(revision, [place]) == kept
    assert find_on_shelf(revision, [tmp_path.parent]) == kept
    assert find_on_shelf("0" * 64, [tmp_path]) is None


def test_a_bundle_that_changed_meanwhile_is_not_kept(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="has changed since it was loaded"):
        shelve(bundle, "0" * 64, tmp_path)
    (bundle / "policy.csv").write_text("p, nonsense\n")
    with pytest.raises(AuditError, match="could not be kept"):
        shelve(bundle, "0" * 64, tmp_path)
    shutil.rmtree(bundle)
    with pytest.raises(AuditError, match="could not be kept"):
        shelve(bundle, "0" * 64, tmp_path)
    assert not list((tmp_path / SHELF).iterdir())
