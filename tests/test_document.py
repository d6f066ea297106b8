from __future__ import annotations

from pathlib import Path

import pytest

from authz.document import Section, did_you_mean, load, parse
from authz.errors import ConfigError

HERE = Path("/etc/authz/authz.yaml")


def read(text: str | bytes) -> Section:
    return parse(text.encode() if isinstance(text, str) else text, HERE, ConfigError)


REFUSED_WHOLE = [
    ("", "/etc/authz/authz.yaml: is empty"),
    ("- a\n- b\n", "authz.yaml:1:1: the file must be a mapping, not a list"),
    ("just words\n", "authz.yaml:1:1: the file must be a mapping, not text"),
    ("a: 1\na: 2\n", "authz.yaml:2:1: `a` is given twice, first on line 1; keep one of them"),
    ("a: &x 1\nb: *x\n", "authz.yaml:1:4: uses an anchor or alias; write the value out"),
    ("yes: 1\n", "authz.yaml:1:1: a key must be text, not a boolean; put it in quotes"),
    ("[1]: 1\n", "authz.yaml:1:1: a key must be text, not a list"),
    ("a: [1\nb: 2\n", "authz.yaml:2:2: is not YAML"),
    ("a: 1\n---\nb: 2\n", "is not YAML: but found another document; write one document"),
    ("a: \x01\n", "is not YAML"),
    (b"a: 1\nb: \xff\n", "authz.yaml:2: is not UTF-8; save the file as UTF-8"),
    ("!!python/object:os.system {a: b}\n", "the file must be a mapping, not a mapping"),
    ("a: " + "[" * 101, "authz.yaml:1:103: is nested deeper than 100 levels; close a bracket"),
    ("a: " + "[" * 100_000 + "]" * 100_000, "authz.yaml:1:103: is nested deeper than 100 levels"),
    ("a: " + "{a: " * 100_000, "is nested deeper than 100 levels"),
    ("- " * 100_000, "is nested deeper than 100 levels"),
    ("a:\n\tb: c\n", "authz.yaml:2:1: is not YAML: found character that cannot start any token; indent with blanks"),
    (
        "a: @x\n",
        "authz.yaml:1:4: is not YAML: found character that cannot start any token; put the text that begins with `@`",
    ),
    ("a: b: c\n", "put a text with a colon in quotes"),
    ("a:b\nc: d\n", "write a blank behind the colon of a key"),
    ("a: [b\nc: d\n", "close the bracket"),
    ("a:\n  b: c\n  - d\n", "none beside a line with `-`"),
    ("a:\n- b\nc\n", "write `key: value`"),
    ("- a\nb: c\n", "begin each line of the list with `- `"),
    ("a: 'x\n", "close the quote"),
    ("a: !<x\n", "is not YAML: did not find the expected '>'"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_WHOLE)
def test_what_is_not_a_plain_mapping_is_refused_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)


REFUSED_VALUES = [
    ("text", "k: 12", {}, '1:4: `k` must be text, not a number; write "12" in quotes'),
    ("text", "k: no", {}, '1:4: `k` must be text, not a boolean; write "no" in quotes'),
    ("text", "k: 2026-01-01", {}, "`k` must be text, not a date"),
    ("text", "k:", {}, "`k` must be text, not nothing"),
    ("text", "k: ''", {}, "`k` is empty"),
    ("text", "k: [a]", {}, "`k` must be text, not a list"),
    ("text", "k: {a: b}", {}, "`k` must be text, not a mapping"),
    ("text", "k: !!binary aGk=", {}, "not the tag tag:yaml.org,2002:binary"),
    ("text", "other: x", {}, "1:1: `k` is missing; add `k:` to the file"),
    ("texts", "k: a", {}, "`k` must be a list, not text; write `k: [a]`"),
    ("texts", "k: []", {}, "`k` is an empty list; name at least one, or leave it out"),
    ("texts", "k: [a, b, a]", {}, "1:11: `a` is listed twice in `k`"),
    ("texts", "k: [a, 1]", {}, "1:8: `k` must be text, not a number"),
    ("integer", "k: 08", {"least": 0, "most": 9}, "`k` must be a whole number"),
    ("integer", "k: 0x10", {"least": 0, "most": 99}, "`k` cannot be 0x10; write a whole number from 0 to 99"),
    ("integer", "k: 1:30", {"least": 0, "most": 99}, "`k` cannot be 1:30"),
    ("integer", "k: 10", {"least": 0, "most": 9}, "`k` cannot be 10; write a whole number from 0 to 9"),
    ("integer", "k: '1'", {"least": 0, "most": 9}, "`k` must be a whole number, not text"),
    ("boolean", "k: yes", {}, "`k` must be a boolean; write `true` or `false`, without quotes"),
    ("boolean", "k: 'true'", {}, "`k` must be a boolean"),
    ("duration", "k: 30", {"most": 60}, "`k` must be a duration, not `30`; write a number and its unit"),
    ("duration", "k: [30s]", {"most": 60}, "`k` must be a duration, not a list"),
    ("duration", "k: 2m", {"most": 60}, "`k` cannot be 2m; write a duration from 0s to 60s"),
    ("duration", "k: -1s", {"most": 60}, "`k` must be a duration, not `-1s`"),
    ("choice", "k: jwtt", {"options": ("jwt", "mtls")}, "`k` cannot be `jwtt`; write one of: jwt, mtls"),
    ("file", 'k: "a\\0b"', {}, "`k` has a NUL character"),
    ("section", "k: text", {}, "`k` must be a mapping, not text"),
    ("section", "k: [a]", {}, "`k` must be a mapping, not a list; write `key: value` lines, without `- `"),
    ("text", "kk: a", {}, "1:1: `k` is missing"),
    ("sections", "k: {a: b}", {}, "`k` must be a list, not a mapping"),
    ("sections", "k: [a]", {}, "`k[0]` must be a mapping, not text"),
    ("files", "k: a.pem", {}, "`k` must be a list, not text; write `k: [a.pem]`"),
]


@pytest.mark.parametrize(("getter", "text", "options", "message"), REFUSED_VALUES)
def test_a_value_of_another_kind_is_refused_with_what_to_write(
    getter: str, text: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(read(text), getter)("k", **options)
    assert message in str(caught.value)


def test_values_are_read_by_kind() -> None:
    section = read(
        "t: text\nts: [a, b]\ni: -3\non_: true\noff_: false\nms: 500ms\ns: 1.5s\nm: 5m\nh: 2h\nd: 7d\n"
        "f: keys/a.pem\nfs: [a, /b]\nsub: {x: y}\nsubs: [{x: a}, {x: b}]\nc: jwt\n"
    )
    assert section.text("t") == "text"
    assert section.texts("ts") == ("a", "b")
    assert section.integer("i", least=-5, most=5) == -3
    assert section.boolean("on_") is True
    assert section.boolean("off_") is False
    durations = {"ms": 0.5, "s": 1.5, "m": 300.0, "h": 7200.0, "d": 604800.0}
    assert {k: section.duration(k, most=1e6) for k in durations} == durations
    assert section.file("f") == Path("/etc/authz/keys/a.pem")
    assert section.files("fs") == (Path("/etc/authz/a"), Path("/b"))
    assert section.section("sub").text("x") == "y"
    assert [s.text("x") for s in section.sections("subs")] == ["a", "b"]
    assert section.choice("c", ("jwt", "mtls")) == "jwt"
    assert "t" in section
    assert "zz" not in section
    assert list(section)[:2] == ["t", "ts"]
    section.close()


def test_an_absent_key_gives_the_default() -> None:
    section = read("a: b")
    assert section.text("k", None) is None
    assert section.texts("k", ()) == ()
    assert section.integer("k", 3, least=0, most=9) == 3
    assert section.boolean("k", False) is False
    assert section.duration("k", 1.0, most=9) == 1.0
    assert section.choice("k", ("x",), "x") == "x"
    assert section.file("k", None) is None
    assert section.files("k", ()) == ()
    assert section.section("k", None) is None
    assert section.sections("k", ()) == ()


def test_every_unknown_key_is_named_with_a_suggestion() -> None:
    section = read("outer:\n  isuer: x\n  zzzzzz: y\n").section("outer")
    section.text("issuer", None)
    with pytest.raises(ConfigError) as caught:
        section.close()
    assert [str(problem) for problem in caught.value.problems] == [
        "/etc/authz/authz.yaml:2:3: unknown key `outer.isuer`; did you mean `issuer`?",
        "/etc/authz/authz.yaml:3:3: unknown key `outer.zzzzzz`; known here: issuer",
    ]


def test_a_misspelled_key_is_named_where_the_right_one_is_missing() -> None:
    section = read("outer: {acess: read, other: x}\n").section("outer")
    section.text("other", None)
    with pytest.raises(ConfigError) as caught:
        section.text("access")
    where = "/etc/authz/authz.yaml:1:9: "
    assert str(caught.value) == f"{where}`outer.access` is missing; write `access` if that is what `acess` is to say"


def test_nesting_within_reason_is_read() -> None:
    assert read("a: " + "[" * 99 + "]" * 99 + "\n").place_of("a").column == 4


def test_the_places_of_values_and_the_errors_made_from_them() -> None:
    section = read("a:\n  b: c\n").section("a")
    assert str(section.place_of("b")) == "/etc/authz/authz.yaml:2:6"
    assert str(section.place_of("absent")) == "/etc/authz/authz.yaml:2:3"
    assert str(section.refuse("b", "is odd", "write d")) == "/etc/authz/authz.yaml:2:6: is odd; write d"


def test_a_file_that_cannot_be_read_or_is_too_large_is_an_error_of_the_asked_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load(tmp_path / "absent.yaml", ConfigError)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="is larger than 16777216 bytes"):
        load(large, ConfigError)
    good = tmp_path / "good.yaml"
    good.write_text("a: b\n")
    assert load(good, ConfigError).text("a") == "b"


def test_a_suggestion_needs_something_to_suggest() -> None:
    assert did_you_mean("x", []) == ""
    assert did_you_mean("methd", ["method", "access"]) == "did you mean `method`?"


def test_a_suggestion_is_not_far_fetched() -> None:
    assert did_you_mean("CancelOrder", ["GetOrder"]) == "known here: GetOrder"
    assert did_you_mean("/shop.v1.Orders/CancelOrder", ["/shop.v1.Orders/GetOrder"]).startswith("known here")
    names = ["/shop.v1.Orders/GetOrder", "/shop.v1.Orders/ListOrders", "/shop.v1.Orders/CancelOrder"]
    assert did_you_mean("/shop.v1.Orders/CancleOrder", names) == "did you mean `/shop.v1.Orders/CancelOrder`?"
    assert did_you_mean("/shop.v1.Order/GetOrder", names) == "did you mean `/shop.v1.Orders/GetOrder`?"
    assert did_you_mean("subject", ["sub", "agent"]) == "did you mean `sub`?"
    assert did_you_mean("/shop.v1.Order/", names).startswith("did you mean `/shop.v1.Orders/")
