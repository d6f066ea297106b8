"""The store: what is put in force, what is not, and that nothing is half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.admin.sign import new_key, sign
from authz.admin.store import CURRENT, HISTORY, history, in_force, promote, rollback
from authz.admin.test import TESTS
from authz.errors import PolicyError
from authz.policy.load import load_bundle
from tests.bundle import POLICY, write_bundle

TABLE = "callers: {r: {system: [reader]}, w: {system: [writer]}}\n"
TABLE += "tests: {t: {namespaces: [shop], methods: [read], expect: {r: allow, w: allow}}}\n"


def bundle(folder: Path, policy: str = POLICY, table: str = TABLE) -> Path:
    write_bundle(folder, policy)
    (folder / TESTS).write_text(table)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    (folder / "revisions").mkdir(parents=True)
    return folder


def test_what_is_in_force_is_the_bundle(store: Path, tmp_path: Path) -> None:
    source = bundle(tmp_path / "b")
    (source / "policy.d").mkdir()
    (source / "policy.d" / "more.csv").write_text("p, role:writer, *, *, admin, allow\n")
    step = promote(source, store, note="first")
    assert in_force(store) == step.revision == load_bundle(source).id
    assert load_bundle(store / CURRENT).id == step.revision
    assert (store / CURRENT / TESTS).read_text() == TABLE
    assert [(each.action, each.previous, each.note) for each in history(store)] == [("promote", "", "first")]


REFUSED = {
    "an error": ("p, role:reader\n", TABLE, "AZ102"),
    "a warning": (POLICY + "p, role:reader, *, *, *, allow\n", TABLE, "AZ204"),
    "a test that fails": (POLICY, TABLE.replace("r: allow", "r: deny"), "must be deny, is allow"),
    "no tests": (POLICY, "", "is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_fit_changes_nothing(name: str, store: Path, tmp_path: Path) -> None:
    policy, table, why = REFUSED[name]
    promote(bundle(tmp_path / "good"), store)
    before = in_force(store), history(store), sorted(store.rglob("*"))
    with pytest.raises(PolicyError, match=why):
        promote(bundle(tmp_path / "bad", policy, table), store)
    assert (in_force(store), history(store), sorted(store.rglob("*"))) == before


def test_untested_if_somebody_says_so(store: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    with pytest.raises(PolicyError, match=r"tests\.yaml: cannot be read"):
        promote(tmp_path / "b", store)
    assert promote(tmp_path / "b", store, tested=False).revision


def test_a_signature_can_be_required(store: Path, tmp_path: Path) -> None:
    source = bundle(tmp_path / "b")
    private, public = new_key(tmp_path / "k.pem")
    with pytest.raises(PolicyError, match="is not signed"):
        promote(source, store, keys=(public,))
    sign(source, private)
    promote(source, store, keys=(public,))
    assert (store / CURRENT / "bundle.sig").exists()


def test_the_same_revision_again_brings_its_newer_tests(store: Path, tmp_path: Path) -> None:
    source = bundle(tmp_path / "b")
    first = promote(source, store).revision
    (source / TESTS).write_text(TABLE + "# more\n")
    assert promote(source, store).revision == first
    assert (store / CURRENT / TESTS).read_text().endswith("# more\n")


def test_back_and_forth(store: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no earlier revision"):
        rollback(store)
    ids = [
        promote(bundle(tmp_path / str(n), POLICY + f"p, role:writer, ns{n}, *, admin, allow\n"), store).revision
        for n in range(3)
    ]
    assert rollback(store).revision == ids[1]
    assert rollback(store, ids[0][:10], note="further").revision == ids[0]
    assert in_force(store) == ids[0]
    assert [each.action for each in history(store)] == ["promote"] * 3 + ["rollback"] * 2
    for beginning in ("", "zz"):
        if beginning:
            with pytest.raises(PolicyError, match="has 0 revisions whose id begins with `zz`"):
                rollback(store, beginning)


def test_a_revision_that_was_tampered_with_does_not_come_back(store: Path, tmp_path: Path) -> None:
    first = promote(bundle(tmp_path / "a"), store).revision
    promote(bundle(tmp_path / "b", POLICY + "p, role:writer, x, *, admin, allow\n"), store)
    with (store / "revisions" / first / "policy.csv").open("a") as file:
        file.write("p, role:mallory, *, *, admin, allow\n")
    with pytest.raises(PolicyError, match="was changed since it was put there"):
        rollback(store)
    assert in_force(store) != first


def test_a_history_that_cannot_be_read(store: Path) -> None:
    (store / HISTORY).write_text("{}\nnonsense\n")
    with pytest.raises(PolicyError, match=r"history\.jsonl:1: is no step of a history"):
        history(store)


def test_a_store_whose_history_cannot_be_written(store: Path, tmp_path: Path) -> None:
    (store / HISTORY).mkdir()
    with pytest.raises(PolicyError):
        promote(bundle(tmp_path / "b"), store)
    assert in_force(store) == ""
