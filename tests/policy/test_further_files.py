"""Further policy files: what stands in policy.d, and beside the files that are read."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from pathlib import Path

import pytest

from authz.errors import PolicyError
from authz.policy import load
from authz.policy.load import load_bundle
from tests.bundle import write_bundle

DENIAL = "p, role:reader, *, *, read, deny\n"


def test_a_further_folder_that_cannot_be_read_is_not_one_that_is_not_there(tmp_path: Path) -> None:
    """A denial may stand in it."""
    bundle = write_bundle(tmp_path / "b")
    more = bundle / "policy.d"
    more.mkdir()
    (more / "10.csv").write_text(DENIAL)
    held: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(PolicyError, match=r"policy\.d: cannot be read: Too many open files"):
            load.bundle_files(bundle)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    shutil.rmtree(more)
    for there, why in (("/nonexistent/mount", "No such file"), ("policy.d", "Too many levels"), (None, "Not a dir")):
        if there:
            more.symlink_to(there)
        else:
            more.write_text(DENIAL)
        with pytest.raises(PolicyError, match=rf"policy\.d: cannot be read: {why}.*; mend it, or remove it"):
            load_bundle(bundle)
        more.unlink()
    assert len(load_bundle(bundle).lines) == 3


@pytest.mark.parametrize("name", ["10.CSV", "10.Csv", "10.csv.txt", "10.cvs"])
def test_a_further_file_whose_name_is_mistyped(tmp_path: Path, name: str) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / "policy.d").mkdir()
    (bundle / "policy.d" / name).write_text(DENIAL)
    with pytest.raises(PolicyError, match=rf"policy\.d/{name}: is not read.*end its name in `.csv`"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["README", "10.csv.disabled", "10", "more/10.csv"])
def test_what_stands_beside_the_further_files_is_told(tmp_path: Path, name: str) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / "policy.d" / name).parent.mkdir(parents=True)
    (bundle / "policy.d" / name).write_text(DENIAL)
    revision = load_bundle(bundle)
    assert len(revision.lines) == 3
    assert [each.message for each in revision.warnings] == [
        "is not read: the policy files of `policy.d` are those named *.csv"
    ]


def test_a_policy_file_that_stands_where_none_is_read_is_told(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / "suspended.csv").write_text(DENIAL)
    (bundle / ".suspended.csv").write_text(DENIAL)
    (warning,) = load_bundle(bundle).warnings
    assert str(warning.place) == str(bundle / "suspended.csv")
    assert warning.message == "is not read: beside `policy.csv`, the policy files stand in `policy.d`"
