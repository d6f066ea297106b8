"""Changes of a policy on disk, in every way that files change, and what the watcher makes of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.errors import PolicyError
from authz.policy import watch
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.policy.watch import DirectorySource, Watcher
from tests.bundle import POLICY, write_bundle

OTHER = POLICY + "p, role:other, *, *, read, allow\n"
BROKEN = POLICY + "p, role:other, *, *, reed, allow\n"


class Watched:
    """A watcher that is looked through by hand, and what it said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        first = load_bundle(path).id if (path / "policy.csv").exists() else None
        self.watcher = Watcher(DirectorySource(path), first, self._revision, self._rejected)
        self.look()

    def _revision(self, revision: Revision) -> None:
        self.said.append(f"{len(revision.lines)} lines")

    def _rejected(self, error: PolicyError) -> None:
        self.said.append(error.problems[0].message)

    def look(self) -> list[str]:
        """What the watcher says when it has looked often enough to see whatever there is."""
        self.said.clear()
        for _ in range(3):
            self.watcher.look()
        return self.said


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(write_bundle(tmp_path / "b"))


def overwrite(path: Path, policy: str) -> None:
    (path / "policy.csv").write_text(policy)


def rename_over(path: Path, policy: str) -> None:
    (path / ".policy.csv.swp").write_text(policy)
    (path / ".policy.csv.swp").rename(path / "policy.csv")


def delete_and_write(path: Path, policy: str) -> None:
    (path / "policy.csv").unlink()
    (path / "policy.csv").write_text(policy)


WAYS = [overwrite, rename_over, delete_and_write]


@pytest.mark.parametrize("way", WAYS)
def test_a_change_is_noticed_once(watched: Watched, way: Callable[[Path, str], None]) -> None:
    assert watched.look() == []
    way(watched.path, OTHER)
    assert watched.look() == ["4 lines"]
    assert watched.look() == []
    way(watched.path, BROKEN)
    assert watched.look() == ["`reed` is no access"]
    assert watched.look() == []
    way(watched.path, OTHER)
    assert watched.look() == []
    way(watched.path, POLICY)
    assert watched.look() == ["3 lines"]


def test_a_change_that_keeps_size_and_time_is_noticed(watched: Watched) -> None:
    file = watched.path / "policy.csv"
    before = file.stat()
    file.write_text(POLICY.replace("read, allow", "read, deny ", 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.look() == ["3 lines"]


def test_a_file_more_or_less(watched: Watched) -> None:
    (watched.path / "policy.d").mkdir()
    assert watched.look() == []
    (watched.path / "policy.d" / "a.csv").write_text("p, role:x, *, *, read, allow")
    assert watched.look() == ["4 lines"]
    (watched.path / "policy.d" / "a.csv").unlink()
    assert watched.look() == ["3 lines"]
    (watched.path / "policy.csv").unlink()
    assert watched.look() == ["is missing"]


def test_the_symlink_swap_of_a_config_map(tmp_path: Path) -> None:
    write_bundle(tmp_path / "..2026_1")
    (tmp_path / "..data").symlink_to("..2026_1")
    bundle = tmp_path / "b"
    bundle.mkdir()
    for name in ("model.conf", "policy.csv", "catalogue.yaml"):
        (bundle / name).symlink_to(Path("..") / "..data" / name)
    watched = Watched(bundle)
    write_bundle(tmp_path / "..2026_2", OTHER)
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert watched.look() == ["4 lines"]


def test_a_config_map_that_is_the_further_folder(watched: Watched) -> None:
    more = watched.path / "policy.d"
    line = "p, role:x, *, *, read, allow\n"
    for folder, policy in (("..2026_1", line), ("..2026_2", line + line.replace("x", "y"))):
        (more / folder).mkdir(parents=True)
        (more / folder / "10.csv").write_text(policy)
    (more / "..data").symlink_to("..2026_1")
    (more / "10.csv").symlink_to(Path("..data") / "10.csv")
    assert watched.look() == ["4 lines"]
    assert load_bundle(watched.path).warnings == ()
    (more / "..data_tmp").symlink_to("..2026_2")
    (more / "..data_tmp").rename(more / "..data")
    assert watched.look() == ["5 lines"]


def test_a_further_folder_that_cannot_be_read_is_told_and_nothing_of_it_is_dropped(watched: Watched) -> None:
    more = watched.path / "policy.d"
    more.mkdir()
    (more / "10.csv").write_text("p, role:reader, *, *, *, deny\n")
    assert watched.look() == ["4 lines"]
    more.rename(watched.path / "away")
    more.symlink_to("/nonexistent/mount")
    assert watched.look() == ["cannot be read: No such file or directory"]
    assert watched.look() == []
    more.unlink()
    (watched.path / "away").rename(more)
    assert watched.look() == []
    (more / "10.csv").rename(more / "10.CSV")
    assert watched.look() == ["is not read: the policy files of `policy.d` are those named *.csv"]


def test_what_was_refused_is_tried_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be mended elsewhere: a disk, a limit of open files. No file need change for that."""
    moment = [1000.0]
    monkeypatch.setattr(watch, "_now", lambda: moment[0])
    overwrite(watched.path, OTHER)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        assert watched.look() == ["cannot be read: Too many open files"]
    assert watched.look() == []
    moment[0] += 10
    assert watched.look() == ["4 lines"]
    moment[0] += 10
    monkeypatch.setattr(DirectorySource, "load", lambda _: pytest.fail("what is in force is not read again"))
    assert watched.look() == []


def test_a_half_written_file_is_left_alone(watched: Watched) -> None:
    for end in range(1, len(OTHER), 7):
        overwrite(watched.path, OTHER[:end])
        watched.watcher.look()
    assert watched.said == []
    overwrite(watched.path, OTHER)
    assert watched.look() == ["4 lines"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DirectorySource(write_bundle(tmp_path / "b"))
    signatures = iter([1, 2])
    monkeypatch.setattr(source, "signature", lambda: next(signatures))
    with pytest.raises(PolicyError, match="changed while it was being read"):
        source.load()


def test_it_is_looked_at_again_if_it_changed_while_it_was_read(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: DirectorySource) -> Revision:
        overwrite(source.path, OTHER)
        raise PolicyError.at("b", "changed")

    overwrite(watched.path, BROKEN)
    with monkeypatch.context() as patched:
        patched.setattr(DirectorySource, "load", load)
        watched.watcher.look()
        watched.watcher.look()
    assert watched.said == []
    assert watched.look() == ["4 lines"]


def test_a_revision_that_nobody_can_evaluate_is_rejected_once(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", OTHER)
    said: list[str] = []

    def refuse(_: Revision) -> None:
        raise PolicyError.at("model.conf", "cannot be compiled")

    watcher = Watcher(DirectorySource(bundle), None, refuse, lambda error: said.append(str(error)))
    for _ in range(4):
        watcher.look()
    assert said == ["model.conf: cannot be compiled"]


def test_a_source_that_has_only_load(tmp_path: Path) -> None:
    revisions = [load_bundle(write_bundle(tmp_path / "a")), load_bundle(write_bundle(tmp_path / "b", OTHER))]
    said: list[str] = []

    class Source:
        now = 0

        def load(self) -> Revision:
            if self.now > 1:
                raise PolicyError.at("database", "is away")
            return revisions[self.now]

    source = Source()
    watcher = Watcher(source, None, lambda revision: said.append(revision.id), lambda error: said.append(str(error)))
    for source.now in (0, 0, 1, 1, 2, 2, 1, 0):
        watcher.look()
    assert said == [revisions[0].id, revisions[1].id, "database: is away", revisions[0].id]


def test_the_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write_bundle(tmp_path / "b")
    seen: list[str] = []
    changed = threading.Event()

    def on_revision(revision: Revision) -> None:
        seen.append(threading.current_thread().name)
        changed.set()
        raise ValueError("a callback that fails does not end the watch")

    with Watcher(DirectorySource(bundle), None, on_revision, lambda _: None, interval=0.01) as watcher:
        assert changed.wait(10)
        changed.clear()
        overwrite(bundle, OTHER)
        assert changed.wait(10)
        with pytest.raises(RuntimeError, match="started once"):
            watcher.start()
    assert seen == ["authz-policy-watch"] * 2
    assert "the last good revision stays in force" in caplog.text
    Watcher(DirectorySource(bundle), None, on_revision, lambda _: None).stop()
