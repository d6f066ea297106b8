"""Check: what is found, where it is said to be, and that nothing makes it stumble."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from authz.admin.check import check
from authz.admin.findings import CODES, Severity
from authz.cli import main
from tests.bundle import CATALOGUE, MODEL, POLICY, write_bundle

ROOT = Path(__file__).parents[2]
ENDING = MODEL.replace("obj, act, eft\n", "obj, act, eft, until\n").rstrip() + " && validUntil(p.until)\n"
NOW = 1_780_000_000.0  # 2026-05-28T20:26:40Z
TESTS = "callers: {a: {system: [reader, writer]}}\ntests: {t: {expect: {a: no_opinion}}}\n"


def codes(folder: Path, policy: str, *, model: str = MODEL, catalogue: str = CATALOGUE) -> list[tuple[str, int]]:
    write_bundle(folder, policy, model=model, catalogue=catalogue)
    (folder / "tests.yaml").write_text(TESTS)
    found = check(folder, now=NOW).findings
    return [(each.code, each.place.line) for each in found if each.severity is not Severity.NOTE and not each.waived]


BASE = "p, role:reader, *, *, read, allow\np, role:writer, *, *, write, allow\n"
DUBIOUS = {
    "clean": (BASE, []),
    "covered by a wider namespace": (BASE + "p, role:reader, shop, *, read, allow\n", [("AZ202", 3)]),
    "covered by a wider method": (BASE + "p, role:reader, *, /shop.Orders/Get, read, allow\n", [("AZ202", 3)]),
    "covered by every access": (
        "p, role:reader, shop, *, *, allow\np, role:reader, shop, *, read, allow\n",
        [("AZ202", 2)],
    ),
    "covered through a role": (
        BASE + "g, role:writer, role:reader\np, role:writer, shop, *, read, allow\n",
        [("AZ202", 4)],
    ),
    "covered by everyone": (
        BASE + "p, role:everyone, x, *, read, allow\np, role:reader, x, *, read, allow\n",
        [("AZ202", 4)],
    ),
    "covered by a group": (
        "p, role:reader, x, api:g, *, allow\np, role:reader, x, /shop.Orders/Get, *, allow\n"
        "g2, /shop.Orders/Get, api:g\n",
        [("AZ202", 2)],
    ),
    "not covered by half": (BASE + "p, role:reader, shop, *, *, allow\n", []),
    "overruled": (BASE + "p, role:reader, shop, *, write, allow\np, role:everyone, s*, *, *, deny\n", [("AZ203", 3)]),
    "overruled through a role": (
        BASE + "p, role:writer, shop, *, write, deny\ng, role:lead, role:writer\np, role:lead, shop, *, write, allow\n",
        [("AZ203", 5), ("AZ206", 5)],
    ),
    "a denial twice": (
        BASE + "p, role:reader, shop, *, *, deny\np, role:reader, shop, *, read, deny\n",
        [("AZ202", 4)],
    ),
    "a denial of what nobody asks": (BASE + "p, role:reader, shop, /shop.Orders/Regions, *, deny\n", [("AZ201", 3)]),
    "an access that the method has not": (BASE + "p, role:reader, *, /shop.Orders/Get, write, allow\n", [("AZ201", 3)]),
    "everything": (BASE + "p, role:reader, *, *, *, allow\n", [("AZ202", 1), ("AZ204", 3)]),
    "everyone everywhere": (BASE + "p, role:everyone, s*, /shop.Orders/Get, *, allow\n", [("AZ204", 3)]),
    "everyone writes": (BASE + "p, role:authenticated, shop, *, write, allow\n", [("AZ204", 3)]),
    "nobody": (BASE + "p, role:raeder, shop, *, admin, allow\n", [("AZ206", 3)]),
    "waived": (BASE + "# waive AZ202: said twice on purpose\np, role:reader, shop, *, read, allow\n", []),
    "two waived at once": (BASE + "# waive AZ204, AZ206: for emergencies\np, role:glass, *, *, *, allow\n", []),
    "a waiver without a reason": (
        BASE + "# waive AZ202\np, role:reader, shop, *, read, allow\n",
        [("AZ210", 3), ("AZ202", 4)],
    ),
    "a waiver for nothing": (BASE + "# waive AZ202: why\np, role:writer, shop, *, admin, allow\n", [("AZ210", 3)]),
    "a waiver at the end": (BASE + "# waive AZ202: why\n", [("AZ210", 3)]),
    "an error is not waived": ("# waive AZ106: why\np, role:reader, *, *, raed, allow\n", [("AZ106", 2)]),
    "a warning of the loader": (BASE + "g2, /shop.Orders/Get, api:unused\n", [("AZ200", 3)]),
}


@pytest.mark.parametrize("name", DUBIOUS)
def test_what_is_dubious(name: str, tmp_path: Path) -> None:
    policy, expected = DUBIOUS[name]
    assert sorted(codes(tmp_path, policy)) == sorted(expected)


def test_rules_that_end(tmp_path: Path) -> None:
    policy = (
        "p, role:reader, *, *, read, allow, never\n"
        "p, role:writer, a, *, write, allow, 2026-05-28T20:00:00Z\n"
        "p, role:writer, b, *, write, allow, 2026-05-29T20:00:00Z\n"
        "p, role:writer, c, *, write, allow, 2027-05-29T20:00:00Z\n"
        "p, role:reader, d, *, read, allow, 2027-05-29T20:00:00Z\n"
    )
    assert sorted(codes(tmp_path, policy, model=ENDING)) == [("AZ202", 5), ("AZ208", 2)]
    notes = [each for each in check(tmp_path, now=NOW).findings if each.code == "AZ207"]
    assert [(each.place.line, each.message) for each in notes] == [
        (3, "this rule ends in 23 hours, at 2026-05-29T20:00:00Z")
    ]
    assert codes(tmp_path, "p, role:reader, *, *, read, allow, soon\n", model=ENDING) == [("AZ106", 1)]


def test_a_method_that_no_rule_allows_is_a_note(tmp_path: Path) -> None:
    write_bundle(tmp_path, BASE + "p, role:writer, shop, /shop.Orders/*, *, allow\n")
    found = [each for each in check(tmp_path).findings if each.code == "AZ205"]
    assert [each.message for each in found] == ["no rule allows `/shop.Internal/*` to anybody"]


def test_a_model_that_lint_cannot_read_is_a_warning_and_can_be_waived(tmp_path: Path) -> None:
    """Whoever reviews the policy has to know that nobody has looked at its rules."""
    model = MODEL.replace("keyMatch(r.dom, p.dom)", "regexMatch(r.dom, p.dom)")
    policy = "p, role:reader, ^shop$, *, read, allow\n"
    assert codes(tmp_path, policy, model=model) == [("AZ211", 15)]
    assert main(["policy", "check", str(tmp_path)]) == 3
    waived = model.replace("m = ", "# waive AZ211: namespaces are named by pattern here\nm = ")
    assert codes(tmp_path, policy, model=waived) == []
    assert codes(tmp_path, BASE, model=waived.replace("regexMatch", "keyMatch")) == [("AZ210", 15)]


def test_a_user_whom_nobody_can_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A denial of such a user denies nothing. No key of the configuration need be at hand to see that."""
    policy = BASE + "p, user:mallory, *, *, *, deny\np, user:corp:eve, *, *, *, deny\n"
    policy += "g, user:corq:x, role:reader\ng, user:spiffe://a/b, role:reader\n"
    assert codes(tmp_path, policy) == []
    (tmp_path / "authz.yaml").write_text(
        "authn:\n  issuers: [{name: corp, keys: {jwks_file: absent}}]\n  mtls: [{name: m, prefix: 'spiffe:'}]\n"
    )
    found = check(tmp_path, now=NOW, config=tmp_path / "authz.yaml").warnings
    assert [(each.code, each.place.line) for each in found] == [("AZ213", 3), ("AZ213", 5)]
    assert found[0].message == "no issuer of the configuration can prove `user:mallory`"
    assert found[0].remedy.endswith("with one of the prefixes `corp:`, `spiffe:`")
    assert main(["policy", "check", str(tmp_path), "--config", str(tmp_path / "authz.yaml")]) == 3
    assert "AZ213" in capsys.readouterr().out
    assert main(["policy", "check", str(tmp_path), "--config", str(tmp_path / "absent")]) == 4


def test_tests_that_cannot_be_read_are_not_tests_that_are_not_there(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "tests.yaml").symlink_to("/nonexistent/tests.yaml")
    assert [(each.code, each.message) for each in check(tmp_path).errors] == [
        ("AZ112", "cannot be read: No such file or directory")
    ]


def test_every_code_has_its_section() -> None:
    page = (ROOT / "docs" / "findings.md").read_text()
    assert [line[4:9] for line in page.splitlines() if line.startswith("### AZ")] == list(CODES)


def test_everything_at_once(tmp_path: Path) -> None:
    """Also what can only be seen once the lines that are broken in another way are left out."""
    policy = "p, role:reader, *, *, raed, allow\np, role:a\np, nobody, *, *, read, allow\n"
    policy += "p; x\np, role:b, **, *, read, alow\n"
    found = codes(tmp_path, policy)
    assert [line for _, line in found] == [1, 2, 3, 4, 5, 5]


SWALLOWED = {
    "a byte order mark": ("\ufeff" + POLICY, 1),
    "another type": (POLICY + "P, role:x, *, *, read, allow\n", 4),
    "semicolons": (POLICY + "p; role:x; *; *; read; allow\n", 4),
    "tabs": (POLICY + "p\trole:x\t*\t*\tread\tallow\n", 4),
    "a merge conflict": (POLICY + "<<<<<<< HEAD\n", 4),
    "an effect in capitals": (POLICY + "p, role:x, *, *, read, Deny\n", 4),
    "an effect with a typo": (POLICY + "p, role:x, *, *, read, dney\n", 4),
    "a comment behind a rule": (POLICY + "p, role:x, *, *, read, deny # why\n", 4),
    "the same line twice": (POLICY + "p, role:reader, *, *, read, allow\n", 4),
    "too few fields": (POLICY + "p, role:x, *, read, allow\n", 4),
    "too many fields": (POLICY + "p, role:x, *, *, read, allow, now\n", 4),
    "a circle": (POLICY + "g, role:reader, role:writer\n", 4),
    "a bare star inside": (POLICY + "p, role:x, sh*op, *, read, allow\n", 4),
    "an unprefixed subject": (POLICY + "p, admin, *, *, read, allow\n", 4),
    "a method nobody knows": (POLICY + "p, role:x, *, /shop.Orders/Gt, read, allow\n", 4),
    "a hard blank": (POLICY + "p, role:x,\u00a0*, *, read, allow\n", 4),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_what_casbin_swallows_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    policy, line = SWALLOWED[name]
    write_bundle(tmp_path, policy)
    errors = check(tmp_path).errors
    assert line in {each.place.line for each in errors}, errors


def test_g_lines_without_g_in_the_model(tmp_path: Path) -> None:
    model = MODEL.replace("[role_definition]\ng = _, _\ng2 = _, _\n\n", "")
    model = model.replace("g(r.sub, p.sub)", "r.sub == p.sub").replace("g2(r.obj, p.obj) || ", "")
    write_bundle(tmp_path, POLICY, model=model)
    assert {each.place.line for each in check(tmp_path).errors} == {3}


@pytest.mark.parametrize("bundle", ["default", "temporal"])
def test_mutations_of_good_bundles(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty of each bundle: whatever comes of a file, there is no traceback, and what is wrong has its line."""
    chance = random.Random(2026)
    source = ROOT / "policies" / bundle
    refused = 0
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        target = folder / chance.choice(["policy.csv", "policy.csv", "model.conf", "catalogue.yaml", "tests.yaml"])
        before = target.read_bytes()
        mutated = _mutate(before, chance)
        target.write_bytes(mutated)
        code = main(["policy", "check", str(folder)])
        printed = capsys.readouterr()
        assert code in (0, 3, 4)
        assert "Traceback" not in printed.out + printed.err
        report = check(folder)
        for each in (*report.errors, *report.warnings):
            text = Path(each.place.path)
            lines = text.read_bytes().count(b"\n") + 1 if text.is_file() else 0
            assert each.place.line <= lines, each
        if code == 4:
            refused += 1
            assert report.errors
            # only what is missing as a whole has no line
            whole = ("is empty", "is missing")
            assert all(each.place.line or each.message.endswith(whole) for each in report.errors), report.errors
        assert target.read_bytes() == mutated
        assert main(["policy", "test", str(folder)]) in (0, 3, 4)
        capsys.readouterr()
    assert refused >= 20


def _mutate(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    spot = chance.randrange(len(data))
    junk = chance.choice(
        [b"\xff", b"\x00", b",", b"*", b"#", b"\t", b'"', b";", b"\xef\xbb\xbf", b"(", b"{", b":", b"p, "]
    )
    kinds = (
        data[:spot],
        data[:spot] + junk + data[spot:],
        data[:spot] + data[spot + 1 :],
        b"\n".join([*lines[:at], *lines[at + 1 :]]),
        b"\n".join([*lines[:at], lines[at], *lines[at:]]),
        data.replace(b"allow", b"alow", 1),
        data.replace(b"role:", b"rule:", 1),
        data.replace(b", ", b" ", 1),
        data.replace(b"*", b"**", 1),
        data.swapcase(),
        b"<<<<<<< HEAD\n" + data,
        b"",
        chance.randbytes(200),
    )
    return chance.choice(kinds)
